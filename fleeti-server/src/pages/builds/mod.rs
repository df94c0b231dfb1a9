//! Pages of builds.

mod handler;
pub mod view;

pub use self::handler::{create, list, log, release, show};
