//! What the profiles area keeps in memory. Only this area reads it.

use fleeti_build::waiting::WaitingFix;
use fleeti_core::id::Line;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Seconds for which a number of devices is kept: the editor asks for it with each change of a
/// profile, and counting reads every device.
const KEPT_S: u64 = 30;
/// Largest number of lines of which the number of devices is kept.
const LINES_MAX: usize = 256;

/// What the profiles area keeps in memory.
#[derive(Default)]
pub(crate) struct ProfileState {
    /// By line.
    counts: Mutex<HashMap<String, Count>>,
    /// Fixes that a build lacks, by its id, and when they were found, Unix seconds.
    fixes: Mutex<HashMap<String, (u64, Vec<WaitingFix>)>>,
}

/// A number of devices.
#[derive(Clone, Copy)]
struct Count {
    devices: u64,
    /// When they were counted, Unix seconds.
    at_s: u64,
}

impl Count {
    fn is_new(self, now_s: u64) -> bool {
        now_s.checked_sub(self.at_s).is_some_and(|age_s| age_s < KEPT_S)
    }
}

impl ProfileState {
    /// The fixes that a build lacks, if they were found less than 30 s ago.
    pub(super) fn fixes(&self, build: &str, now_s: u64) -> Option<Vec<WaitingFix>> {
        let fixes = self.fixes.lock().unwrap_or_else(PoisonError::into_inner);
        let (at_s, found) = fixes.get(build)?;
        now_s.checked_sub(*at_s).is_some_and(|age_s| age_s < KEPT_S).then(|| found.clone())
    }

    /// Keeps the fixes that a build lacks.
    pub(super) fn found(&self, build: &str, fixes: &[WaitingFix], now_s: u64) {
        let mut kept = self.fixes.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= LINES_MAX {
            kept.clear();
        }
        kept.insert(build.to_owned(), (now_s, fixes.to_vec()));
    }

    /// The number of devices of a line, if they were counted less than 30 s ago.
    pub(super) fn devices(&self, line: &Line, now_s: u64) -> Option<u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(line.as_str()).filter(|count| count.is_new(now_s)).map(|count| count.devices)
    }

    /// Keeps the number of devices of a line.
    pub(super) fn counted(&self, line: &Line, devices: u64, now_s: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= LINES_MAX {
            counts.retain(|_, count| count.is_new(now_s));
        }
        if counts.len() >= LINES_MAX {
            counts.clear();
        }
        counts.insert(line.as_str().to_owned(), Count { devices, at_s: now_s });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_devices_is_kept_for_half_a_minute() {
        let state = ProfileState::default();
        let line: Line = "kiosk".parse().unwrap();
        assert_eq!(state.devices(&line, 100), None);
        state.counted(&line, 7, 100);
        assert_eq!(state.devices(&line, 129), Some(7));
        assert_eq!(state.devices(&line, 130), None);
        assert_eq!(state.devices(&line, 99), None, "the clock was set back");
    }

    #[test]
    fn few_lines_are_kept() {
        let state = ProfileState::default();
        for i in 0..=LINES_MAX {
            let line: Line = format!("kiosk-{i}").parse().unwrap();
            state.counted(&line, 1, 100);
            assert_eq!(state.devices(&line, 100), Some(1));
            assert!(state.counts.lock().unwrap().len() <= LINES_MAX);
        }
    }
}
