//! The state of the server's parts.

use super::disk;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of the server's parts.
#[derive(Default)]
pub struct Health {
    /// Since when the signing service does not answer, Unix seconds; 0 while it does.
    pub(crate) signer_away_s: AtomicU64,
    /// Number of acts that wait for the audit log.
    pub(crate) acts: AtomicU64,
    /// Free and total bytes of the disk, and the floor.
    pub disk: disk::Watched,
}

impl Health {
    /// Whether the signing service did not answer the last request.
    #[must_use]
    pub fn is_signer_away(&self) -> bool {
        self.signer_away_s.load(Ordering::SeqCst) > 0
    }
    /// Records whether the signing service answered.
    pub fn signer(&self, answers: bool, now_s: u64) {
        if answers {
            self.signer_away_s.store(0, Ordering::SeqCst);
        } else {
            self.signer_away_s
                .compare_exchange(0, now_s.max(1), Ordering::SeqCst, Ordering::SeqCst)
                .ok();
        }
    }
}
