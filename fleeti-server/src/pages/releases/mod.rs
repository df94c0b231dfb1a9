//! Pages of releases.

mod handler;
pub mod view;

pub use self::handler::{file, list, revoke, show};
