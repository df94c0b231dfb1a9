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
        let cost = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let cost = Duration::from_micros(cost / self.bytes_per_s);
        let paid_at = {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *paid_at = (*paid_at).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *paid_at
        };
        tokio::time::sleep_until(paid_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transfers_share_a_rate_also_after_a_pause() {
        let (pace, began) = (Pace::of(128), Instant::now());
        let transfer = || async {
            for _ in 0..40 {
                pace.take(64 << 10).await;
            }
        };
        tokio::join!(transfer(), transfer());
        // 80 chunks of 64 KiB are 5 MiB: 40 seconds.
        let took = began.elapsed();
        assert!((39..=41).contains(&took.as_secs()), "{took:?}");
        // A pause is no credit beyond a quarter of a second.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let began = Instant::now();
        for _ in 0..20 {
            pace.take(64 << 10).await;
        }
        let took = began.elapsed();
        assert!((9..=10).contains(&took.as_secs()), "{took:?}");
    }
}
