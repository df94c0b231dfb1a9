//! Public areas of keys (TPMT_PUBLIC; Part 2, 12.2.4), their names (Part 1, 16), and what a key
//! must be to be trusted with a task.

use super::{Hash, Reader, Unreadable};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
};
use p256::pkcs8::EncodePublicKey;

const WHAT: &str = "TPMT_PUBLIC";
/// No algorithm (TPM_ALG_NULL).
const NULL: u16 = 0x0010;
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const OAEP: u16 = 0x0017;
const RSAES: u16 = 0x0015;
pub(super) const ECDSA: u16 = 0x0018;
const ECDH: u16 = 0x0019;
/// Bytes of the largest RSA modulus that is read (4096 bits).
const MODULUS_MAX: usize = 512;
/// Bytes of the largest public area.
pub const BYTES_MAX: usize = 1024;

/// What a key is and may do (TPMA_OBJECT; Part 2, 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// It never leaves its TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// Nor its parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM made the secret itself.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// It handles nothing that the TPM did not make.
    pub const RESTRICTED: u32 = 1 << 16;
    /// It decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// It signs.
    pub const SIGN: u32 = 1 << 18;
    /// Made by the TPM, for ever in it.
    const BORN_HERE: u32 = Self::FIXED_TPM | Self::FIXED_PARENT | Self::SENSITIVE_DATA_ORIGIN;

    const fn all(self, wanted: u32) -> bool {
        self.0 & wanted == wanted
    }
    const fn none(self, unwanted: u32) -> bool {
        self.0 & unwanted == 0
    }
}

/// An elliptic curve (TPM_ECC_CURVE). Others are not known here, so no weak one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    /// Bytes of a coordinate.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The hash whose strength is the curve's: the only one that is taken with it.
    #[must_use]
    pub const fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
        }
    }

    pub(super) const fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
        }
    }
}

/// The key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Key {
    /// On a curve.
    Ecc {
        /// Which.
        curve: Curve,
        /// The point, uncompressed (SEC 1, 2.3.3): `04`, x, y.
        point: Vec<u8>,
    },
    /// RSA.
    Rsa {
        /// Big-endian, without leading zeros.
        modulus: Vec<u8>,
        /// As in 65537.
        exponent: u32,
    },
}

/// A scheme for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scheme {
    /// As in ECDSA.
    algorithm: u16,
    hash: Hash,
}

/// A public area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// Of names and, for a storage key, of what it protects.
    pub name_hash: Hash,
    /// What the key may do.
    pub attributes: Attributes,
    /// Policy under which it is used; empty for none.
    pub policy: Vec<u8>,
    /// Bits of AES in CFB mode with which a storage key protects.
    pub aes_bits: Option<u16>,
    scheme: Option<Scheme>,
    /// The key.
    pub key: Key,
    bytes: Vec<u8>,
}

/// Why a key may not do what it was offered for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {purpose} key {detail}")]
pub struct Unfit {
    purpose: &'static str,
    detail: &'static str,
}

