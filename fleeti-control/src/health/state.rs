//! The state of the server's parts. Only this area reads it.

use super::disk;
use fleeti_signer_client::room::Room;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The state of the server's parts.
#[derive(Default)]
pub(crate) struct Health {
    /// Since when the signing service does not answer, Unix seconds; 0 while it does.
    signer_away_s: AtomicU64,
    /// Number of acts that wait for the audit log.
    pub(super) acts: AtomicU64,
    /// Free and total bytes of the disk, and the floor.
    pub(super) disk: disk::Watched,
    /// The disk of the audit log, if the signing service told.
    signer_room: Mutex<Option<Room>>,
}

impl Health {
    /// Since when the signing service does not answer, Unix seconds; `None` while it does.
    pub(super) fn signer_away_s(&self) -> Option<u64> {
        Some(self.signer_away_s.load(Ordering::SeqCst)).filter(|s| *s > 0)
    }
    /// Records the space on the disk of the audit log.
    pub(super) fn signer_room(&self, room: Option<Room>) {
        *self.signer_room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }
    /// A warning, if there is little space on the disk of the audit log.
    pub(super) fn signer_disk_warning(&self) -> Option<String> {
        let room = *self.signer_room.lock().unwrap_or_else(PoisonError::into_inner);
        room.and_then(|room| room.warning())
    }
    /// Records whether the signing service answered.
    pub(super) fn signer(&self, answers: bool, now_s: u64) {
        if answers {
            self.signer_away_s.store(0, Ordering::SeqCst);
        } else {
            self.signer_away_s
                .compare_exchange(0, now_s.max(1), Ordering::SeqCst, Ordering::SeqCst)
                .ok();
        }
    }
}
