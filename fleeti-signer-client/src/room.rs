//! Space on the disk of the audit log, as the signing service sees it.

use serde::{Deserialize, Serialize};

/// Below this many free bytes, or [`FLOOR_OF_100`] percent of a smaller disk, the disk is nearly
/// full; below twice as much it is getting full. The floor of the server's own disk is the same.
pub const FLOOR_MAX: u64 = 512 << 20;
/// Percent of the disk.
pub const FLOOR_OF_100: u64 = 5;

/// Space on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes that are free for the signing service.
    pub free_bytes: u64,
    /// Size of the disk, bytes.
    pub total_bytes: u64,
}

impl Room {
    /// A warning, if little is free.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let floor = FLOOR_MAX.min(self.total_bytes / 100 * FLOOR_OF_100);
        let how = match self.free_bytes {
            free if free < floor => "nearly full",
            free if free < floor.saturating_mul(2) => "getting full",
            _ => return None,
        };
        Some(format!(
            "the disk of the audit log is {how}: {} MiB are free; once it is full, the signing service signs nothing, so no \
             device enrolls and no certificate is renewed; free some space there",
            self.free_bytes >> 20
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_announced_before_it_is_full() {
        let said = |free_bytes, total_bytes| Room { free_bytes, total_bytes }.warning();
        let (mib, gib) = (1 << 20, 1 << 30);
        assert_eq!(said(1025 * mib, 100 * gib), None);
        assert!(said(1023 * mib, 100 * gib).is_some_and(|w| w.contains("getting full: 1023 MiB")));
        assert!(said(511 * mib, 100 * gib).is_some_and(|w| w.contains("nearly full: 511 MiB")));
        // A small disk.
        assert_eq!(said(11 * mib, 100 * mib), None);
        assert!(said(9 * mib, 100 * mib).is_some_and(|w| w.contains("getting full")));
        assert!(said(0, 100 * mib).is_some_and(|w| w.contains("nearly full")));
    }
}
