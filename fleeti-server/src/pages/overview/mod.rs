//! The overview: what needs a person, what is in flight, and the devices in numbers.
//!
//! Code map: `handler` (requests) · `view` (what the page shows) · [`needs`] (what needs a person) ·
//! [`charts`] (devices in numbers).

pub mod charts;
mod handler;
mod needs;
mod view;

pub use self::handler::show;
