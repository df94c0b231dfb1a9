//! Keys of credentials (COSE_Key; RFC 9052, 7; Web Authentication, 5.8.5) and their signatures.

use super::NotAccepted;
use super::cbor::Reader;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};

const ES256: i64 = -7;
const EDDSA: i64 = -8;
const RS256: i64 = -257;
/// The accepted algorithms, the preferred one first (IANA, COSE Algorithms).
pub const ALGORITHMS: [i64; 3] = [ES256, EDDSA, RS256];

const OKP: i64 = 1;
const EC2: i64 = 2;
const RSA: i64 = 3;
const P256: i64 = 1;
const ED25519_CURVE: i64 = 6;
/// Allowed length of an RSA modulus, bytes.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=512;
/// Maximum length of an RSA exponent, bytes.
const EXPONENT_MAX: usize = 4;

/// The public key of a credential, as it is stored: COSE. It was checked when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialKey {
    cose: Vec<u8>,
    of: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Uncompressed point (SEC 1, 2.3.3).
    P256([u8; 65]),
    Ed25519([u8; 32]),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// The parameters of a key by their labels: -1 to -3 depend on the type.
#[derive(Default)]
struct Labels<'a> {
    kind: Option<i64>,
    algorithm: Option<i64>,
    curve: Option<i64>,
    /// A modulus, in the place of a curve.
    first: Option<&'a [u8]>,
    second: Option<&'a [u8]>,
    third: Option<&'a [u8]>,
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn labels(cose: &[u8]) -> Option<Labels<'_>> {
    let mut reader = Reader::new(cose)?;
    let mut all = Labels::default();
    for _ in 0..reader.map()? {
        match reader.int()? {
            1 => once(&mut all.kind, reader.int()?)?,
            3 => once(&mut all.algorithm, reader.int()?)?,
            // The type comes first in the canonical order.
            -1 if all.kind == Some(RSA) => once(&mut all.first, reader.bytes()?)?,
            -1 => once(&mut all.curve, reader.int()?)?,
            -2 => once(&mut all.second, reader.bytes()?)?,
            -3 => once(&mut all.third, reader.bytes()?)?,
            _ => return None,
        }
    }
    reader.is_at_end().then_some(all)
}

fn point(x: &[u8], y: &[u8]) -> Option<[u8; 65]> {
    let is_long = x.len() == 32 && y.len() == 32;
    let bytes: [u8; 65] = [&[4], x, y].concat().try_into().ok().filter(|_| is_long)?;
    // Refuses a point that is not on the curve.
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes).ok()?;
    Some(bytes)
}

fn kind(cose: &[u8]) -> Option<Kind> {
    match labels(cose)? {
        Labels {
            kind: Some(EC2),
            algorithm: Some(ES256),
            curve: Some(P256),
            first: None,
            second: Some(x),
            third: Some(y),
        } => Some(Kind::P256(point(x, y)?)),
        Labels {
            kind: Some(OKP),
            algorithm: Some(EDDSA),
            curve: Some(ED25519_CURVE),
            first: None,
            second: Some(x),
            third: None,
        } => Some(Kind::Ed25519(x.try_into().ok()?)),
        Labels {
            kind: Some(RSA),
            algorithm: Some(RS256),
            curve: None,
            first: Some(n),
            second: Some(e),
            third: None,
        } => {
            let is_right = MODULUS.contains(&n.len())
                && n.first().is_some_and(|byte| *byte != 0)
                && (1..=EXPONENT_MAX).contains(&e.len());
            is_right.then(|| Kind::Rsa { n: n.to_vec(), e: e.to_vec() })
        }
        _ => None,
    }
}

impl CredentialKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`NotAccepted::Key`].
    pub fn read(cose: &[u8]) -> Result<Self, NotAccepted> {
        let of = kind(cose).ok_or(NotAccepted::Key)?;
        Ok(Self { cose: cose.to_vec(), of })
    }

    /// Its bytes, COSE.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.cose
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// [`NotAccepted::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), NotAccepted> {
        let verified = match &self.of {
            Kind::P256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .ok()
                .map(|key| key.verify_sig(message, signature)),
            Kind::Ed25519(key) => ParsedPublicKey::new(&ED25519, key)
                .ok()
                .map(|key| key.verify_sig(message, signature)),
            Kind::Rsa { n, e } => {
                Some(PublicKeyComponents { n: n.as_slice(), e: e.as_slice() }.verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    message,
                    signature,
                ))
            }
        };
        verified.and_then(Result::ok).ok_or(NotAccepted::Signature)
    }
}
