//! Keys of providers (RFC 7517, RFC 7518, RFC 8037) and their signatures.

use super::NotAccepted;
use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Allowed length of an RSA modulus, bytes.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// Maximum length of an RSA exponent, bytes.
const EXPONENT_MAX: usize = 4;
/// Maximum length of the name of a key, bytes.
pub(super) const NAME_MAX: usize = 256;

/// An accepted algorithm of signatures (RFC 7518, 3.1; RFC 9864).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// ECDSA over P-256, SHA-256.
    Es256,
    /// ECDSA over P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm of a name in a token or a key; `None` for any other, as `none` and MACs are.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The hash that `at_hash` is made with (OpenID Connect Core, 3.1.3.6; that of Ed25519 itself).
    pub(super) fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &digest::SHA256,
            Self::Es384 => &digest::SHA384,
            Self::EdDsa => &digest::SHA512,
        }
    }
}

/// A public key that can verify signatures of ID tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Option<String>,
    /// The only algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    of: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Uncompressed point (SEC 1, 2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()
}

fn point(
    jwk: &Map<String, Value>,
    length: usize,
    curve: &'static EcdsaVerificationAlgorithm,
) -> Option<Vec<u8>> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let is_long = x.len() == length && y.len() == length;
    // Refuses a point that is not on the curve.
    (is_long && ParsedPublicKey::new(curve, &point).is_ok()).then_some(point)
}

fn rsa(jwk: &Map<String, Value>) -> Option<Kind> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let is_right = MODULUS.contains(&n.len())
        && n.first().is_some_and(|byte| *byte != 0)
        && (1..=EXPONENT_MAX).contains(&e.len());
    is_right.then_some(Kind::Rsa { n, e })
}

fn kind(jwk: &Map<String, Value>) -> Option<Kind> {
    let curve = jwk.get("crv").and_then(Value::as_str);
    match (jwk.get("kty")?.as_str()?, curve) {
        ("RSA", _) => rsa(jwk),
        ("EC", Some("P-256")) => point(jwk, 32, &ECDSA_P256_SHA256_FIXED).map(Kind::P256),
        ("EC", Some("P-384")) => point(jwk, 48, &ECDSA_P384_SHA384_FIXED).map(Kind::P384),
        ("OKP", Some("Ed25519")) => {
            bytes(jwk, "x").filter(|key| key.len() == 32).map(Kind::Ed25519)
        }
        _ => None,
    }
}

/// Whether a key is for signatures, as far as it says what it is for (RFC 7517, 4.2 and 4.3).
fn is_for_signatures(jwk: &Map<String, Value>) -> bool {
    let verifies = |all: &Vec<Value>| all.iter().any(|one| one.as_str() == Some("verify"));
    jwk.get("use").is_none_or(|of| of.as_str() == Some("sig"))
        && jwk.get("key_ops").is_none_or(|all| all.as_array().is_some_and(verifies))
}

impl Key {
    /// Reads a key; `None` for one that cannot verify ID tokens: a provider publishes others, too.
    pub(super) fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let name = match jwk.get("kid") {
            Some(name) => Some(name.as_str().filter(|name| name.len() <= NAME_MAX)?.to_owned()),
            None => None,
        };
        let only = match jwk.get("alg") {
            Some(name) => Some(Algorithm::from_name(name.as_str()?)?),
            None => None,
        };
        let of = is_for_signatures(jwk).then(|| kind(jwk)).flatten()?;
        Some(Self { name, only, of })
    }

    /// Whether it may verify signatures of an algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => matches!(self.of, Kind::Rsa { .. }),
            Algorithm::Es256 => matches!(self.of, Kind::P256(_)),
            Algorithm::Es384 => matches!(self.of, Kind::P384(_)),
            Algorithm::EdDsa => matches!(self.of, Kind::Ed25519(_)),
        };
        is_of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// Verifies a signature of an algorithm that the key is for.
    ///
    /// # Errors
    /// [`NotAccepted::Signature`].
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotAccepted> {
        let parsed = match &self.of {
            Kind::P256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Kind::P384(point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            Kind::Ed25519(key) => ParsedPublicKey::new(&ED25519, key),
            Kind::Rsa { n, e } => return verify_rsa((n, e), algorithm, message, signature),
        };
        let parsed = parsed.map_err(|_| NotAccepted::Signature)?;
        parsed.verify_sig(message, signature).map_err(|_| NotAccepted::Signature)
    }
}

fn verify_rsa(
    (n, e): (&[u8], &[u8]),
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), NotAccepted> {
    let scheme = match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => {
            return Err(NotAccepted::Algorithm);
        }
    };
    let verified = PublicKeyComponents { n, e }.verify(scheme, message, signature);
    verified.map_err(|_| NotAccepted::Signature)
}
