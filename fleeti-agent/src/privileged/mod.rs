//! The helper: a root process with fixed verbs on a Unix socket that only the daemon may open.
//!
//! It does not trust the daemon: it verifies the manifest itself, downloads only from the loopback
//! proxy, and arms only what the manifest that it staged names.

mod caller;
pub mod collect;
mod dmi;
mod first_reboot;
pub mod measured;
mod protocol;
pub mod reset;
pub mod secrets;
mod server;
pub mod staging;

pub use caller::{Armed, Helper};
pub use protocol::{
    Collect, MESSAGE_MAX, Measured, Occasion, PreviousRequest, Request, Response, StageRequest,
};
pub use server::serve;
