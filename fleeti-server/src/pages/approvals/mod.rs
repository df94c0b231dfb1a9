//! Pages of acts that need a second person: the inbox, one act, and the policy.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `form` (reads forms).

mod form;
mod handler;
mod view;

pub use self::handler::{approve, collect, deny, list, set_policy, show};
