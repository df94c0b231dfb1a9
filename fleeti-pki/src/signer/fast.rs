//! The same keys and signatures in aws-lc, for the server, which signs and verifies thousands. A
//! test compares it with the Rust crates and with openssl.

use super::{Algorithm, Signer};
use crate::{Error, OrMalformed};
use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
};

/// Gathers the entropy for signatures. Call it at start: it takes as long as a hundred signatures,
/// which would delay the first one.
///
/// # Errors
/// [`Error::Refused`] if there is none.
pub fn gather_entropy() -> Result<(), Error> {
    SystemRandom::new()
        .fill(&mut [0])
        .map_err(|_| Error::Refused("this machine provides no random numbers"))
}

/// An elliptic-curve key in memory.
pub struct FastKey {
    pair: EcdsaKeyPair,
    algorithm: Algorithm,
    public_key_der: Vec<u8>,
}

impl std::fmt::Debug for FastKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FastKey({:?})", self.algorithm)
    }
}

impl FastKey {
    /// Parses PKCS#8 DER (RFC 5958).
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but a P-256 or P-384 key.
    pub fn from_pkcs8_der(bytes: &[u8]) -> Result<Self, Error> {
        let (pair, algorithm) =
            match EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, bytes) {
                Ok(pair) => (pair, Algorithm::P384),
                Err(_) => {
                    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes)
                        .or_malformed("private key (P-256 or P-384)")?;
                    (pair, Algorithm::P256)
                }
            };
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().or_malformed("public key")?;
        let public_key_der = public.as_ref().to_vec();
        Ok(Self { pair, algorithm, public_key_der })
    }
}

impl Signer for FastKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).or_backend("signing")?;
        Ok(signature.as_ref().to_vec())
    }
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        let kind = match self.algorithm {
            Algorithm::P384 => &aws_lc_rs::digest::SHA384,
            Algorithm::P256 | Algorithm::Rsa2048 | Algorithm::Ed25519 => &aws_lc_rs::digest::SHA256,
        };
        let digest = Digest::import_less_safe(digest, kind).or_backend("signing")?;
        Ok(self.pair.sign_digest(&digest).or_backend("signing")?.as_ref().to_vec())
    }
}

/// As [`super::verify`].
///
/// # Errors
/// [`Error::Refused`] if it does not verify; [`Error::Malformed`] for another kind of key.
pub fn verify(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    let algorithm = if super::check_form(public_key_der)? == Algorithm::P384 {
        &ECDSA_P384_SHA384_ASN1
    } else {
        &ECDSA_P256_SHA256_ASN1
    };
    let key = ParsedPublicKey::new(algorithm, public_key_der)
        .or_malformed("public key (P-256 or P-384)")?;
    key.verify_sig(message, signature).map_err(|_| super::NOT_BY_THIS_KEY)
}
