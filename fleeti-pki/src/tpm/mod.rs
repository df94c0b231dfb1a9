//! Parses and verifies what a TPM 2.0 attests and signs, in Rust only: the server needs no TPM
//! library.
//!
//! Sources: TCG "Trusted Platform Module Library", Part 1 (Architecture) and Part 2 (Structures),
//! revision 1.59; TCG "EK Credential Profile for TPM Family 2.0", version 2.5. All input comes from
//! a device and may be forged: every length is bounded, and trailing bytes and unlisted algorithms
//! are errors.
//!
//! [`public`] (keys and their names) · [`attest`] (quotes and certifications) · [`signature`] ·
//! [`credential`] (a secret for one key in one TPM) · [`endorsement`] (the TPM manufacturer) ·
//! [`files`] (certificates and CRLs that manufacturers publish).

pub mod attest;
pub mod credential;
pub mod endorsement;
pub mod files;
mod path;
pub mod public;
mod read;
pub mod signature;

use aws_lc_rs::{digest, hmac};
pub(crate) use read::Reader;

/// Why bytes are not a TPM structure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// The input ends too early.
    #[error("{what} ends too early")]
    Truncated {
        /// The structure.
        what: &'static str,
    },
    /// Bytes after the end.
    #[error("{length} bytes follow {what}")]
    Trailing {
        /// The structure.
        what: &'static str,
        /// Their number.
        length: usize,
    },
    /// A buffer that is too long.
    #[error("a buffer of {what} has {length} bytes, at most {max} are allowed")]
    TooLong {
        /// The structure.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The maximum.
        max: usize,
    },
    /// An unknown value.
    #[error("{field} of {what} has the unknown value {value:#x}")]
    Unknown {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The value.
        value: u32,
    },
    /// Another defect.
    #[error("{what}: {detail}")]
    Wrong {
        /// The structure.
        what: &'static str,
        /// What is wrong.
        detail: &'static str,
    },
}

/// A hash algorithm (TPM_ALG_ID; TCG "Algorithm Registry").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-1: parsed in event logs, never trusted.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The algorithm with this id.
    #[must_use]
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000b => Some(Self::Sha256),
            0x000c => Some(Self::Sha384),
            0x000d => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The algorithm's id.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of the concatenated `parts`.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = digest::Context::new(match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        });
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let key = hmac::Key::new(
            match self {
                Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                Self::Sha256 => hmac::HMAC_SHA256,
                Self::Sha384 => hmac::HMAC_SHA384,
                Self::Sha512 => hmac::HMAC_SHA512,
            },
            key,
        );
        let mut context = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().to_vec()
    }
}

/// A TPM2B: a 16-bit length and the bytes. `None` for more than 65,535 bytes.
pub(crate) fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok()?;
    Some([&length.to_be_bytes()[..], bytes].concat())
}
