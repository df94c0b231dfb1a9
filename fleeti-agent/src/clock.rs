//! What time it is, for a device whose clock may be dead or set by somebody else.
//!
//! The *floor* is the latest time that somebody trusted has signed; it only rises, and it is kept
//! on the data partition. Certificates and deadlines are looked at by the clock where the clock can
//! be right: it is not behind the floor, and not further ahead of it than a device lies in a
//! drawer. A clock outside of that is wrong, and the floor takes its place.

use crate::{kept, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::canonical::sha256_hex;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far a clock may be ahead of the last signed time: six years, because no intermediate lasts
/// longer.
pub const AHEAD_S_MAX: u64 = 6 * 366 * 86_400;
/// A clock that is behind by less is not worth a word: signed times come from another clock.
const BEHIND_S: u64 = 300;
/// The floor is written when it has risen by so much; a power cut loses less than that.
const STEP_S: u64 = 60;

/// Where the system's clock comes from: Unix seconds.
pub type Source = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of a device.
#[derive(Clone)]
pub struct Clock {
    path: PathBuf,
    source: Source,
    /// The floor, once it was read, and what of it is on the disk.
    floor: Arc<Mutex<Option<Floor>>>,
}

#[derive(Clone, Copy)]
struct Floor {
    at_s: u64,
    kept_s: u64,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Clock {
    /// The system's clock, with the floor that is kept in this file.
    #[must_use]
    pub fn system(path: PathBuf) -> Self {
        Self::with_source(
            path,
            Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
        )
    }

    /// Another clock.
    #[must_use]
    pub fn with_source(path: PathBuf, source: Source) -> Self {
        Self { path, source, floor: Arc::default() }
    }

    fn with_floor<T>(&self, act: impl FnOnce(&mut Floor) -> T) -> T {
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        act(floor.get_or_insert_with(|| {
            let kept_s = kept::read(&self.path, parse).unwrap_or(0);
            Floor { at_s: kept_s, kept_s }
        }))
    }

    /// The latest signed time that is known, Unix seconds; 0 for none.
    #[must_use]
    pub fn floor_s(&self) -> u64 {
        self.with_floor(|floor| floor.at_s)
    }

    /// What the system's clock says, right or wrong.
    #[must_use]
    pub fn system_s(&self) -> u64 {
        (self.source)()
    }

    /// Whether the system's clock can be right.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        is_plausible(self.system_s(), self.floor_s())
    }

    /// The time, Unix seconds: the system's clock where it can be right, else the floor.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        now(self.system_s(), self.floor_s())
    }

    /// Seconds by which the system's clock is wrong, where it cannot be right; negative where it is
    /// behind.
    #[must_use]
    pub fn wrong_by_s(&self) -> Option<i64> {
        let (system_s, floor_s) = (self.system_s(), self.floor_s());
        let is_worth_it = floor_s.saturating_sub(system_s) > BEHIND_S || system_s > floor_s;
        (!is_plausible(system_s, floor_s) && is_worth_it)
            .then(|| i64::try_from(i128::from(system_s) - i128::from(floor_s)).unwrap_or(i64::MAX))
    }

    /// Somebody whose signature was verified says that it was this late, Unix seconds. Not further
    /// ahead than a clock may be: one wrong word must not end every certificate.
    pub fn raise(&self, signed_s: u64) {
        let path = &self.path;
        self.with_floor(|floor| {
            if floor.at_s > 0 && signed_s > floor.at_s.saturating_add(AHEAD_S_MAX) {
                return tracing::error!(
                    "a signed time is {} days after the last one: it is not believed",
                    (signed_s - floor.at_s) / 86_400
                );
            }
            floor.at_s = floor.at_s.max(signed_s);
            if floor.at_s < floor.kept_s.saturating_add(STEP_S) {
                return;
            }
            match write_durably(path, text(floor.at_s).as_bytes()) {
                Ok(()) => floor.kept_s = floor.at_s,
                Err(e) => tracing::error!("{}: {e}", path.display()),
            }
        });
    }

    /// When a certificate is looked at that says that it begins at `not_before_s`: now, or then,
    /// where that is later. It is somebody's word who is trusted that it is this late, and a clock
    /// that was dead is behind even after it was set to the floor. What had ended by now stays
    /// ended.
    #[must_use]
    pub fn verification_s(&self, not_before_s: u64) -> u64 {
        let now_s = self.now_s();
        now_s.max(not_before_s.min(now_s.saturating_add(AHEAD_S_MAX)))
    }
}

