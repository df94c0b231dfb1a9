//! Pages of rollouts.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show) · `waves` (its waves) · `form`
//! (what an operator fills in) · `phases` (phases in words).

mod form;
mod handler;
mod phases;
pub mod view;
mod waves;

pub use self::handler::{abort, list, next, pause, resume, show, start};
