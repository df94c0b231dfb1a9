//! Pages of devices.
//!
//! Code map: `handler` (requests) · `form` (what forms send) · [`view`] (what the pages show) ·
//! [`attestation`] (the attestation card) · [`commands`] (commands) · [`why`] (the gates of its
//! update) · `timeline` (what happened to it).

pub mod attestation;
mod chart;
pub mod commands;
mod form;
mod handler;
mod past;
mod timeline;
pub mod view;
pub mod why;

pub use self::handler::{
    accept_firmware, cancel_command, change_all, command_result, describe, forgive, label, list,
    order_updates, pair, release_hold, remove_view, replace, request_evidence, revoke, save_view,
    send_command, show, show_recovery_key,
};
pub use self::timeline::show_timeline;
