//! Delays between attempts.

use std::time::Duration;

/// A connection that lasted this long counts as successful.
pub const STABLE: Duration = Duration::from_secs(60);

/// Exponential backoff with full jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The backoff after this many failures.
    #[must_use]
    pub const fn after(failures: u32) -> Self {
        Self { failures }
    }
    /// Maximum delay.
    pub const MAX: Duration = Duration::from_secs(300);
    /// Waits, longer after each failure.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.ceiling().mul_f64(rand::random_range(0.3..1.0))).await;
    }
    /// The upper bound of the next delay; each is twice the previous one, up to [`Self::MAX`].
    fn ceiling(&mut self) -> Duration {
        let ceiling = Duration::from_secs(1 << self.failures.min(9)).min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        ceiling
    }
    /// Resets to the first delay.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
    /// Records how long a connection lasted. [`STABLE`] resets to the first delay. A server that
    /// accepts connections and closes them at once is retried like one that accepts none.
    pub fn lived(&mut self, time: Duration) {
        if time >= STABLE {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_thrown_out_at_once_fifty_times_waits_longer_and_longer() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..50 {
            backoff.lived(Duration::from_secs(1));
            waits.push(backoff.ceiling());
        }
        assert!(
            waits.is_sorted()
                && waits[0] == Duration::from_secs(1)
                && waits[8] == Duration::from_secs(256)
        );
        assert_eq!(waits[49], Backoff::MAX);
        backoff.lived(STABLE - Duration::from_millis(1));
        assert_eq!(backoff.ceiling(), Backoff::MAX);
        backoff.lived(STABLE);
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }
}
