//! Rate limits per device: messages, invalid messages, and log lines.
//!
//! The server reads a device beyond its quota more slowly (TCP back-pressure), and drops nothing.
//! The counters outlast a session, so a device gains nothing by reconnecting.

use fleeti_core::foreign::Foreign;
use fleeti_core::id::DeviceId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of devices whose recent conduct is remembered.
const REMEMBERED_MAX: usize = 10_000;
/// A device gets one log line within this time.
const LINE: Duration = Duration::from_secs(60);
/// Connections of a device that may wait for the end of its penalty. More are refused.
const WAITING_MAX: u8 = 2;

/// A rate with a burst (GCRA, as in ITU-T I.371): one event per `interval`, and at
/// most `burst` together.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Time between two events.
    pub interval: Duration,
    /// Maximum number of events at once.
    pub burst: u32,
}

/// The state of a rate limit: the time at which its whole burst is available again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket(Instant);

impl Bucket {
    pub const fn full(now: Instant) -> Self {
        Self(now)
    }

    /// When the next event is allowed.
    pub fn ready_at(&self, rate: Rate) -> Option<Instant> {
        self.0.checked_sub(rate.interval.saturating_mul(rate.burst.saturating_sub(1)))
    }

    /// Counts an event. Returns `false` if it came too early.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let is_in_time = self.ready_at(rate).is_none_or(|at| at <= now);
        self.0 = self.0.max(now) + rate.interval;
        is_in_time
    }

    fn is_full(&self, now: Instant) -> bool {
        self.0 <= now
    }
}

/// The quotas of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotas {
    /// Of messages.
    pub messages: Bucket,
    /// Of messages that the server cannot parse.
    pub invalid: Bucket,
}

impl Quotas {
    const fn full(now: Instant) -> Self {
        Self { messages: Bucket::full(now), invalid: Bucket::full(now) }
    }

    fn are_full(&self, now: Instant) -> bool {
        self.messages.is_full(now) && self.invalid.is_full(now)
    }
}

#[derive(Debug, Clone, Copy)]
struct Conduct {
    quotas: Quotas,
    penalty: Instant,
    waiting: u8,
    line: Option<Instant>,
    unsaid: u64,
}

impl Conduct {
    fn is_forgettable(&self, now: Instant) -> bool {
        let is_quiet = self.line.is_none_or(|at| at + LINE <= now);
        self.quotas.are_full(now) && self.penalty <= now && self.waiting == 0 && is_quiet
    }
}

/// Recent conduct by device.
#[derive(Default)]
pub struct Conducts(Mutex<HashMap<DeviceId, Conduct>>);

/// A connection that waits for the end of its device's penalty.
pub(super) struct Waiting<'a> {
    conducts: &'a Conducts,
    device: DeviceId,
    /// End of the penalty.
    pub until: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(conduct) = self.conducts.lock().get_mut(&self.device) {
            conduct.waiting = conduct.waiting.saturating_sub(1);
        }
    }
}

