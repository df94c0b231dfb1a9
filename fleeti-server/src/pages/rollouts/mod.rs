//! Pages of rollouts.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show) · `waves` (its waves) · `plan`
//! (what a rollout would come to) · `form` (what an operator fills in) · `phases` (phases in words).

mod form;
mod handler;
pub mod phases;
mod plan;
pub mod view;
mod waves;

pub use self::handler::{
    abort, list, next, pause, pause_all, plan, resume, roll_back, show, start,
};
