//! What the board keeps in memory.

use arc_swap::ArcSwapOption;
use fleeti_core::attestation::Level;
use fleeti_core::id::{FleetId, ReleaseName};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

/// After the numbers were made, this many times the time that it took passes before the next time.
const PART: u32 = 50;
/// A reader waits for new numbers in any case if the last ones are older.
const OLD: Duration = Duration::from_secs(60);

/// Numbers of devices that are not revoked, of a fleet or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// All of them.
    pub devices: u64,
    /// Those whose last update has not failed, that have none in progress, and raise no alarm.
    pub healthy: u64,
    /// Those with an update in progress.
    pub updating: u64,
    /// Those whose last update failed or was rolled back.
    pub failed: u64,
    /// Those that raise an alarm, or whose attestation failed.
    pub alarms: u64,
    /// Those that run another release than their desired one.
    pub drifting: u64,
    /// By attestation level, as in [`Level::ALL`].
    pub levels: [u64; Level::ALL.len()],
    /// By the release that they report; `None` before the first report.
    pub releases: HashMap<Option<ReleaseName>, u64>,
    /// Devices that are revoked. The other numbers do not contain them.
    pub revoked: u64,
}

impl Numbers {
    pub(super) fn add(&mut self, other: &Self) {
        self.devices += other.devices;
        self.healthy += other.healthy;
        self.updating += other.updating;
        self.failed += other.failed;
        self.alarms += other.alarms;
        self.drifting += other.drifting;
        self.revoked += other.revoked;
        for (sum, level) in self.levels.iter_mut().zip(other.levels) {
            *sum += level;
        }
        for (release, devices) in &other.releases {
            *self.releases.entry(release.clone()).or_default() += devices;
        }
    }

    /// The number of devices in an update state.
    pub(super) fn of_update(&mut self, update: &str) -> &mut u64 {
        match update {
            "idle" => &mut self.healthy,
            "rolled_back" | "failed" => &mut self.failed,
            _ => &mut self.updating,
        }
    }
}

/// Numbers by fleet.
pub(super) type Fleets = BTreeMap<FleetId, Numbers>;

/// Numbers, when they were made, and how long that took.
pub(super) struct Kept {
    pub(super) made: Instant,
    pub(super) took: Duration,
    pub(super) fleets: Fleets,
}

impl Kept {
    pub(super) fn is_new(&self) -> bool {
        self.made.elapsed() < self.took.saturating_mul(PART)
    }
    pub(super) fn is_old(&self) -> bool {
        self.made.elapsed() > OLD
    }
}

/// The last numbers.
#[derive(Default)]
pub(crate) struct BoardState {
    pub(super) kept: ArcSwapOption<Kept>,
    pub(super) making: Mutex<()>,
    pub(super) wanted: Notify,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_making_took_the_longer_the_numbers_are_kept() {
        let kept = |took_ms, age_s| Kept {
            made: Instant::now().checked_sub(Duration::from_secs(age_s)).unwrap(),
            took: Duration::from_millis(took_ms),
            fleets: Fleets::new(),
        };
        assert!(kept(100, 4).is_new() && !kept(100, 6).is_new());
        assert!(!kept(1, 1).is_new());
        assert!(kept(100, 61).is_old() && !kept(100, 59).is_old());
    }

    #[test]
    fn numbers_of_fleets_are_added() {
        let numbers = |devices| Numbers {
            devices,
            levels: [devices; 6],
            releases: HashMap::from([(None, devices)]),
            ..Numbers::default()
        };
        let mut sum = numbers(1);
        sum.add(&numbers(2));
        assert_eq!(sum, numbers(3));
    }
}
