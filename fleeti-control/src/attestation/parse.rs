//! Fields that devices send, as base64 or hexadecimal.

use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::wire::problem::Code;
use fleeti_pki::tpm::public::{AttestationKey, Public};

pub(crate) fn invalid(what: &str, e: impl std::fmt::Display) -> Error {
    Error::new(Code::Invalid, format!("{what}: {e}"))
}

pub(crate) fn decoded(what: &str, text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|e| invalid(what, e))
}

/// Parses the attestation key of a known TPM: base64 of its TPMT_PUBLIC.
pub(crate) fn attestation_key(text: &str) -> Result<AttestationKey, Error> {
    let public = Public::parse(&decoded("attestation_key", text)?).map_err(Error::internal)?;
    AttestationKey::new(public).map_err(Error::internal)
}
