//! Pages of rollouts.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show) · `phases` (phases in words).

mod handler;
mod phases;
pub mod view;

pub use self::handler::{abort, list, show, start};