impl Public {
    /// Reads a TPMT_PUBLIC.
    ///
    /// # Errors
    /// [`Unreadable`] for anything but a whole one of an algorithm that is known here.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::TooLong { what: WHAT, length: bytes.len(), max: BYTES_MAX });
        }
        let mut r = Reader::new(WHAT, bytes);
        let kind = r.u16()?;
        let name_id = r.u16()?;
        let name_hash = match Hash::from_id(name_id) {
            Some(hash) if hash != Hash::Sha1 => hash,
            _ => return r.unknown("nameAlg", name_id.into()),
        };
        let attributes = Attributes(r.u32()?);
        let policy = r.sized(64)?.to_vec();
        let aes_bits = symmetric(&mut r)?;
        let scheme = scheme(&mut r, kind)?;
        let key = match kind {
            ECC => ecc(&mut r)?,
            RSA => rsa(&mut r)?,
            other => return r.unknown("type", other.into()),
        };
        r.end()?;
        Ok(Self { name_hash, attributes, policy, aes_bits, scheme, key, bytes: bytes.to_vec() })
    }

    /// Reads a TPM2B_PUBLIC.
    ///
    /// # Errors
    /// As [`Public::parse`].
    pub fn parse_sized(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut r = Reader::new("TPM2B_PUBLIC", bytes);
        let inner = r.sized(BYTES_MAX)?;
        r.end()?;
        Self::parse(inner)
    }

    /// The TPMT_PUBLIC as it was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name: the algorithm and the digest of the whole area (Part 1, 16). Computed here,
    /// whatever anybody claims.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        [&self.name_hash.id().to_be_bytes()[..], &self.name_hash.digest(&[&self.bytes])].concat()
    }

    /// SubjectPublicKeyInfo, DER (RFC 5280, 4.1.2.7).
    ///
    /// # Errors
    /// [`Unreadable::Wrong`] for a point that is not on its curve, or an RSA key that no library
    /// takes.
    pub fn to_spki_der(&self) -> Result<Vec<u8>, Unreadable> {
        let wrong = Unreadable::Wrong { what: WHAT, detail: "the key is none" };
        match &self.key {
            Key::Ecc { curve: Curve::P256, point } => {
                let key = p256::PublicKey::from_sec1_bytes(point).map_err(|_| wrong.clone())?;
                key.to_public_key_der().map(der::Document::into_vec).map_err(|_| wrong)
            }
            Key::Ecc { curve: Curve::P384, point } => {
                let key = p384::PublicKey::from_sec1_bytes(point).map_err(|_| wrong.clone())?;
                key.to_public_key_der().map(der::Document::into_vec).map_err(|_| wrong)
            }
            Key::Rsa { modulus, exponent } => rsa_spki(modulus, *exponent).ok_or(wrong),
        }
    }

    /// Attributes that every key must have that a TPM vouches for.
    fn born_here(&self, purpose: &'static str) -> Result<(), Unfit> {
        if !self.attributes.all(Attributes::BORN_HERE) {
            return Err(Unfit {
                purpose,
                detail: "was not made in this TPM for ever: fixedTPM, fixedParent and sensitiveDataOrigin are wanted",
            });
        }
        Ok(())
    }

    fn signs_with_its_curve(&self, purpose: &'static str) -> Result<Curve, Unfit> {
        let Key::Ecc { curve, .. } = self.key else {
            return Err(Unfit { purpose, detail: "is not on P-256 or P-384" });
        };
        if self.to_spki_der().is_err() {
            return Err(Unfit { purpose, detail: "is no point of its curve" });
        }
        let wanted = Scheme { algorithm: ECDSA, hash: curve.hash() };
        match self.scheme {
            Some(scheme) if scheme == wanted => Ok(curve),
            _ => Err(Unfit {
                purpose,
                detail: "does not sign by ECDSA with the hash of its curve alone",
            }),
        }
    }
}

/// A key that signs only what its TPM says (a restricted signing key): quotes and certifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey {
    public: Public,
    curve: Curve,
}

