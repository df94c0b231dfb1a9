//! The OpenPGP signature that systemd-sysupdate verifies: version 4, ECDSA over P-256, detached,
//! binary.

use crate::signer::{Algorithm, Signer};
use crate::{Error, OrMalformed};
use fleeti_core::canonical::sha256_hex;
use pgp::composed::{Deserializable, DetachedSignature, SignedKeyDetails, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PacketHeader, PacketTrait, PublicKey, SignatureConfig, SignatureType, Subpacket,
    SubpacketData, UserId,
};
use pgp::ser::Serialize;
use pgp::types::{
    Fingerprint, KeyDetails, KeyId, KeyVersion, Mpi, PacketHeaderVersion, Password, PublicParams,
    SignatureBytes, SigningKey, Tag, Timestamp,
};

/// The creation time of every key (2024-01-01): a device whose clock is behind refuses a key from
/// its future.
pub const CREATED_S: u32 = 1_704_067_200;

/// OID of P-256 with its length, as RFC 6637, 11 writes it.
const P256_OID: [u8; 9] = [8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The keys of a binary keyring: the fingerprint, hexadecimal, and the key's part of the keyring. A
/// signature by any key of a keyring verifies, so a new key must be in the keyrings before it
/// signs.
///
/// # Errors
/// [`Error::Malformed`].
pub fn keys(keyring: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let read = SignedPublicKey::from_bytes_many(keyring).or_malformed("keyring")?;
    read.map(|key| {
        let key = key.or_malformed("keyring")?;
        Ok((key.fingerprint().to_string(), key.to_bytes().or_malformed("keyring")?))
    })
    .collect()
}

/// SHA-256, hexadecimal, of every binary keyring that contains some or all keys of these keyrings,
/// in their order: the keyrings that images may have that were built while keys were added and
/// removed.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Refused`] for more than five keys, or none.
pub fn choices(keyrings: &[Vec<u8>]) -> Result<Vec<String>, Error> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for keyring in keyrings {
        for (_, key) in keys(keyring)? {
            if !all.contains(&key) {
                all.push(key);
            }
        }
    }
    if all.is_empty() || all.len() > 5 {
        return Err(Error::Refused(
            "a transition can replace keyrings of one to five OpenPGP keys",
        ));
    }
    let choice = |bits: u32| {
        all.iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1)
            .flat_map(|(_, key)| key.clone())
            .collect::<Vec<_>>()
    };
    Ok((1..1 << all.len()).map(|bits| sha256_hex(&choice(bits))).collect())
}

/// Verifies a detached signature by any key of a binary keyring, like systemd-sysupdate.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Refused`] for a signature by another key.
pub fn verify(keyring: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    let signature = DetachedSignature::from_bytes(signature).or_malformed("OpenPGP signature")?;
    for key in SignedPublicKey::from_bytes_many(keyring).or_malformed("keyring")? {
        if signature.verify(&key.or_malformed("keyring")?, message).is_ok() {
            return Ok(());
        }
    }
    Err(Error::Refused("no key of the keyring made the OpenPGP signature"))
}

/// A key that signs `SHA256SUMS`; the private half may be in a token.
pub struct OpenPgpKey {
    signer: Box<dyn Signer>,
    public: PublicKey,
}

impl std::fmt::Debug for OpenPgpKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenPgpKey({})", self.public.fingerprint())
    }
}

impl OpenPgpKey {
    /// The OpenPGP key of a P-256 key. A P-256 key always gives the same OpenPGP key.
    ///
    /// # Errors
    /// [`Error::Refused`] for another kind of key; [`Error::Backend`].
    pub fn new(signer: Box<dyn Signer>) -> Result<Self, Error> {
        if signer.algorithm() != Algorithm::P256 {
            return Err(Error::Refused("an OpenPGP key must be a P-256 key"));
        }
        // The uncompressed point is the end of the SubjectPublicKeyInfo (RFC 5480, 2.2).
        let point = signer
            .public_key_der()
            .last_chunk::<65>()
            .ok_or(Error::Refused("the public key is too short"))?;
        let mut body = vec![4];
        body.extend(CREATED_S.to_be_bytes());
        body.push(u8::from(PublicKeyAlgorithm::ECDSA));
        body.extend(P256_OID);
        // An MPI starts with its length in bits; the point starts with 0x04, which has three.
        body.extend([0x02, 0x03]);
        body.extend(point);
        let length = u32::try_from(body.len()).or_malformed("public key")?;
        let header = PacketHeader::from_parts(
            PacketHeaderVersion::New,
            Tag::PublicKey,
            pgp::types::PacketLength::Fixed(length),
        );
        let public = PublicKey::try_from_reader(
            header.or_backend("creating an OpenPGP key")?,
            body.as_slice(),
        );
        Ok(Self { signer, public: public.or_backend("creating an OpenPGP key")? })
    }

