//! When the index of a suite is made.

use std::time::Duration;

/// Interval at which the index is made.
const INTERVAL: Duration = Duration::from_secs(12 * 3600);
/// Time after which it is tried again when it failed; each further time twice as long.
const RETRY: Duration = Duration::from_secs(5 * 60);

/// When the index is made again.
#[derive(Debug)]
pub struct Pace {
    retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { retry: RETRY }
    }
}

impl Pace {
    /// Time until the index is made again, after it was made or that failed.
    pub fn after(&mut self, is_made: bool) -> Duration {
        if is_made {
            self.retry = RETRY;
            return INTERVAL;
        }
        let pause = self.retry;
        self.retry = (pause * 2).min(INTERVAL);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_soon_and_then_ever_later() {
        let mut pace = Pace::default();
        assert_eq!((pace.after(true), pace.after(false)), (INTERVAL, RETRY));
        assert_eq!((pace.after(false), pace.after(false)), (2 * RETRY, 4 * RETRY));
        assert!((0..20).map(|_| pace.after(false)).all(|pause| pause <= INTERVAL));
        assert_eq!((pace.after(true), pace.after(false)), (INTERVAL, RETRY));
    }
}
