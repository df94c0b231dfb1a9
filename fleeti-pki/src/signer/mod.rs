//! Signing keys. Everything is signed through [`Signer`], so that a key in a token never has to
//! leave it.

pub mod fast;
pub mod keyfile;
#[cfg(feature = "pkcs11")]
pub mod token;

use crate::{Error, OrMalformed};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    UnparsedPublicKey,
};
use p256::elliptic_curve::Generate;
use pkcs8::{DecodePrivateKey, EncodePrivateKey};
use sha2::{Digest, Sha256};
use signature::Signer as _;
use signature::hazmat::PrehashSigner as _;
use spki::der::{Decode, Encode};
use spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey,
    SignatureBitStringEncoding,
};
use zeroize::Zeroizing;

/// The type of a key, which determines its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256: devices.
    P256,
    /// ECDSA over P-384 with SHA-384: CAs and release manifests.
    P384,
    /// RSA-2048, PKCS#1 v1.5, SHA-256: UEFI, whose firmware does not support elliptic curves.
    Rsa2048,
    /// Ed25519 (RFC 8032): the checkpoints of the audit log, whose format requires it.
    Ed25519,
}

/// SubjectPublicKeyInfo of an Ed25519 key, up to the key (RFC 8410, 4).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Algorithm {
    fn signature_algorithm(self) -> AlgorithmIdentifierOwned {
        use const_oid::db::{rfc5912, rfc5912::SHA_256_WITH_RSA_ENCRYPTION};
        let (oid, parameters) = match self {
            Self::P256 => (rfc5912::ECDSA_WITH_SHA_256, None),
            Self::P384 => (rfc5912::ECDSA_WITH_SHA_384, None),
            Self::Rsa2048 => (SHA_256_WITH_RSA_ENCRYPTION, Some(der::asn1::Any::null())),
            Self::Ed25519 => (const_oid::db::rfc8410::ID_ED_25519, None),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }
}

/// A key that signs a message.
pub trait Signer: Send + Sync {
    /// The type of the key.
    fn algorithm(&self) -> Algorithm;
    /// SubjectPublicKeyInfo, DER.
    fn public_key_der(&self) -> &[u8];
    /// Signs a message; ECDSA as DER, RSA as the raw block.
    ///
    /// # Errors
    /// [`Error::Backend`] if the key cannot sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
    /// Signs a digest by the hash of the key's algorithm; only ECDSA, as DER. For formats whose
    /// library computes the digest itself.
    ///
    /// # Errors
    /// [`Error::Refused`] for another kind of key; [`Error::Backend`] if the key cannot sign.
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error>;
}

const NO_DIGEST: Error = Error::Refused("only an elliptic-curve key can sign a digest");

enum Secret {
    P256(Box<p256::ecdsa::SigningKey>),
    P384(Box<p384::ecdsa::SigningKey>),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key in memory: elliptic curves by the Rust crates, RSA and Ed25519 by aws-lc.
pub struct SoftKey {
    secret: Secret,
    public_key_der: Vec<u8>,
}

impl std::fmt::Debug for SoftKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoftKey({:?})", self.algorithm())
    }
}

impl SoftKey {
    /// Generates a key with the operating system's randomness.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, Error> {
        match algorithm {
            Algorithm::P256 => {
                Self::p256(p256::ecdsa::SigningKey::generate_from_rng(&mut rand::rng()))
            }
            Algorithm::P384 => {
                Self::p384(p384::ecdsa::SigningKey::generate_from_rng(&mut rand::rng()))
            }
            Algorithm::Rsa2048 => Self::rsa(
                RsaKeyPair::generate(KeySize::Rsa2048).or_backend("generating an RSA key")?,
            ),
            Algorithm::Ed25519 => Ok(Self::ed25519(
                Ed25519KeyPair::generate().or_backend("generating an Ed25519 key")?,
            )),
        }
    }

    fn p256(key: p256::ecdsa::SigningKey) -> Result<Self, Error> {
        let public = key.verifying_key().to_public_key_der().or_malformed("public key")?.into_vec();
        Ok(Self { secret: Secret::P256(Box::new(key)), public_key_der: public })
    }
    fn p384(key: p384::ecdsa::SigningKey) -> Result<Self, Error> {
        let public = key.verifying_key().to_public_key_der().or_malformed("public key")?.into_vec();
        Ok(Self { secret: Secret::P384(Box::new(key)), public_key_der: public })
    }
    fn rsa(key: RsaKeyPair) -> Result<Self, Error> {
        let public = key.public_key().as_der().or_malformed("public key")?.as_ref().to_vec();
        Ok(Self { secret: Secret::Rsa(key), public_key_der: public })
    }

    fn ed25519(key: Ed25519KeyPair) -> Self {
        let public = [&ED25519_SPKI[..], key.public_key().as_ref()].concat();
        Self { secret: Secret::Ed25519(key), public_key_der: public }
    }

    /// Parses PKCS#8 DER (RFC 5958).
    ///
    /// # Errors
    /// [`Error::Malformed`] for another algorithm or invalid bytes.
    pub fn from_pkcs8_der(bytes: &[u8]) -> Result<Self, Error> {
        if let Ok(key) = p256::SecretKey::from_pkcs8_der(bytes) {
            return Self::p256(key.into());
        }
        if let Ok(key) = p384::SecretKey::from_pkcs8_der(bytes) {
            return Self::p384(key.into());
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8(bytes) {
            return Ok(Self::ed25519(key));
        }
        Self::rsa(RsaKeyPair::from_pkcs8(bytes).or_malformed("private key")?)
    }

    /// PKCS#8 DER.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bytes = match &self.secret {
            Secret::P256(key) => p256::SecretKey::from(key.as_ref())
                .to_pkcs8_der()
                .or_malformed("private key")?
                .as_bytes()
                .to_vec(),
            Secret::P384(key) => p384::SecretKey::from(key.as_ref())
                .to_pkcs8_der()
                .or_malformed("private key")?
                .as_bytes()
                .to_vec(),
            Secret::Rsa(key) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
                    key.as_der().or_backend("writing an RSA key")?;
                der.as_ref().to_vec()
            }
            Secret::Ed25519(key) => {
                key.to_pkcs8().or_backend("writing an Ed25519 key")?.as_ref().to_vec()
            }
        };
        Ok(Zeroizing::new(bytes))
    }
}