impl Conducts {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Conduct>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        device: &DeviceId,
        now: Instant,
        change: impl FnOnce(&mut Conduct) -> T,
    ) -> Option<T> {
        let mut all = self.lock();
        if let Some(conduct) = all.get_mut(device) {
            return Some(change(conduct));
        }
        if all.len() >= REMEMBERED_MAX {
            all.retain(|_, conduct| !conduct.is_forgettable(now));
        }
        if all.len() >= REMEMBERED_MAX {
            return None;
        }
        let new =
            Conduct { quotas: Quotas::full(now), penalty: now, waiting: 0, line: None, unsaid: 0 };
        Some(change(all.entry(device.clone()).or_insert(new)))
    }

    /// The quotas of a device.
    pub(super) fn quotas(&self, device: &DeviceId, now: Instant) -> Quotas {
        self.lock().get(device).map_or_else(|| Quotas::full(now), |conduct| conduct.quotas)
    }

    /// Stores the quotas after a session.
    pub(super) fn keep(&self, device: &DeviceId, quotas: Quotas, now: Instant) {
        if !quotas.are_full(now) {
            self.change(device, now, |conduct| conduct.quotas = quotas);
        }
    }

    /// Makes a device wait before its next session. A longer penalty stays.
    pub fn punish(&self, device: &DeviceId, penalty: Duration, now: Instant) {
        self.change(device, now, |conduct| conduct.penalty = conduct.penalty.max(now + penalty));
    }

    /// The penalty of a device, or `None`.
    ///
    /// # Errors
    /// When [`WAITING_MAX`] of its connections wait already.
    pub(super) fn penalty(
        &self,
        device: &DeviceId,
        now: Instant,
    ) -> Result<Option<Waiting<'_>>, ()> {
        let mut all = self.lock();
        let Some(conduct) = all.get_mut(device).filter(|c| c.penalty > now) else {
            return Ok(None);
        };
        if conduct.waiting >= WAITING_MAX {
            return Err(());
        }
        conduct.waiting += 1;
        Ok(Some(Waiting { conducts: self, device: device.clone(), until: conduct.penalty }))
    }

    /// Logs a problem of a device, once a minute. Counts the others.
    pub fn say(&self, device: &DeviceId, detail: &str, now: Instant) {
        let unsaid = self.change(device, now, |conduct| {
            if conduct.line.is_some_and(|at| now < at + LINE) {
                conduct.unsaid += 1;
                return None;
            }
            conduct.line = Some(now);
            Some(std::mem::take(&mut conduct.unsaid))
        });
        match unsaid.flatten() {
            Some(0) => tracing::warn!(%device, "{}", Foreign::log(detail)),
            Some(more) => {
                tracing::warn!(%device, "{} ({more} more like it were not logged)", Foreign::log(detail))
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval: Duration::from_secs(1), burst: 3 };

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        for n in 0..3 {
            assert!(bucket.take(RATE, start), "{n}");
        }
        assert_eq!(bucket.ready_at(RATE), Some(start + Duration::from_secs(1)));
        assert!(bucket.take(RATE, start + Duration::from_secs(1)));
        assert!(!bucket.take(RATE, start + Duration::from_millis(1999)));
    }

    #[test]
    fn a_new_session_begins_with_what_the_last_one_left() {
        let (conducts, device): (_, DeviceId) = (Conducts::default(), "dev-a".parse().unwrap());
        let now = Instant::now();
        let mut quotas = conducts.quotas(&device, now);
        (0..3).for_each(|_| assert!(quotas.messages.take(RATE, now)));
        conducts.keep(&device, quotas, now);
        assert!(!conducts.quotas(&device, now).messages.take(RATE, now));
        assert!(conducts.quotas(&"dev-b".parse().unwrap(), now).messages.take(RATE, now));
    }

    #[test]
    fn a_penalty_is_waited_for_by_few_and_ends() {
        let (conducts, device): (_, DeviceId) = (Conducts::default(), "dev-a".parse().unwrap());
        let now = Instant::now();
        assert!(conducts.penalty(&device, now).is_ok_and(|p| p.is_none()));
        conducts.punish(&device, Duration::from_secs(10), now);
        let waiting: Vec<_> =
            (0..WAITING_MAX).map(|_| conducts.penalty(&device, now).unwrap().unwrap()).collect();
        assert!(conducts.penalty(&device, now).is_err());
        drop(waiting);
        assert!(conducts.penalty(&device, now).is_ok_and(|p| p.is_some()));
        let later = now + Duration::from_secs(11);
        assert!(conducts.penalty(&device, later).is_ok_and(|p| p.is_none()));
    }

    #[test]
    fn many_devices_do_not_fill_the_memory() {
        let (conducts, now) = (Conducts::default(), Instant::now());
        for n in 0..REMEMBERED_MAX + 100 {
            conducts.punish(&format!("dev-{n}").parse().unwrap(), Duration::from_secs(1), now);
        }
        assert_eq!(conducts.lock().len(), REMEMBERED_MAX);
        conducts.punish(
            &"dev-new".parse().unwrap(),
            Duration::from_secs(1),
            now + Duration::from_secs(2),
        );
        assert_eq!(conducts.lock().len(), 1);
    }
}
