//! Attestation of devices by their TPMs (RFC 9334): the server is the Verifier, and its policies are
//! the Relying Party's.
//!
//! Code map: [`challenge`] (asks for evidence, and shows what a device measured) · [`evidence`]
//! (batches of evidence, and the consequences of their results) · `result` (verifies and appraises) ·
//! `facts`, `reference` (what evidence is compared with) · [`tpm`], `proving` (binds TPMs to devices) ·
//! [`manufacturers`] (trusted TPM manufacturers) · [`policy`] (changes of policies) ·
//! [`eligibility`] (what a policy permits) · `state`, `policies` (what this area keeps in memory).

pub mod challenge;
pub mod eligibility;
pub mod evidence;
mod facts;
pub mod manufacturers;
mod parse;
mod policies;
pub mod policy;
pub(crate) mod proving;
mod reference;
mod result;
pub(crate) mod state;
pub mod tpm;