    /// A binary keyring with the public half, in the format that systemd reads.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn keyring(&self) -> Result<Vec<u8>, Error> {
        let made = || -> pgp::errors::Result<Vec<u8>> {
            let user = UserId::from_str(PacketHeaderVersion::New, "Fleeti releases")?;
            let mut flags = KeyFlags::default();
            flags.set_sign(true);
            flags.set_certify(true);
            let mut config = SignatureConfig::v4(
                SignatureType::CertPositive,
                self.algorithm(),
                HashAlgorithm::Sha256,
            );
            config.hashed_subpackets = vec![
                Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(
                    CREATED_S,
                )))?,
                Subpacket::regular(SubpacketData::KeyFlags(flags))?,
                Subpacket::regular(SubpacketData::IssuerFingerprint(self.fingerprint()))?,
            ];
            config.unhashed_subpackets =
                vec![Subpacket::regular(SubpacketData::IssuerKeyId(self.legacy_key_id()))?];
            let binding = config.sign_certification(
                self,
                &self.public,
                &Password::empty(),
                user.tag(),
                &user,
            )?;
            let details =
                SignedKeyDetails::new(vec![], vec![], vec![user.into_signed(binding)], vec![]);
            SignedPublicKey::new(self.public.clone(), details, vec![]).to_bytes()
        };
        made().or_backend("writing a keyring")
    }

    /// The content of `SHA256SUMS.gpg`.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = DetachedSignature::sign_binary_data(
            rand_08::rngs::OsRng,
            self,
            &Password::empty(),
            HashAlgorithm::Sha256,
            message,
        );
        signature.or_backend("signing")?.to_bytes().or_backend("writing a signature")
    }
}

impl KeyDetails for OpenPgpKey {
    fn version(&self) -> KeyVersion {
        self.public.version()
    }
    fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }
    fn legacy_key_id(&self) -> KeyId {
        self.public.legacy_key_id()
    }
    fn algorithm(&self) -> PublicKeyAlgorithm {
        self.public.algorithm()
    }
    fn created_at(&self) -> Timestamp {
        self.public.created_at()
    }
    fn legacy_v3_expiration_days(&self) -> Option<u16> {
        None
    }
    fn public_params(&self) -> &PublicParams {
        self.public.public_params()
    }
}

impl SigningKey for OpenPgpKey {
    fn sign(
        &self,
        _: &Password,
        hash: HashAlgorithm,
        digest: &[u8],
    ) -> pgp::errors::Result<SignatureBytes> {
        if hash != HashAlgorithm::Sha256 {
            return Err(format!("the key signs SHA-256 digests, not {hash}").into());
        }
        let der = self.signer.sign_digest(digest).map_err(|e| e.to_string())?;
        let signature = p256::ecdsa::Signature::from_der(&der).map_err(|e| e.to_string())?;
        let (r, s) = signature.split_bytes();
        Ok(SignatureBytes::Mpis(vec![Mpi::from_slice(&r), Mpi::from_slice(&s)]))
    }
    fn hash_alg(&self) -> HashAlgorithm {
        HashAlgorithm::Sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::SoftKey;
    use std::process::{Command, Stdio};

    fn key() -> OpenPgpKey {
        OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap()
    }

    fn gpgv(key: &OpenPgpKey, message: &[u8], signature: &[u8]) -> bool {
        gpgv_with(&key.keyring().unwrap(), message, signature)
    }

    /// gpgv verifies independently.
    fn gpgv_with(ring: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("ring.gpg"), ring).unwrap();
        std::fs::write(path("m"), message).unwrap();
        std::fs::write(path("m.gpg"), signature).unwrap();
        let mut gpgv = Command::new("gpgv");
        gpgv.arg("--keyring")
            .arg(path("ring.gpg"))
            .arg(path("m.gpg"))
            .arg(path("m"))
            .stderr(Stdio::null());
        gpgv.status().unwrap().success()
    }

    #[test]
    fn gpgv_accepts_the_signature_and_refuses_a_changed_message() {
        let mine = key();
        let signature = mine.sign(b"message").unwrap();
        assert!(gpgv(&mine, b"message", &signature));
        let ring = mine.keyring().unwrap();
        assert!(
            verify(&ring, b"message", &signature).is_ok()
                && verify(&ring, b"messagf", &signature).is_err()
        );
        assert!(
            verify(&key().keyring().unwrap(), b"message", &signature).is_err()
                && verify(&ring, b"message", b"x").is_err()
        );
        assert!(!gpgv(&mine, b"messagf", &signature));
        assert!(!gpgv(&key(), b"message", &signature));
    }

    #[test]
    fn a_keyring_of_two_takes_a_signature_by_either_and_can_be_taken_apart() {
        let (old, new) = (key(), key());
        let both = [old.keyring().unwrap(), new.keyring().unwrap()].concat();
        for by in [&old, &new] {
            assert!(gpgv_with(&both, b"message", &by.sign(b"message").unwrap()));
        }
        let read = keys(&both).unwrap();
        assert_eq!(read.len(), 2);
        assert!(gpgv_with(&read[1].1, b"message", &new.sign(b"message").unwrap()));
        assert!(!gpgv_with(&read[1].1, b"message", &old.sign(b"message").unwrap()));
        assert!(keys(b"no keyring").is_err());
    }

    #[test]
    fn a_key_of_another_kind_is_no_openpgp_key() {
        assert!(OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P384).unwrap())).is_err());
    }
}
