//! Attestation of devices by their TPMs (RFC 9334): the server is the Verifier, and its policies are
//! the Relying Party's.
//!
//! Code map: [`challenge`] (asks for evidence, and shows what a device measured) · [`evidence`]
//! (verifies, appraises and stores it) · [`tpm`] (binds TPMs to devices) · [`manufacturers`] (trusted
//! TPM manufacturers) · [`policy`] (changes of policies) · [`eligibility`] (what a policy permits).

pub mod challenge;
pub mod eligibility;
pub mod evidence;
pub mod manufacturers;
pub(crate) mod parse;
pub(crate) mod policies;
pub mod policy;
pub(crate) mod proving;
pub(crate) mod reference;
pub(crate) mod state;
pub mod tpm;
