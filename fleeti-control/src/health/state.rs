//! The state of the server's parts.

use super::disk;
use fleeti_signer_client::room::Room;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The state of the server's parts.
#[derive(Default)]
pub struct Health {
    /// Since when the signing service does not answer, Unix seconds; 0 while it does.
    pub(crate) signer_away_s: AtomicU64,
    /// Number of acts that wait for the audit log.
    pub(crate) acts: AtomicU64,
    /// Free and total bytes of the disk, and the floor.
    pub disk: disk::Watched,
    /// The disk of the audit log, if the signing service told.
    signer_room: Mutex<Option<Room>>,
}

impl Health {
    /// Whether the signing service did not answer the last request.
    #[must_use]
    pub fn is_signer_away(&self) -> bool {
        self.signer_away_s.load(Ordering::SeqCst) > 0
    }
    /// Records the space on the disk of the audit log.
    pub(crate) fn signer_room(&self, room: Option<Room>) {
        *self.signer_room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }
    /// A warning, if there is little space on the disk of the audit log.
    #[must_use]
    pub fn signer_disk_warning(&self) -> Option<String> {
        let room = *self.signer_room.lock().unwrap_or_else(PoisonError::into_inner);
        room.and_then(|room| room.warning())
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
