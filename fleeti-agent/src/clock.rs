//! The time on a device whose clock may have stopped or been set by an attacker.
//!
//! The *floor* is the latest time in a verified signature. It only rises, and is stored on the data
//! partition. The system clock counts while it is plausible: not behind the floor, and not further
//! ahead of it than a device may have been stored unused. Otherwise the clock is wrong, and the
//! floor is used instead, for certificates and deadlines.

use crate::{kept, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::canonical::sha256_hex;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far the clock may be ahead of the last signed time: six years, because no intermediate is
/// valid for longer.
pub const AHEAD_S_MAX: u64 = 6 * 366 * 86_400;
/// A clock that is less behind than this is not reported: signed times come from another clock.
const BEHIND_S: u64 = 300;
/// The floor is written after it has risen by this much, so a power cut loses less than that.
const STEP_S: u64 = 60;

/// The source of the system time: Unix seconds.
pub type Source = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of a device.
#[derive(Clone)]
pub struct Clock {
    path: PathBuf,
    source: Source,
    /// The floor once it was read, and how much of it is on disk.
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
    /// The system clock, with the floor in this file.
    #[must_use]
    pub fn system(path: PathBuf) -> Self {
        Self::with_source(
            path,
            Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
        )
    }

    /// A clock with another time source.
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

    /// The latest known signed time, Unix seconds; 0 for none.
    #[must_use]
    pub fn floor_s(&self) -> u64 {
        self.with_floor(|floor| floor.at_s)
    }

    /// The system time, right or wrong.
    #[must_use]
    pub fn system_s(&self) -> u64 {
        (self.source)()
    }

    /// Whether the system time is plausible.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        is_plausible(self.system_s(), self.floor_s())
    }

    /// The time, Unix seconds: the system time if it is plausible, else the floor.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        now(self.system_s(), self.floor_s())
    }

    /// Seconds by which an implausible system clock is wrong; negative if it is behind.
    #[must_use]
    pub fn wrong_by_s(&self) -> Option<i64> {
        let (system_s, floor_s) = (self.system_s(), self.floor_s());
        let is_worth_it = floor_s.saturating_sub(system_s) > BEHIND_S || system_s > floor_s;
        (!is_plausible(system_s, floor_s) && is_worth_it)
            .then(|| i64::try_from(i128::from(system_s) - i128::from(floor_s)).unwrap_or(i64::MAX))
    }

    /// Raises the floor to a verified signed time, Unix seconds. At most as far ahead as a clock
    /// may be: one wrong time must not make every certificate expire.
    pub fn raise(&self, signed_s: u64) {
        let path = &self.path;
        self.with_floor(|floor| {
            if floor.at_s > 0 && signed_s > floor.at_s.saturating_add(AHEAD_S_MAX) {
                return tracing::error!(
                    "ignored a signed time that is {} days after the last one",
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

    /// The time at which to verify a certificate that is valid from `not_before_s`: now or that
    /// time, whichever is later. The issuer is trusted that it is this late, and a clock that had
    /// stopped is behind even after it was set to the floor. What has expired by now stays expired.
    #[must_use]
    pub fn verification_s(&self, not_before_s: u64) -> u64 {
        let now_s = self.now_s();
        now_s.max(not_before_s.min(now_s.saturating_add(AHEAD_S_MAX)))
    }
}

/// A clock that is slightly behind has not stopped: the floor is then the time.
fn is_plausible(system_s: u64, floor_s: u64) -> bool {
    floor_s == 0 || (floor_s..=floor_s.saturating_add(AHEAD_S_MAX)).contains(&system_s)
}

fn now(system_s: u64, floor_s: u64) -> u64 {
    if is_plausible(system_s, floor_s) { system_s } else { floor_s }
}

fn text(at_s: u64) -> String {
    format!("{at_s} {}\n", &sha256_hex(at_s.to_string().as_bytes())[..16])
}

/// With a checksum: a flipped bit must not give a time in the far future.
fn parse(bytes: &[u8]) -> Result<u64> {
    let found = std::str::from_utf8(bytes)?;
    let at_s = found.split(' ').next().context("no time found")?.parse()?;
    ensure!(text(at_s) == found, "the checksum of the time is wrong");
    Ok(at_s)
}

/// The latest time that the image itself proves: that of its root.
///
/// # Errors
/// If the image has no root.
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
            "a clock in 2040 is not plausible"
        );
        assert!(first.wrong_by_s().unwrap() > 0);
        system.store(0, Ordering::Relaxed);
        assert_eq!(
            (first.now_s(), first.wrong_by_s()),
            (Y2026, Some(-i64::try_from(Y2026).unwrap()))
        );
        system.store(Y2026 + DAY_S, Ordering::Relaxed);
        assert_eq!(
            (first.now_s(), first.wrong_by_s()),
            (Y2026 + DAY_S, None),
            "it is plausible again"
        );
        // Without an orderly shutdown.
        let (again, _) = clock(&path, 0);
        assert_eq!(again.floor_s(), Y2026);
        again.raise(Y2026 - DAY_S);
        assert_eq!(again.floor_s(), Y2026, "it never falls");
        again.raise(Y2026 + AHEAD_S_MAX + 1);
        assert_eq!(again.floor_s(), Y2026, "one wrong time does not end every certificate");
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
        // A certificate that is valid now is accepted with a stopped clock, also after years of
        // storage and after the clock was set to the floor; one that starts too far ahead is not.
        let later = Y2026 + 700 * DAY_S;
        for at in [0, Y2026, Y2026 + DAY_S] {
            system.store(at, Ordering::Relaxed);
            assert_eq!(clock.verification_s(later), later, "clock {at}");
        }
        system.store(0, Ordering::Relaxed);
        assert!(clock.verification_s(Y2026 + AHEAD_S_MAX + DAY_S) < Y2026 + AHEAD_S_MAX + DAY_S);
    }
}
