//! The administrator's token. Only this area reads it.

use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The administrator's token.
pub(crate) struct AdminToken(String);

impl AdminToken {
    pub(crate) fn new(token: String) -> Self {
        Self(token)
    }

    /// Whether this is the token.
    pub(super) fn is(&self, given: &str) -> bool {
        // Compares digests, so that the time reveals nothing about the token.
        sha256_hex(given.as_bytes()) == sha256_hex(self.0.as_bytes())
    }

    /// A MAC with the token as its key, hexadecimal.
    pub(super) fn mac(&self, text: &str) -> Result<String, Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).map_err(Error::internal)?;
        mac.update(text.as_bytes());
        Ok(hex::encode(mac.finalize().into_bytes()))
    }
}
