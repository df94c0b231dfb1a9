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
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Upper bounds of what a file may require: a forged file must not exhaust the machine.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;

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
pub fn seal(secret: &[u8], purpose: &str, passphrase: &[u8]) -> Result<Vec<u8>, Error> {
    let (salt, nonce): ([u8; 16], [u8; 12]) = (rand::random(), rand::random());
    let key = derive(passphrase, &salt, MEMORY_KIB, PASSES, LANES)?;
    let cipher = ChaCha20Poly1305::new(&Key::from(*key));
    let payload = Payload { msg: secret, aad: purpose.as_bytes() };
    let ciphertext = cipher.encrypt(&Nonce::from(nonce), payload).or_backend("sealing")?;
    let file = SealedFile {
        fleeti_sealed: 1,
        purpose: purpose.to_owned(),
        kdf: "argon2id".to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
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
    let key = derive(passphrase, &decode(&file.salt)?, file.memory_kib, file.passes, file.lanes)?;
    let ciphertext = decode(&file.ciphertext)?;
    ChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&Nonce::from(nonce), Payload { msg: &ciphertext, aad: purpose.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| Error::Refused("the passphrase is wrong, or the key is not for this purpose"))
}

fn derive(
    passphrase: &[u8],
    salt: &[u8],
    memory: u32,
    passes: u32,
    lanes: u32,
) -> Result<Zeroizing<[u8; 32]>, Error> {
    let params = Params::new(memory, passes, lanes, Some(32)).or_malformed("sealed key")?;
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
    fn a_file_that_asks_for_a_terabyte_is_refused() {
        let file = String::from_utf8(seal(b"s", "p", b"x").unwrap()).unwrap();
        let greedy =
            file.replace(&format!("\"memory_kib\": {MEMORY_KIB}"), "\"memory_kib\": 1073741824");
        assert!(matches!(open(greedy.as_bytes(), "p", b"x"), Err(Error::Malformed { .. })));
    }
}
