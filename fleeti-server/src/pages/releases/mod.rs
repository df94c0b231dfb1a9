//! Pages of releases.

mod handler;
pub mod view;

pub use self::handler::{evidence, file, list, revoke, show};
