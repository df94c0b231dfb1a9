//! Proves that a key is in a known TPM: the TPM's attestation key certified it (TPM2_Certify; Part
//! 3, 18.2), for one purpose and over one TLS connection.
//!
//! The connection makes a certification fresh: the value that both ends derive from it (RFC 9266,
//! `tls-exporter`) is unique to it. A certification from another connection cannot be replayed, and
//! the server need not remember a nonce.

use crate::tpm::Hash;
use crate::tpm::Unreadable;
use crate::tpm::attest::{self, Attest, Statement};
use crate::tpm::public::{AttestationKey, DeviceKey, Public, Unfit};
use fleeti_core::id::DeviceId;

/// Prefix of the data that a certification signs, so that no other signature of the key is taken
/// for one.
const CONTEXT: &[u8] = b"fleeti-device-key-v1\0";
/// The label of the value that both ends derive from a connection (RFC 9266, 4).
pub const CHANNEL_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Length of that value in bytes.
pub const CHANNEL_BYTES: usize = 32;

/// The purpose of a certified key, and the connection that it is sent over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    subject: String,
    channel: [u8; CHANNEL_BYTES],
}

impl Purpose {
    /// Enrollment with the token of this digest (SHA-256, hexadecimal).
    #[must_use]
    pub fn enrollment(token_sha256: &str, channel: [u8; CHANNEL_BYTES]) -> Self {
        Self { subject: format!("token:{token_sha256}"), channel }
    }

    /// Renewal of this device's certificate.
    #[must_use]
    pub fn renewal(device: &DeviceId, channel: [u8; CHANNEL_BYTES]) -> Self {
        Self { subject: format!("device:{device}"), channel }
    }

    /// The data that the TPM must include when it certifies the key with this SubjectPublicKeyInfo:
    /// 32 bytes, because a TPM with only SHA-256 accepts 34 at most.
    #[must_use]
    pub fn qualifying_data(&self, spki_der: &[u8]) -> Vec<u8> {
        let key = Hash::Sha256.digest(&[spki_der]);
        Hash::Sha256.digest(&[CONTEXT, &self.channel, &key, self.subject.as_bytes()])
    }
}

/// What a device sends.
#[derive(Debug, Clone, Copy)]
pub struct Certification<'a> {
    /// TPMT_PUBLIC of the key.
    pub key: &'a [u8],
    /// TPMS_ATTEST.
    pub certification: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
}

/// Why a key is not proved to be in the TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The key cannot be parsed.
    #[error("the device key: {0}")]
    Key(#[from] Unreadable),
    /// The key may leave the TPM, or is for another use.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The key is not the one to certify.
    #[error("the key in the TPM is not the key of the request")]
    OtherKey,
    /// The attestation key did not sign the certification.
    #[error("the certification is not signed by this TPM: {0}")]
    Certification(#[from] attest::Refused),
    /// The certification covers other data.
    #[error("the certification is for another purpose, or was made over another connection")]
    Purpose,
    /// The certification is about another key.
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

/// Verifies that the key with this SubjectPublicKeyInfo is in the TPM of `attestation_key` and
/// cannot leave it.
///
/// # Errors
/// [`Refused`] for the first check that fails.
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
