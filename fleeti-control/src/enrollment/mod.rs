//! How devices get certificates.
//!
//! Code map: [`token`] (enrollment tokens; issues and renews certificates) · [`batch`] (enrolls with
//! a token) · [`tpm`] (enrolls with a token and a TPM) · [`pairing`] (enrolls with a code on a
//! screen) · [`renewal`] (when a certificate can be renewed) · [`readmission`] (renewals after
//! expiry, in bulk).
//!
//! The state machines are in [`fleeti_core::enrollment`]: the files here read the facts, call
//! `step`, and store what it returns.

pub mod batch;
pub(crate) mod code_limits;
pub mod pairing;
pub mod readmission;
pub mod renewal;
pub(crate) mod state;
pub mod token;
pub mod tpm;
