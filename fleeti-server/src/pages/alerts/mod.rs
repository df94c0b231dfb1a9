//! Pages of alerts: the list, one alert with its history, rules, silences and
//! receivers of e-mail.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `form` (reads forms).

mod form;
mod handler;
mod view;

pub use self::handler::{
    acknowledge, add_receiver, add_silence, disable_receiver, enable_receiver, list,
    remove_receiver, remove_silence, reset_rule, set_rule, show, show_receiver, test_receiver,
};
pub use self::view::{AlertLine, severity};
