//! The overview: devices, rollouts, fleets, builds and releases.

mod handler;
mod view;

pub use self::handler::show;
