//! Pages of webhooks: the list, and one webhook with its deliveries.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show).

mod handler;
pub mod view;

pub use self::handler::{add, list, remove, show, test};
