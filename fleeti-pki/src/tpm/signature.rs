//! Signatures of keys in a TPM (TPMT_SIGNATURE; Part 2, 11.3.4).

use super::public::{Curve, ECDSA, padded};
use super::{Hash, Reader, Unreadable};

const WHAT: &str = "TPMT_SIGNATURE";

/// An ECDSA signature. No other scheme is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    hash: Hash,
    r: Vec<u8>,
    s: Vec<u8>,
}

/// Why a signature does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSigned {
    /// The hash is not that of the key.
    #[error("its hash is not the key's")]
    Hash,
    /// It does not verify.
    #[error("it does not verify")]
    Wrong,
}

impl Signature {
    /// Parses a TPMT_SIGNATURE.
    ///
    /// # Errors
    /// [`Unreadable`] for anything but a complete ECDSA signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(WHAT, bytes);
        match reader.u16()? {
            ECDSA => {}
            other => return reader.unknown("sigAlg", other.into()),
        }
        let id = reader.u16()?;
        let Some(hash) = Hash::from_id(id) else { return reader.unknown("hash", id.into()) };
        let (r, s) = (reader.sized(48)?.to_vec(), reader.sized(48)?.to_vec());
        reader.end()?;
        Ok(Self { hash, r, s })
    }

    /// The encoding of TLS and X.509: Ecdsa-Sig-Value, DER (RFC 3279, 2.2.3).
    ///
    /// # Errors
    /// [`Unreadable::Wrong`] for numbers out of range.
    pub fn to_der(&self) -> Result<Vec<u8>, Unreadable> {
        let wrong = || Unreadable::Wrong { what: WHAT, detail: "r or s is out of range for P-256" };
        let fixed =
            |n: &[u8]| -> Option<[u8; 32]> { padded(n, 32).collect::<Vec<_>>().try_into().ok() };
        let (r, s) = (fixed(&self.r).ok_or_else(wrong)?, fixed(&self.s).ok_or_else(wrong)?);
        let signature = p256::ecdsa::Signature::from_scalars(r, s).map_err(|_| wrong())?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    /// Verifies that the key at `point` on `curve` signed `message`.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn verify(&self, curve: Curve, point: &[u8], message: &[u8]) -> Result<(), NotSigned> {
        if self.hash != curve.hash() {
            return Err(NotSigned::Hash);
        }
        let length = curve.length();
        // A number that is too long makes the result too long, which is refused.
        let fixed: Vec<u8> = padded(&self.r, length).chain(padded(&self.s, length)).collect();
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(curve.verification(), point);
        key.verify(message, &fixed).map_err(|_| NotSigned::Wrong)
    }
}
