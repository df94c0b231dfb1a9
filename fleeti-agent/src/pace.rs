//! The highest rate of a download: a token bucket, by the time at which it is full again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What may be received at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// A rate that all transfers of a download share.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    /// When what was received so far is paid for.
    paid_at: Mutex<Instant>,
}

impl Pace {
    /// A rate in KiB per second; 0 counts as 1.
    #[must_use]
    pub fn of(kib_s: u32) -> Self {
        let bytes_per_s = u64::from(kib_s.max(1)) * 1024;
        Self { bytes_per_s, paid_at: Mutex::new(Instant::now()) }
    }

    /// Counts bytes that were received, and waits until more may be.
    pub async fn take(&self, bytes: usize) {
        tokio::time::sleep_until(self.paid_at(Instant::now(), bytes)).await;
    }

    /// Counts bytes that were received now. Returns when more may be.
    fn paid_at(&self, now: Instant, bytes: usize) -> Instant {
        let cost = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let cost = Duration::from_micros(cost / self.bytes_per_s);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_at = (*paid_at).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        *paid_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a transfer of 64 KiB at a time ends, if it waits as it must.
    fn transfer(pace: &Pace, began: Instant, chunks: usize) -> Instant {
        (0..chunks).fold(began, |now, _| now.max(pace.paid_at(now, 64 << 10)))
    }

    #[test]
    fn transfers_share_a_rate_and_a_pause_is_no_credit() {
        let (pace, began) = (Pace::of(128), Instant::now());
        // 80 chunks of 64 KiB are 5 MiB: 40 seconds. Two transfers that take turns need as long.
        let first = transfer(&pace, began, 40);
        let ended = transfer(&pace, began, 40).max(first);
        let took = (ended - began).as_secs_f64();
        assert!((39.5..=40.5).contains(&took), "{took}");
        let later = ended + Duration::from_secs(3600);
        let took = (transfer(&pace, later, 20) - later).as_secs_f64();
        assert!((9.5..=10.0).contains(&took), "{took}");
    }
}