/// A clock that is a little behind is no dead one: the floor is the time then, and this is no
/// reason to doubt more.
fn is_plausible(system_s: u64, floor_s: u64) -> bool {
    floor_s == 0 || (floor_s..=floor_s.saturating_add(AHEAD_S_MAX)).contains(&system_s)
}

fn now(system_s: u64, floor_s: u64) -> u64 {
    if is_plausible(system_s, floor_s) { system_s } else { floor_s }
}

fn text(at_s: u64) -> String {
    format!("{at_s} {}\n", &sha256_hex(at_s.to_string().as_bytes())[..16])
}

/// With a check of its own: a flipped bit must not be a time in the far future.
fn parse(bytes: &[u8]) -> Result<u64> {
    let found = std::str::from_utf8(bytes)?;
    let at_s = found.split(' ').next().context("no time")?.parse()?;
    ensure!(text(at_s) == found, "the time and its check differ");
    Ok(at_s)
}

/// The latest time that the image itself knows: its root is not younger than it.
///
/// # Errors
/// When the image has no root.
pub fn image_s(lib: &Path) -> Result<u64> {
    let root =
        fleeti_pki::certificate::from_pem(&std::fs::read_to_string(lib.join("trust/root.pem"))?)?;
    Ok(fleeti_pki::certificate::not_before_s(&root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const Y2026: u64 = 1_795_000_000;
    const DAY_S: u64 = 86_400;

    fn clock(path: &Path, at_s: u64) -> (Clock, Arc<AtomicU64>) {
        let system = Arc::new(AtomicU64::new(at_s));
        let shared = Arc::clone(&system);
        (
            Clock::with_source(path.to_owned(), Arc::new(move || shared.load(Ordering::Relaxed))),
            system,
        )
    }

    #[test]
    fn only_signed_times_raise_the_floor_and_it_survives_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("time-floor");
        let (first, system) = clock(&path, 2_240_000_000);
        first.raise(Y2026);
        assert_eq!(
            (first.floor_s(), first.now_s()),
            (Y2026, Y2026),
            "a clock in 2040 is not believed"
        );
        assert!(first.wrong_by_s().unwrap() > 0);
        system.store(0, Ordering::Relaxed);
        assert_eq!(
            (first.now_s(), first.wrong_by_s()),
            (Y2026, Some(-i64::try_from(Y2026).unwrap()))
        );
        system.store(Y2026 + DAY_S, Ordering::Relaxed);
        assert_eq!((first.now_s(), first.wrong_by_s()), (Y2026 + DAY_S, None), "it is right again");
        // No word of farewell.
        let (again, _) = clock(&path, 0);
        assert_eq!(again.floor_s(), Y2026);
        again.raise(Y2026 - DAY_S);
        assert_eq!(again.floor_s(), Y2026, "it never falls");
        again.raise(Y2026 + AHEAD_S_MAX + 1);
        assert_eq!(again.floor_s(), Y2026, "one wrong word does not end every certificate");
    }

    #[test]
    fn a_flipped_bit_in_the_file_is_no_time_in_the_far_future() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("time-floor");
        clock(&path, 0).0.raise(Y2026);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(parse(&bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(parse(&good[..at]).is_err(), "cut at {at}");
        }
        std::fs::write(&path, "9999999999 0000000000000000\n").unwrap();
        assert_eq!(clock(&path, 0).0.floor_s(), 0);
        assert_eq!(kept::unreported(dir.path()).len(), 1);
    }

    #[test]
    fn a_certificate_that_ended_before_the_floor_is_not_revived_by_any_clock() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, system) = clock(&dir.path().join("time-floor"), Y2026);
        clock.raise(Y2026);
        let (begins, ends) = (Y2026 - 9 * DAY_S, Y2026 - 2 * DAY_S);
        for at in [0, begins, begins + DAY_S, ends, Y2026 - 1, Y2026, 2_240_000_000, u64::MAX] {
            system.store(at, Ordering::Relaxed);
            assert!(clock.verification_s(begins) > ends, "clock {at}");
        }
        // One of now is good on a dead clock, also after years in a drawer and once it was set to
        // the floor; one that begins too far ahead is not.
        let later = Y2026 + 700 * DAY_S;
        for at in [0, Y2026, Y2026 + DAY_S] {
            system.store(at, Ordering::Relaxed);
            assert_eq!(clock.verification_s(later), later, "clock {at}");
        }
        system.store(0, Ordering::Relaxed);
        assert!(clock.verification_s(Y2026 + AHEAD_S_MAX + DAY_S) < Y2026 + AHEAD_S_MAX + DAY_S);
    }
}
