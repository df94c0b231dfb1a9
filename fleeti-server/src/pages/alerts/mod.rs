//! Pages of alerts: the list, one alert with its history, rules and silences.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `form` (reads forms).

mod form;
mod handler;
mod view;

pub use self::handler::{
    acknowledge, add_silence, list, remove_silence, reset_rule, set_rule, show,
};
pub use self::view::{AlertLine, severity};
