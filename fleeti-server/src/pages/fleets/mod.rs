//! The page of a fleet: its appraisal policy and its secrets.
//!
//! Code map: `handler` (requests) · `view` (what the page shows) · `form` (reads the policy form).

mod form;
mod handler;
mod view;

pub use self::handler::{remove_secret, set_policy, set_secret, show};
