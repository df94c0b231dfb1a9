//! Passwords, as argon2id hashes (RFC 9106).
//!
//! A hash needs 7 MiB and five passes, which OWASP rates as strong as 19 MiB and two. The server
//! computes one at a time, so that its memory grows by 7 MiB at most, and gives them back.

use crate::error::Error;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::accounts::PASSWORD;
use fleeti_core::wire::problem::Code;

const HASH_BYTES: usize = 32;

/// What a guess at a password costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    memory_kib: u32,
    passes: u32,
}

impl PasswordCost {
    /// Next to nothing, for tests.
    #[must_use]
    pub const fn for_tests() -> Self {
        Self { memory_kib: 8, passes: 1 }
    }
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self { memory_kib: 7168, passes: 5 }
    }
}

/// Checks the form of a new password.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn check(password: &str) -> Result<(), Error> {
    if PASSWORD.contains(&password.len()) {
        return Ok(());
    }
    let (min, max) = (PASSWORD.start(), PASSWORD.end());
    let text = format!("the password has {} bytes, must have {min} to {max}", password.len());
    Err(Error::new(Code::Invalid, text).hint("several random words are easy to remember"))
}

/// The hash of a password, with its cost and salt.
///
/// # Errors
/// Never for a cost of this file.
pub(super) fn hash(password: &str, cost: PasswordCost) -> Result<String, Error> {
    let salt: [u8; 16] = rand::random();
    let hash = derive(password, &salt, cost)?;
    let PasswordCost { memory_kib, passes } = cost;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${hash}"))
}

/// Whether a password has this hash. Without a hash, takes as long as with one.
///
/// # Errors
/// Never for a hash of this file.
pub(super) fn is(password: &str, hash: Option<&str>, cost: PasswordCost) -> Result<bool, Error> {
    let Some((cost, salt, wanted)) = hash.and_then(parts) else {
        derive(password, &[0; 16], cost)?;
        return Ok(false);
    };
    let found = derive(password, &salt, cost)?;
    // Compares digests, so that the time reveals nothing about the hash.
    Ok(sha256_hex(&found) == sha256_hex(&wanted))
}

fn parts(hash: &str) -> Option<(PasswordCost, Vec<u8>, Vec<u8>)> {
    let rest = hash.strip_prefix("$argon2id$v=19$m=")?;
    let mut parts = rest.split('$');
    let (cost, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let (memory_kib, passes) = cost.strip_suffix(",p=1")?.split_once(",t=")?;
    let cost = PasswordCost { memory_kib: memory_kib.parse().ok()?, passes: passes.parse().ok()? };
    let bytes = |text| STANDARD_NO_PAD.decode(text).ok();
    Some((cost, bytes(salt)?, bytes(hash)?))
}

fn derive(password: &str, salt: &[u8], cost: PasswordCost) -> Result<[u8; HASH_BYTES], Error> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(HASH_BYTES))
        .map_err(|e| Error::internal(e.to_string()))?;
    let mut hash = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .map_err(|e| Error::internal(e.to_string()))?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_its_own_hash_only() {
        let cost = PasswordCost::for_tests();
        let kept = hash("correct horse battery", cost).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{kept}");
        assert!(is("correct horse battery", Some(&kept), cost).unwrap());
        assert!(!is("correct horse batterY", Some(&kept), cost).unwrap());
        assert_ne!(kept, hash("correct horse battery", cost).unwrap(), "each has its own salt");
        for broken in ["", "admin.token 00", "$argon2id$v=19$m=8,t=1,p=1$AAAA", "$argon2id$v=19$"] {
            assert!(!is("correct horse battery", Some(broken), cost).unwrap(), "{broken}");
        }
        assert!(!is("correct horse battery", None, cost).unwrap());
    }

    #[test]
    fn a_short_and_an_endless_password_are_refused() {
        assert_eq!(check("eleven-char").unwrap_err().code(), Code::Invalid);
        assert_eq!(check(&"x".repeat(257)).unwrap_err().code(), Code::Invalid);
        check("twelve-chars").unwrap();
    }
}
