//! Pages of devices.
//!
//! Code map: `handler` (requests) · [`view`] (what the pages show) · [`attestation`] (the attestation
//! card).

pub mod attestation;
mod handler;
pub mod view;

pub use self::handler::{
    accept_firmware, forgive, list, pair, release_hold, request_evidence, revoke, show,
    show_recovery_key,
};
