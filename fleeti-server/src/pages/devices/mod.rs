//! Pages of devices.
//!
//! Code map: `handler` (requests) · `form` (what forms send) · [`view`] (what the pages show) · [`attestation`] (the attestation
//! card).

pub mod attestation;
mod form;
mod handler;
pub mod view;

pub use self::handler::{
    accept_firmware, change_all, describe, forgive, label, list, pair, release_hold, remove_view,
    replace, request_evidence, revoke, save_view, show, show_recovery_key,
};
