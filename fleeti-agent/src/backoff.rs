//! How long to wait before another try.

use std::time::Duration;

/// Exponential backoff with full jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// As after so many failures.
    #[must_use]
    pub const fn after(failures: u32) -> Self {
        Self { failures }
    }
    /// Longest wait.
    pub const MAX: Duration = Duration::from_secs(300);
    /// Waits, longer after each failure.
    pub async fn wait(&mut self) {
        let ceiling = Duration::from_secs(1 << self.failures.min(9)).min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(ceiling.mul_f64(rand::random_range(0.3..1.0))).await;
    }
    /// The next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