impl Signer for SoftKey {
    fn algorithm(&self) -> Algorithm {
        match self.secret {
            Secret::P256(_) => Algorithm::P256,
            Secret::P384(_) => Algorithm::P384,
            Secret::Rsa(_) => Algorithm::Rsa2048,
            Secret::Ed25519(_) => Algorithm::Ed25519,
        }
    }
    fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.secret {
            Secret::P256(key) => {
                let s: p256::ecdsa::Signature = key.try_sign(message).or_backend("signing")?;
                Ok(s.to_der().as_bytes().to_vec())
            }
            Secret::P384(key) => {
                let s: p384::ecdsa::Signature = key.try_sign(message).or_backend("signing")?;
                Ok(s.to_der().as_bytes().to_vec())
            }
            Secret::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &aws_lc_rs::rand::SystemRandom::new(),
                    message,
                    &mut out,
                )
                .or_backend("signing")?;
                Ok(out)
            }
            Secret::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.secret {
            Secret::P256(key) => {
                let s: p256::ecdsa::Signature = key.sign_prehash(digest).or_backend("signing")?;
                Ok(s.to_der().as_bytes().to_vec())
            }
            Secret::P384(key) => {
                let s: p384::ecdsa::Signature = key.sign_prehash(digest).or_backend("signing")?;
                Ok(s.to_der().as_bytes().to_vec())
            }
            Secret::Rsa(_) | Secret::Ed25519(_) => Err(NO_DIGEST),
        }
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of a SubjectPublicKeyInfo.
#[must_use]
pub fn key_id(public_key_der: &[u8]) -> String {
    hex::encode(&Sha256::digest(public_key_der)[..8])
}

/// Lets the builders of `x509-cert` sign through any [`Signer`].
pub(crate) struct X509Signer<'a> {
    signer: &'a dyn Signer,
    public: PublicKeyDer,
}

#[derive(Clone, Debug)]
pub(crate) struct PublicKeyDer(Vec<u8>);

pub(crate) struct SignatureBytes(Vec<u8>);

impl<'a> X509Signer<'a> {
    pub(crate) fn new(signer: &'a dyn Signer) -> Self {
        Self { signer, public: PublicKeyDer(signer.public_key_der().to_vec()) }
    }
}
impl signature::Keypair for X509Signer<'_> {
    type VerifyingKey = PublicKeyDer;
    fn verifying_key(&self) -> PublicKeyDer {
        self.public.clone()
    }
}
impl EncodePublicKey for PublicKeyDer {
    fn to_public_key_der(&self) -> spki::Result<spki::Document> {
        spki::Document::from_der(&self.0).map_err(Into::into)
    }
}
impl DynSignatureAlgorithmIdentifier for X509Signer<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.signer.algorithm().signature_algorithm())
    }
}
impl signature::Signer<SignatureBytes> for X509Signer<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<SignatureBytes, signature::Error> {
        self.signer.sign(message).map(SignatureBytes).map_err(signature::Error::from_source)
    }
}
impl SignatureBitStringEncoding for SignatureBytes {
    fn to_bitstring(&self) -> der::Result<der::asn1::BitString> {
        der::asn1::BitString::from_bytes(&self.0)
    }
}

/// Verifies a signature: SubjectPublicKeyInfo, message, signature.
pub type Verify = fn(&[u8], &[u8], &[u8]) -> Result<(), Error>;

const NOT_BY_THIS_KEY: Error = Error::Refused("the signature does not verify with this key");

/// Verifies an Ed25519 signature (RFC 8032) with a raw key.
///
/// # Errors
/// [`Error::Refused`].
pub fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).map_err(|_| NOT_BY_THIS_KEY)
}

