//! Encryption to a person's OpenPGP key (RFC 9580): what is encrypted here, `gpg --decrypt` reads,
//! also with a key on a card. No program of Fleeti has the private half.

use crate::{Error, OrMalformed};
use pgp::composed::{Deserializable, MessageBuilder, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::SignatureType;
use pgp::types::{CompressionAlgorithm, KeyDetails};

/// Longest armored key, bytes.
pub const ARMORED_MAX: usize = 16 << 10;

/// A public key that can be encrypted to.
#[derive(Debug, Clone)]
pub struct Recipient {
    subkey: SignedPublicSubKey,
    fingerprint: String,
}

impl Recipient {
    /// Reads an armored public key with a subkey for encryption.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Refused`] for a private key, several keys, a revoked key, a
    /// wrong signature, or a key that nothing can be encrypted to.
    pub fn from_armored(text: &str) -> Result<Self, Error> {
        if text.len() > ARMORED_MAX {
            return Err(Error::Refused("the OpenPGP key is longer than 16 KiB"));
        }
        if text.contains("PRIVATE KEY") {
            return Err(Error::Refused("this is a private OpenPGP key, not a public one"));
        }
        let mut keys = SignedPublicKey::from_string_many(text).or_malformed("OpenPGP key")?.0;
        let key = keys.next().ok_or(Error::Refused("there is no OpenPGP key"))?;
        let key = key.or_malformed("OpenPGP key")?;
        if keys.next().is_some() {
            return Err(Error::Refused("there are several OpenPGP keys"));
        }
        key.verify_bindings().or_malformed("OpenPGP key")?;
        if !key.details.revocation_signatures.is_empty() {
            return Err(Error::Refused("the OpenPGP key is revoked"));
        }
        let fingerprint = key.fingerprint().to_string();
        let subkey = key.public_subkeys.into_iter().rfind(can_encrypt);
        let subkey =
            subkey.ok_or(Error::Refused("the OpenPGP key has no subkey for encryption"))?;
        Ok(Self { subkey, fingerprint })
    }

    /// The fingerprint of the key, hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Compresses and encrypts a file: a binary OpenPGP message.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn encrypt(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let made = || -> pgp::errors::Result<Vec<u8>> {
            let rng = || rand_08::rngs::OsRng;
            let mut message = MessageBuilder::from_bytes(name.to_owned(), bytes)
                .seipd_v1(rng(), SymmetricKeyAlgorithm::AES256);
            message.compression(CompressionAlgorithm::ZLIB);
            message.encrypt_to_key(rng(), &self.subkey)?;
            message.to_vec(rng())
        };
        made().or_backend("encrypting to an OpenPGP key")
    }
}

fn can_encrypt(subkey: &SignedPublicSubKey) -> bool {
    let is_revoked =
        subkey.signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
    let flags = subkey.signatures.iter().map(pgp::packet::Signature::key_flags);
    !is_revoked && flags.into_iter().any(|f| f.encrypt_comms() || f.encrypt_storage())
}
