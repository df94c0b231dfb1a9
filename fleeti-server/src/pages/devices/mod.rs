//! Pages of devices.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show) · [`attestation`] (the attestation
//! card) · [`why`] (the gates of its update).

pub mod attestation;
mod handler;
pub mod view;
pub mod why;

pub use self::handler::{
    accept_firmware, forgive, list, order_updates, pair, release_hold, request_evidence, revoke,
    show, show_recovery_key,
};
