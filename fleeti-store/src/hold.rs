//! How long transactions hold the writer. Others wait meanwhile, so the times must stay short.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Number of transactions that the figures are about: the newest ones.
const KEPT: usize = 1024;

/// How long the newest transactions have held the writer, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterHold {
    /// Number of transactions since the start.
    pub transactions: u64,
    /// Half of the newest 1024 took at most this long.
    pub median_us: u32,
    /// 99 % of them took at most this long.
    pub p99_us: u32,
    /// The longest of them.
    pub max_us: u32,
}

#[derive(Debug, Default)]
struct Ring {
    transactions: u64,
    times_us: Vec<u32>,
}

/// Keeps the times.
#[derive(Debug, Default)]
pub(crate) struct HoldTimes(Mutex<Ring>);

impl HoldTimes {
    /// Begins to measure. Dropping the timer ends it.
    pub(crate) fn begin(&self) -> Timer<'_> {
        Timer { times: self, since: Instant::now() }
    }

    fn add(&self, us: u32) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(ring.transactions).unwrap_or(0) % KEPT;
        ring.transactions += 1;
        match ring.times_us.get_mut(place) {
            Some(oldest) => *oldest = us,
            None => ring.times_us.push(us),
        }
    }

    /// The figures of now.
    pub(crate) fn figures(&self) -> WriterHold {
        let (transactions, mut times_us) = {
            let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (ring.transactions, ring.times_us.clone())
        };
        times_us.sort_unstable();
        let at = |percent: usize| {
            let place = (times_us.len() * percent).div_ceil(100).saturating_sub(1);
            times_us.get(place).copied().unwrap_or_default()
        };
        WriterHold { transactions, median_us: at(50), p99_us: at(99), max_us: at(100) }
    }
}

/// Measures one transaction.
#[derive(Debug)]
pub(crate) struct Timer<'a> {
    times: &'a HoldTimes,
    since: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.times.add(u32::try_from(self.since.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_of_the_newest_transactions() {
        let times = HoldTimes::default();
        assert_eq!(times.figures(), WriterHold::default());
        (1..=100).for_each(|us| times.add(us));
        let figures = times.figures();
        assert_eq!((figures.median_us, figures.p99_us, figures.max_us), (50, 99, 100));
        (0..KEPT).for_each(|_| times.add(7));
        let figures = times.figures();
        assert_eq!((figures.median_us, figures.p99_us, figures.max_us), (7, 7, 7));
        assert_eq!(figures.transactions, 100 + KEPT as u64);
    }
}
