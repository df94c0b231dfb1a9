//! Keys at rest: a passphrase through argon2id (RFC 9106), and the key encrypted with
//! ChaCha20-Poly1305 (RFC 8439).
//!
//! The file is JSON. Its purpose is authenticated together with the key, so that a file cannot be
//! used for another purpose by renaming it.

use crate::{Error, OrMalformed, base64_text};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes.
const STANDARD: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
/// The smallest that RFC 9106 allows.
const FOR_TESTS: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
/// Upper bounds of what a file may require: a forged file must not exhaust the machine.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;

/// What one guess at a passphrase costs.
#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A passphrase, and how expensive each guess at it is made. A slice is a passphrase with the second
/// option that RFC 9106 recommends.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    passphrase: &'a [u8],
    cost: Cost,
}

impl<'a> Sealing<'a> {
    /// A passphrase whose guesses cost next to nothing. Only tests use this: they seal a dozen keys
    /// each, which was two thirds of the time of a test of the server. The reader takes any cost, as
    /// the file says it.
    #[must_use]
    pub const fn for_tests(passphrase: &'a [u8]) -> Self {
        Self { passphrase, cost: FOR_TESTS }
    }
}

impl<'a> From<&'a [u8]> for Sealing<'a> {
    fn from(passphrase: &'a [u8]) -> Self {
        Self { passphrase, cost: STANDARD }
    }
}

impl<'a> From<&'a Zeroizing<Vec<u8>>> for Sealing<'a> {
    fn from(passphrase: &'a Zeroizing<Vec<u8>>) -> Self {
        Self::from(passphrase.as_slice())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Sealing<'a> {
    fn from(passphrase: &'a [u8; N]) -> Self {
        Self::from(passphrase.as_slice())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedFile {
    fleeti_sealed: u32,
    purpose: String,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    ciphertext: String,
}

/// Seals a secret for a purpose.
///
/// # Errors
/// [`Error::Backend`].
pub fn seal<'a>(
    secret: &[u8],
    purpose: &str,
    sealing: impl Into<Sealing<'a>>,
) -> Result<Vec<u8>, Error> {
    let Sealing { passphrase, cost } = sealing.into();
    let (salt, nonce): ([u8; 16], [u8; 12]) = (rand::random(), rand::random());
    let key = derive(passphrase, &salt, cost)?;
    let cipher = ChaCha20Poly1305::new(&Key::from(*key));
    let payload = Payload { msg: secret, aad: purpose.as_bytes() };
    let ciphertext = cipher.encrypt(&Nonce::from(nonce), payload).or_backend("sealing")?;
    let file = SealedFile {
        fleeti_sealed: 1,
        purpose: purpose.to_owned(),
        kdf: "argon2id".to_owned(),
        memory_kib: cost.memory_kib,
        passes: cost.passes,
        lanes: cost.lanes,
        salt: base64_text(&salt),
        nonce: base64_text(&nonce),
        ciphertext: base64_text(&ciphertext),
    };
    serde_json::to_vec_pretty(&file).or_malformed("sealed key")
}

/// Opens what [`seal`] made for the same purpose.
///
/// # Errors
/// [`Error::Refused`] for a wrong passphrase, another purpose or a changed file;
/// [`Error::Malformed`] for other bytes.
pub fn open(file: &[u8], purpose: &str, passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file: SealedFile = strict::from_slice(file).or_malformed("sealed key")?;
    if file.fleeti_sealed != 1 || file.kdf != "argon2id" {
        return Err(Error::Malformed {
            what: "sealed key",
            detail: "its version or kdf is unknown".into(),
        });
    }
    if file.memory_kib > MEMORY_KIB_MAX || file.passes > PASSES_MAX || file.lanes > 16 {
        return Err(Error::Malformed {
            what: "sealed key",
            detail: "it requires too much memory or time".into(),
        });
    }
    let decode =
        |s: &str| base64::engine::general_purpose::STANDARD.decode(s).or_malformed("sealed key");
    let nonce: [u8; 12] = decode(&file.nonce)?
        .try_into()
        .map_err(|_| Error::Refused("the nonce has a wrong length"))?;
    let cost = Cost { memory_kib: file.memory_kib, passes: file.passes, lanes: file.lanes };
    let key = derive(passphrase, &decode(&file.salt)?, cost)?;
    let ciphertext = decode(&file.ciphertext)?;
    ChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&Nonce::from(nonce), Payload { msg: &ciphertext, aad: purpose.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| Error::Refused("the passphrase is wrong, or the key is not for this purpose"))
}

fn derive(passphrase: &[u8], salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>, Error> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .or_malformed("sealed key")?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut())
        .or_backend("argon2id")?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_passphrase_for_its_purpose_only() {
        let file = seal(b"secret", "release", b"pass").unwrap();
        assert_eq!(open(&file, "release", b"pass").unwrap().as_slice(), b"secret");
        assert!(matches!(open(&file, "release", b"Pass"), Err(Error::Refused(_))));
        assert!(matches!(open(&file, "device-ca", b"pass"), Err(Error::Refused(_))));
        assert!(!String::from_utf8_lossy(&file).contains("secret"));
    }

    #[test]
    fn a_guess_costs_what_rfc_9106_recommends_but_in_tests() {
        let costs = |file: Vec<u8>| {
            let file: SealedFile = strict::from_slice(&file).unwrap();
            (file.memory_kib, file.passes, file.lanes)
        };
        assert_eq!(costs(seal(b"s", "p", b"x").unwrap()), (65_536, 3, 4));
        let cheap = seal(b"s", "p", Sealing::for_tests(b"x")).unwrap();
        assert_eq!(open(&cheap, "p", b"x").unwrap().as_slice(), b"s");
        assert_eq!(costs(cheap), (8, 1, 1));
    }

    #[test]
    fn a_file_that_asks_for_a_terabyte_is_refused() {
        let file = String::from_utf8(seal(b"s", "p", b"x").unwrap()).unwrap();
        let greedy = file.replace("\"memory_kib\": 65536", "\"memory_kib\": 1073741824");
        assert_ne!(file, greedy);
        assert!(matches!(open(greedy.as_bytes(), "p", b"x"), Err(Error::Malformed { .. })));
    }
}