/// The prefix of a SubjectPublicKeyInfo of an elliptic curve in the only accepted form:
/// `id-ecPublicKey`, a named curve, and an uncompressed point (RFC 5480, 2; SEC 1, 2.3.3). Both
/// coordinates follow.
struct Form {
    curve: Algorithm,
    coordinates_bytes: usize,
    prefix: &'static [u8],
}

const FORMS: [Form; 2] = [
    Form { curve: Algorithm::P256, coordinates_bytes: 64, prefix: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04" },
    Form { curve: Algorithm::P384, coordinates_bytes: 96, prefix: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04" },
];

/// Checks that a SubjectPublicKeyInfo (DER) is of P-256 or P-384, in the only accepted form, and
/// returns the curve. Libraries differ in the other forms that they accept, and all must agree on a
/// key.
///
/// # Errors
/// [`Error::Malformed`] for another form or kind of key, and for a point that is not on its curve.
pub fn check_form(public_key_der: &[u8]) -> Result<Algorithm, Error> {
    use p256::pkcs8::DecodePublicKey;
    const WHAT: &str = "public key (P-256 or P-384)";
    let is_of = |form: &&Form| {
        let coordinates = public_key_der.strip_prefix(form.prefix);
        coordinates.is_some_and(|c| c.len() == form.coordinates_bytes)
    };
    let detail = "it is not a named curve with an uncompressed point (RFC 5480)";
    let Form { curve, .. } = FORMS
        .iter()
        .find(is_of)
        .ok_or_else(|| Error::Malformed { what: WHAT, detail: detail.into() })?;
    let is_on_curve = match curve {
        Algorithm::P384 => p384::PublicKey::from_public_key_der(public_key_der).is_ok(),
        Algorithm::P256 | Algorithm::Rsa2048 | Algorithm::Ed25519 => {
            p256::PublicKey::from_public_key_der(public_key_der).is_ok()
        }
    };
    if is_on_curve {
        Ok(*curve)
    } else {
        Err(Error::Malformed { what: WHAT, detail: "its point is not on its curve".into() })
    }
}

/// Verifies an ECDSA signature (DER) with the key of a SubjectPublicKeyInfo in the form of
/// [`check_form`].
///
/// # Errors
/// [`Error::Refused`] if it does not verify; [`Error::Malformed`] for another kind or form of key.
pub fn verify(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    use p256::pkcs8::DecodePublicKey;
    use signature::Verifier;
    if check_form(public_key_der)? == Algorithm::P384 {
        let key = p384::ecdsa::VerifyingKey::from_public_key_der(public_key_der)
            .or_malformed("public key (P-256 or P-384)")?;
        let s = p384::ecdsa::Signature::from_der(signature).map_err(|_| NOT_BY_THIS_KEY)?;
        return key.verify(message, &s).map_err(|_| NOT_BY_THIS_KEY);
    }
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(public_key_der)
        .or_malformed("public key (P-256 or P-384)")?;
    let s = p256::ecdsa::Signature::from_der(signature).map_err(|_| NOT_BY_THIS_KEY)?;
    key.verify(message, &s).map_err(|_| NOT_BY_THIS_KEY)
}

/// Verifies an RSA signature (PKCS#1 v1.5 with SHA-256) with the key of a SubjectPublicKeyInfo of
/// at least 2048 bits.
///
/// # Errors
/// [`Error::Refused`].
pub fn verify_rsa(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key_der)
        .verify(message, signature)
        .map_err(|_| NOT_BY_THIS_KEY)
}

pub(crate) fn spki_of(signer: &dyn Signer) -> Result<spki::SubjectPublicKeyInfoOwned, Error> {
    spki::SubjectPublicKeyInfoOwned::from_der(signer.public_key_der()).or_malformed("public key")
}

pub(crate) fn der_of<T: Encode>(value: &T, what: &'static str) -> Result<Vec<u8>, Error> {
    value.to_der().or_malformed(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_survives_the_way_through_pkcs8() {
        for algorithm in [Algorithm::P256, Algorithm::P384, Algorithm::Rsa2048, Algorithm::Ed25519]
        {
            let key = SoftKey::generate(algorithm).unwrap();
            let again = SoftKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
            assert_eq!(
                (again.algorithm(), again.public_key_der()),
                (algorithm, key.public_key_der())
            );
        }
    }

    #[test]
    fn a_signature_verifies_by_its_key_over_its_message_only() {
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let (key, other) =
                (SoftKey::generate(algorithm).unwrap(), SoftKey::generate(algorithm).unwrap());
            let s = key.sign(b"message").unwrap();
            verify(key.public_key_der(), b"message", &s).unwrap();
            assert!(verify(key.public_key_der(), b"messagf", &s).is_err());
            assert!(verify(other.public_key_der(), b"message", &s).is_err());
            assert!(verify(key.public_key_der(), b"message", &s[..s.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_key_does_not_show_itself_in_debug_output() {
        assert_eq!(format!("{:?}", SoftKey::generate(Algorithm::P256).unwrap()), "SoftKey(P256)");
    }
}
