//! Whether the relay works. One that failed is asked again after a pause that grows, so that neither
//! the relay nor the log is flooded, and the log says once that it failed and once that it is back.

use fleeti_core::foreign::Foreign;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pauses after failures, seconds. The last one is that of all further failures.
const PAUSES_S: [u64; 4] = [5, 30, 120, 600];

/// Whether the relay works.
#[derive(Default)]
pub(super) struct Health(Mutex<Option<Down>>);

/// A relay that failed.
#[derive(Clone, Copy)]
struct Down {
    failures: usize,
    until: Instant,
}

impl Health {
    /// Whether the relay is not to be asked now.
    pub(super) fn waits(&self) -> bool {
        self.with(|down| down.is_some_and(|down| Instant::now() < down.until))
    }

    /// The relay can be reached.
    pub(super) fn works(&self) {
        if self.with(Option::take).is_some() {
            tracing::warn!("the relay of e-mail can be reached again");
        }
    }

    /// The relay cannot be reached. What fails within a pause is of the same failure.
    pub(super) fn failed(&self, why: &str) {
        let now = Instant::now();
        let is_new = self.with(|down| {
            let failures = match down {
                Some(down) if now < down.until => return false,
                Some(down) => down.failures + 1,
                None => 1,
            };
            *down = Some(Down { failures, until: now + pause(failures) });
            failures == 1
        });
        if is_new {
            tracing::warn!("e-mails wait for their relay: {}", Foreign::log(why));
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Down>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The pause after a number of failures, from 1.
fn pause(failures: usize) -> Duration {
    let last = PAUSES_S.len() - 1;
    Duration::from_secs(PAUSES_S[failures.saturating_sub(1).min(last)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_end_when_the_relay_is_back() {
        let all: Vec<_> = (1..=6).map(|n| pause(n).as_secs()).collect();
        assert_eq!(all, [5, 30, 120, 600, 600, 600]);
        let health = Health::default();
        assert!(!health.waits());
        health.failed("one");
        health.failed("of the same failure");
        assert!(health.waits());
        assert_eq!(health.with(|down| down.map(|down| down.failures)), Some(1));
        health.works();
        assert!(!health.waits());
    }
}
