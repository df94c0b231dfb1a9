//! The OpenPGP signature that systemd-sysupdate checks: version 4, ECDSA over P-256, detached, binary.

use crate::{Error, OrMalformed};
use pgp::composed::{DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::{Password, Timestamp};
use zeroize::Zeroizing;

/// Keys are dated back to this second (2024-01-01): a device whose clock is behind refuses a key that
/// was made in its future.
pub const CREATED_S: u32 = 1_704_067_200;

/// A key that signs `SHA256SUMS`.
#[derive(Debug)]
pub struct OpenPgpKey(SignedSecretKey);

impl OpenPgpKey {
    /// A new key.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn generate() -> Result<Self, Error> {
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::ECDSA(ECCCurve::P256))
            .can_sign(true)
            .can_certify(true)
            .created_at(Timestamp::from_secs(CREATED_S))
            .primary_user_id("Fleeti releases".into())
            .build()
            .or_backend("making an OpenPGP key")?;
        params.generate(rand_08::rngs::OsRng).or_backend("making an OpenPGP key").map(Self)
    }

    /// The secret key, to be sealed.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.0.to_bytes().or_backend("writing an OpenPGP key").map(Zeroizing::new)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        use pgp::composed::Deserializable;
        SignedSecretKey::from_bytes(bytes).or_malformed("OpenPGP key").map(Self)
    }

    /// A binary keyring with the public half, as systemd reads it.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn keyring(&self) -> Result<Vec<u8>, Error> {
        SignedPublicKey::from(self.0.clone()).to_bytes().or_backend("writing a keyring")
    }

    /// The content of `SHA256SUMS.gpg`.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let key = &self.0.primary_key;
        let signature = DetachedSignature::sign_binary_data(rand_08::rngs::OsRng, key, &Password::empty(), HashAlgorithm::Sha256, message);
        signature.or_backend("signing")?.to_bytes().or_backend("writing a signature")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// gpgv is what the world verifies with.
    fn gpgv(key: &OpenPgpKey, message: &[u8], signature: &[u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("ring.gpg"), key.keyring().unwrap()).unwrap();
        std::fs::write(path("m"), message).unwrap();
        std::fs::write(path("m.gpg"), signature).unwrap();
        let mut gpgv = Command::new("gpgv");
        gpgv.arg("--keyring").arg(path("ring.gpg")).arg(path("m.gpg")).arg(path("m")).stderr(Stdio::null());
        gpgv.status().unwrap().success()
    }

    #[test]
    fn gpgv_accepts_the_signature_and_refuses_a_changed_message() {
        let key = OpenPgpKey::from_bytes(&OpenPgpKey::generate().unwrap().to_bytes().unwrap()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(gpgv(&key, b"message", &signature));
        assert!(!gpgv(&key, b"messagf", &signature));
        assert!(!gpgv(&OpenPgpKey::generate().unwrap(), b"message", &signature));
    }
}
