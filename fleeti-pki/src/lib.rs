//! Trust: keys, certificates, CRLs, release manifests, OpenPGP and Authenticode signatures, and
//! attestation.
//!
//! No I/O: functions take bytes and return bytes, and take the time as an argument. Keys are behind
//! [`signer::Signer`].
//!
//! ```
//! use fleeti_pki::{manifest, signer::{Algorithm, SoftKey}};
//! let key = SoftKey::generate(Algorithm::P384).unwrap();
//! let trusted = manifest::ReleaseKeys::new(vec![manifest::PublicKey::of(&key).unwrap()], 1).unwrap();
//! let refused = manifest::verify(b"{}", &[], &trusted).unwrap_err();
//! assert!(refused.to_string().contains("0 of 1"));
//! ```
//!
//! Code map: [`signer`] (keys) · [`sealed`] (keys at rest) · [`certificate`], [`csr`], [`crl`]
//! (X.509) · [`hierarchy`] (what `fleeti pki init` makes) · [`ceremony`] (an offline root that
//! several people open) · [`bundle`] (the intermediate CAs that count) · [`transition`] (from one
//! trust anchor to the next) · [`readmission`] (devices whose certificate has expired) ·
//! [`manifest`], [`boot_proof`] (signed by release keys) · [`approval`] (signatures of approvers) ·
//! [`openpgp`] (`SHA256SUMS.gpg`) · [`authenticode`] (UKI and boot loader) · [`uefi`] (firmware
//! variables) · [`pcr_policy`], [`pe`] (sealing to PCR 11) · [`boot_keys`] (Secure Boot keys of one
//! device), [`wrap`] (wrapped keys and secrets) · [`attestation`], [`tpm`], [`measured`]
//! (attestation) · [`webauthn`] (passkeys) · [`oidc`] (ID tokens) · [`audit`] (the audit log) · [`transparency`] (a log that
//! cannot be rewritten unnoticed).
//!
//! **Features**: `pkcs11` (keys in tokens). **Errors**: [`Error`] separates malformed input, a
//! refused signature or proof, and a backend that failed. **Stability**: Rust items may change with
//! each release before 1.0.

#![warn(missing_docs)]

pub mod approval;
pub mod attestation;
pub mod audit;
pub mod authenticode;
pub mod boot_keys;
pub mod boot_proof;
pub mod bundle;
pub mod ceremony;
pub mod certificate;
pub mod crl;
pub mod csr;
pub mod hierarchy;
pub mod manifest;
pub mod measured;
pub mod oidc;
pub mod openpgp;
pub mod pcr_policy;
pub mod pe;
mod pkcs7;
pub mod readmission;
pub mod recipient;
pub mod sealed;
pub mod signer;
pub mod tpm;
pub mod transition;
pub mod transparency;
pub mod uefi;
pub mod webauthn;
pub mod wrap;

use base64::Engine;

/// Standard base64 (RFC 4648, 4) of `bytes`.
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Why a cryptographic operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is malformed.
    #[error("{what} is malformed: {detail}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// Why the input is not that.
        detail: String,
    },
    /// A signature, proof of possession or passphrase is wrong.
    #[error("{0}")]
    Refused(&'static str),
    /// A backend failed.
    #[error("{what} failed: {detail}")]
    Backend {
        /// The operation.
        what: &'static str,
        /// The backend's message.
        detail: String,
    },
}

impl Error {
    fn malformed(what: &'static str) -> impl FnOnce(String) -> Self {
        move |detail| Self::Malformed { what, detail }
    }
}

/// Maps any library's error to [`Error::Malformed`].
pub(crate) trait OrMalformed<T> {
    fn or_malformed(self, what: &'static str) -> Result<T, Error>;
    fn or_backend(self, what: &'static str) -> Result<T, Error>;
}
impl<T, E: std::fmt::Display> OrMalformed<T> for Result<T, E> {
    fn or_malformed(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|e| Error::malformed(what)(e.to_string()))
    }
    fn or_backend(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|e| Error::Backend { what, detail: e.to_string() })
    }
}
