//! The token of the first start, the credential of the account `bootstrap`. Only this area reads it.

use fleeti_core::canonical::sha256_hex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The account whose credential is the token of the first start.
pub const BOOTSTRAP: &str = "bootstrap";

/// The token of the first start.
pub(super) struct BootstrapToken {
    sha256: String,
    is_disabled: AtomicBool,
}

impl BootstrapToken {
    pub(super) fn new(token: &str) -> Self {
        Self { sha256: sha256_hex(token.as_bytes()), is_disabled: AtomicBool::new(false) }
    }

    /// Whether this is the token, and it counts.
    pub(super) fn is(&self, given: &str) -> bool {
        // Compares digests, so that the time reveals nothing about the token.
        sha256_hex(given.as_bytes()) == self.sha256 && !self.is_disabled.load(Ordering::SeqCst)
    }

    /// What a stored credential is compared with: another token is another credential.
    pub(super) fn fingerprint(&self) -> String {
        format!("admin.token {}", self.sha256)
    }

    pub(super) fn set_disabled(&self, is_disabled: bool) {
        self.is_disabled.store(is_disabled, Ordering::SeqCst);
    }
}
