//! That a key is in a TPM that is known: its attestation key certified it (TPM2_Certify; Part 3,
//! 18.2), for one purpose and over one TLS connection.
//!
//! The connection is what makes a certification fresh: what both ends derive of it (RFC 9266,
//! `tls-exporter`) is of no other connection, so nobody can send what was said over another one,
//! and the server need not remember a nonce.

use crate::tpm::Hash;
use crate::tpm::Unreadable;
use crate::tpm::attest::{self, Attest, Statement};
use crate::tpm::public::{AttestationKey, DeviceKey, Public, Unfit};
use fleeti_core::id::DeviceId;

/// Begins what a certification answers, so that no answer to anything else is one.
const CONTEXT: &[u8] = b"fleeti-device-key-v1\0";
/// The label of what both ends derive of a connection (RFC 9266, 4).
pub const CHANNEL_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Bytes of it.
pub const CHANNEL_BYTES: usize = 32;

/// What a key is certified for, and over which connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    subject: String,
    channel: [u8; CHANNEL_BYTES],
}

impl Purpose {
    /// To enroll with the token of this digest (SHA-256, hexadecimal).
    #[must_use]
    pub fn enrollment(token_sha256: &str, channel: [u8; CHANNEL_BYTES]) -> Self {
        Self { subject: format!("token:{token_sha256}"), channel }
    }

    /// For the next certificate of this device.
    #[must_use]
    pub fn renewal(device: &DeviceId, channel: [u8; CHANNEL_BYTES]) -> Self {
        Self { subject: format!("device:{device}"), channel }
    }

    /// What the TPM is to put into its certification of the key with this SubjectPublicKeyInfo: 32
    /// bytes, because a TPM with SHA-256 alone takes 34 at the most.
    #[must_use]
    pub fn qualifying_data(&self, spki_der: &[u8]) -> Vec<u8> {
        let key = Hash::Sha256.digest(&[spki_der]);
        Hash::Sha256.digest(&[CONTEXT, &self.channel, &key, self.subject.as_bytes()])
    }
}

/// What a device sent.
#[derive(Debug, Clone, Copy)]
pub struct Certification<'a> {
    /// TPMT_PUBLIC of the key.
    pub key: &'a [u8],
    /// TPMS_ATTEST.
    pub certification: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
}

/// Why a key is not known to be in the TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The key cannot be read.
    #[error("the device key: {0}")]
    Key(#[from] Unreadable),
    /// It may leave the TPM, or is for something else.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It is another key than the one that is to be certified.
    #[error("the key in the TPM is not the one of the request")]
    OtherKey,
    /// The statement is not the attestation key's.
    #[error("the certification is not this TPM's: {0}")]
    Certification(#[from] attest::Refused),
    /// It answers something else.
    #[error("the certification is for another purpose, or was made over another connection")]
    Purpose,
    /// It certifies another key.
    #[error("the certification is about another key")]
    Name,
}

impl Refused {
    /// A stable name of the check that failed.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "key-unreadable",
            Self::Unfit(_) => "key-unfit",
            Self::OtherKey => "key-other",
            Self::Certification(_) => "certification",
            Self::Purpose => "certification-purpose",
            Self::Name => "certification-name",
        }
    }
}

/// That the key with this SubjectPublicKeyInfo is in the TPM of `attestation_key`, for ever.
///
/// # Errors
/// [`Refused`], by the first check that does not hold.
pub fn verify(
    sent: &Certification<'_>,
    attestation_key: &AttestationKey,
    purpose: &Purpose,
    spki_der: &[u8],
) -> Result<(), Refused> {
    let key = DeviceKey::new(Public::parse(sent.key)?)?;
    if key.public().to_spki_der()? != spki_der {
        return Err(Refused::OtherKey);
    }
    let said = Attest::certification(sent.certification, sent.signature, attestation_key)?;
    if said.extra_data != purpose.qualifying_data(spki_der) {
        return Err(Refused::Purpose);
    }
    match said.statement {
        Statement::Certify { name } if name == key.public().name() => Ok(()),
        _ => Err(Refused::Name),
    }
}
