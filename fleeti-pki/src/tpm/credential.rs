//! A secret that only one TPM can decrypt, and only if it contains a certain key
//! (TPM2_MakeCredential; Part 1, 24; Part 3, 12.6): made in software, from the public endorsement
//! key.

use super::public::{Curve, EndorsementKey, Key, Public};
use super::{Hash, sized};
use crate::{Error, OrMalformed};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use zeroize::Zeroizing;

const IDENTITY: &[u8] = b"IDENTITY\0";
const STORAGE: &[u8] = b"STORAGE\0";
const INTEGRITY: &[u8] = b"INTEGRITY\0";
const WHAT: &str = "making a credential";

/// The input of TPM2_ActivateCredential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// TPM2B_ID_OBJECT.
    pub blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET.
    pub secret: Vec<u8>,
}

/// Encrypts `value` (at most 32 bytes), so that the TPM of `endorsement` decrypts it only if the
/// key `name` is loaded there.
///
/// # Errors
/// [`Error::Malformed`] for a value that is too long, or an invalid key.
pub fn make(endorsement: &EndorsementKey, name: &[u8], value: &[u8]) -> Result<Credential, Error> {
    let public = endorsement.public();
    let hash = public.name_hash;
    if value.len() > 32 {
        return Err(Error::Malformed {
            what: "value of a credential",
            detail: format!("{} bytes, at most 32 are allowed", value.len()),
        });
    }
    let (seed, secret) = match &public.key {
        Key::Rsa { .. } => by_rsa(public)?,
        Key::Ecc { curve, point } => by_agreement(hash, *curve, point)?,
    };
    let bits = public.aes_bits.unwrap_or(128);
    let aes = Zeroizing::new(kdf_a(hash, &seed, STORAGE, name, bits));
    let hidden = encrypt(&aes, &sized(value).unwrap_or_default())?;
    let integrity = Zeroizing::new(kdf_a(hash, &seed, INTEGRITY, &[], bits_of(hash)));
    let mac = hash.hmac(&integrity, &[&hidden, name]);
    let inner = [sized(&mac).unwrap_or_default(), hidden].concat();
    Ok(Credential { blob: sized(&inner).or_long()?, secret: sized(&secret).or_long()? })
}

trait OrLong<T> {
    fn or_long(self) -> Result<T, Error>;
}
impl<T> OrLong<T> for Option<T> {
    fn or_long(self) -> Result<T, Error> {
        self.ok_or_else(|| Error::Backend {
            what: WHAT,
            detail: "it is longer than a TPM accepts".into(),
        })
    }
}

fn bits_of(hash: Hash) -> u16 {
    // INVARIANT: a digest has at most 64 bytes.
    u16::try_from(hash.length() * 8).unwrap_or(u16::MAX)
}

type Seed = Zeroizing<Vec<u8>>;

/// A random seed, encrypted (Part 1, B.10.3).
fn by_rsa(public: &Public) -> Result<(Seed, Vec<u8>), Error> {
    let mut seed = Zeroizing::new(vec![0; public.name_hash.length()]);
    rand::fill(&mut seed).or_backend(WHAT)?;
    let key = PublicEncryptingKey::from_der(&public.to_spki_der().or_malformed("endorsement key")?)
        .or_malformed("endorsement key")?;
    let key = OaepPublicEncryptingKey::new(key).or_malformed("endorsement key")?;
    let mut secret = vec![0; key.ciphertext_size()];
    let padding = match public.name_hash {
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha1 | Hash::Sha512 => {
            return Err(Error::Malformed {
                what: "endorsement key",
                detail: "it has an unusual hash".into(),
            });
        }
    };
    key.encrypt(padding, &seed, &mut secret, Some(IDENTITY)).or_backend(WHAT)?;
    Ok((seed, secret))
}

/// A seed from a key agreement (Part 1, C.6.3).
fn by_agreement(hash: Hash, curve: Curve, point: &[u8]) -> Result<(Seed, Vec<u8>), Error> {
    let algorithm = match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
    };
    let length = curve.length();
    let own = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new()).or_backend(WHAT)?;
    let own_point = own.compute_public_key().or_backend(WHAT)?;
    // INVARIANT: both points are uncompressed: 04, x, y.
    let (own_x, own_y) = own_point.as_ref()[1..].split_at(length);
    let their_x = &point[1..=length];
    let peer = agreement::UnparsedPublicKey::new(algorithm, point);
    let bad = Error::Malformed {
        what: "endorsement key",
        detail: "its point is not on its curve".into(),
    };
    let seed = agreement::agree_ephemeral(own, peer, bad, |shared| {
        // KDFe (Part 1, 11.4.10.3); a seed is as long as the hash.
        Ok(hash.digest(&[&1u32.to_be_bytes(), shared, IDENTITY, own_x, their_x]))
    })?;
    let sent = [sized(own_x).or_long()?, sized(own_y).or_long()?].concat();
    Ok((Zeroizing::new(seed), sent))
}

/// KDFa (Part 1, 11.4.10.2), with one context.
fn kdf_a(hash: Hash, key: &[u8], label: &[u8], context: &[u8], bits: u16) -> Vec<u8> {
    let length = usize::from(bits / 8);
    let mut out = Vec::new();
    for counter in 1u32.. {
        out.extend(
            hash.hmac(
                key,
                &[&counter.to_be_bytes(), label, context, &u32::from(bits).to_be_bytes()],
            ),
        );
        if out.len() >= length {
            break;
        }
    }
    out.truncate(length);
    out
}

/// AES in CFB mode with an IV of zeros: the key is used once.
fn encrypt(key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key).or_backend(WHAT)?)
        .or_backend(WHAT)?;
    let mut bytes = plain.to_vec();
    key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from([0; 16])))
        .or_backend(WHAT)?;
    Ok(bytes)
}