impl AttestationKey {
    /// Takes a key as one, if it is.
    ///
    /// # Errors
    /// [`Unfit`], saying what it is not.
    pub fn new(public: Public) -> Result<Self, Unfit> {
        const PURPOSE: &str = "attestation";
        public.born_here(PURPOSE)?;
        if !public.attributes.all(Attributes::RESTRICTED | Attributes::SIGN)
            || !public.attributes.none(Attributes::DECRYPT)
        {
            return Err(Unfit {
                purpose: PURPOSE,
                detail: "is not a restricted signing key: it would sign what the TPM did not say",
            });
        }
        let curve = public.signs_with_its_curve(PURPOSE)?;
        Ok(Self { public, curve })
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// Its curve, which says its hash.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }
}

/// The key of a device's certificate: signs what it is given, and is in the TPM for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKey(Public);

impl DeviceKey {
    /// Takes a key as one, if it is.
    ///
    /// # Errors
    /// [`Unfit`], saying what it is not.
    pub fn new(public: Public) -> Result<Self, Unfit> {
        const PURPOSE: &str = "device";
        public.born_here(PURPOSE)?;
        if !public.attributes.all(Attributes::SIGN)
            || !public.attributes.none(Attributes::DECRYPT | Attributes::RESTRICTED)
        {
            return Err(Unfit { purpose: PURPOSE, detail: "is not an unrestricted signing key" });
        }
        public.signs_with_its_curve(PURPOSE)?;
        Ok(Self(public))
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.0
    }
}

/// The key by which a TPM is known: decrypts only what was made for one of its keys (EK Credential
/// Profile, B.3, B.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey(Public);

impl EndorsementKey {
    /// Takes a key as one, if it is.
    ///
    /// # Errors
    /// [`Unfit`], saying what it is not.
    pub fn new(public: Public) -> Result<Self, Unfit> {
        const PURPOSE: &str = "endorsement";
        public.born_here(PURPOSE)?;
        if !public.attributes.all(Attributes::RESTRICTED | Attributes::DECRYPT)
            || !public.attributes.none(Attributes::SIGN)
        {
            return Err(Unfit { purpose: PURPOSE, detail: "is not a restricted decryption key" });
        }
        if public.aes_bits.is_none() {
            return Err(Unfit { purpose: PURPOSE, detail: "protects nothing by AES in CFB mode" });
        }
        if matches!(&public.key, Key::Rsa { modulus, exponent } if modulus.len() < 256 || *exponent != 65537)
        {
            return Err(Unfit {
                purpose: PURPOSE,
                detail: "is RSA of less than 2048 bits, or with an exponent other than 65537",
            });
        }
        Ok(Self(public))
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.0
    }
}

fn symmetric(r: &mut Reader<'_>) -> Result<Option<u16>, Unreadable> {
    match r.u16()? {
        NULL => Ok(None),
        AES => {
            let bits = r.u16()?;
            if bits != 128 && bits != 256 {
                return r.unknown("keyBits", bits.into());
            }
            match r.u16()? {
                CFB => Ok(Some(bits)),
                other => r.unknown("mode", other.into()),
            }
        }
        other => r.unknown("symmetric", other.into()),
    }
}

fn scheme(r: &mut Reader<'_>, kind: u16) -> Result<Option<Scheme>, Unreadable> {
    let algorithm = r.u16()?;
    match (kind, algorithm) {
        (_, NULL) | (RSA, RSAES) => Ok(None),
        (RSA, RSASSA | RSAPSS | OAEP) | (ECC, ECDSA | ECDH) => {
            let id = r.u16()?;
            Hash::from_id(id).map_or_else(
                || r.unknown("hash of the scheme", id.into()),
                |hash| Ok(Some(Scheme { algorithm, hash })),
            )
        }
        (_, other) => r.unknown("scheme", other.into()),
    }
}

fn ecc(r: &mut Reader<'_>) -> Result<Key, Unreadable> {
    let curve = match r.u16()? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => return r.unknown("curveID", other.into()),
    };
    match r.u16()? {
        NULL => {}
        other => return r.unknown("kdf", other.into()),
    }
    let mut point = vec![4];
    for _ in 0..2 {
        point.extend(padded(r.sized(curve.length())?, curve.length()));
    }
    Ok(Key::Ecc { curve, point })
}

fn rsa(r: &mut Reader<'_>) -> Result<Key, Unreadable> {
    let bits = r.u16()?;
    // Zero is the default (Part 2, 12.2.3.5).
    let exponent = match r.u32()? {
        0 => 65537,
        other => other,
    };
    let modulus = r.sized(MODULUS_MAX)?.to_vec();
    if modulus.len() * 8 != usize::from(bits)
        || modulus.first().is_none_or(|first| first & 0x80 == 0)
    {
        return Err(Unreadable::Wrong {
            what: WHAT,
            detail: "the modulus does not have as many bits as it should",
        });
    }
    Ok(Key::Rsa { modulus, exponent })
}

/// A number that a TPM wrote without its leading zeros, with them.
pub(super) fn padded(number: &[u8], length: usize) -> impl Iterator<Item = u8> + '_ {
    std::iter::repeat_n(0, length.saturating_sub(number.len())).chain(number.iter().copied())
}

fn rsa_spki(modulus: &[u8], exponent: u32) -> Option<Vec<u8>> {
    let exponent: Vec<u8> =
        exponent.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let key = PublicKeyComponents { n: modulus, e: exponent.as_slice() };
    let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
    Some(der.as_ref().to_vec())
}
