//! Pages of devices.
//!
//! Code map: `handler` (requests) · `form` (what forms send) · [`view`] (what the pages show) ·
//! [`attestation`] (the attestation card) · [`why`] (the gates of its update) ·
//! `timeline` (what happened to it).

pub mod attestation;
mod chart;
mod form;
mod handler;
mod past;
mod timeline;
pub mod view;
pub mod why;

pub use self::handler::{
    accept_firmware, change_all, describe, forgive, label, list, order_updates, pair, release_hold,
    remove_view, replace, request_evidence, revoke, save_view, show, show_recovery_key,
};
pub use self::timeline::show_timeline;
