//! The rate at which artifacts are sent to all devices together. Downloads take turns: each waits for
//! its turn before it reads a piece, so those in flight get equal parts, and one whose client does not
//! read asks for none.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What may be sent at once after a pause. It covers the precision of timers.
const BURST: Duration = Duration::from_millis(100);

/// A rate that downloads share (GCRA, as in ITU-T I.371).
#[derive(Debug)]
pub struct Share {
    bytes_per_s: u64,
    /// When the turns that were given are over.
    over_at: Mutex<Instant>,
}

impl Share {
    /// A rate in bytes per second; `None` for 0, which is no limit.
    #[must_use]
    pub fn of(bytes_per_s: u64, now: Instant) -> Option<Self> {
        (bytes_per_s > 0).then(|| Self { bytes_per_s, over_at: Mutex::new(now) })
    }

    /// The turn of a piece of this size: when it may be sent, after all that asked before.
    pub fn turn(&self, now: Instant, bytes: u64) -> Instant {
        let cost = self.cost(bytes);
        let mut over_at = self.over_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = (*over_at).max(now.checked_sub(BURST).unwrap_or(now));
        *over_at = begins.checked_add(cost).unwrap_or(begins);
        begins
    }

    /// Takes back a turn that was not used: a client that asks for turns and leaves delays no other.
    pub fn give_back(&self, bytes: u64) {
        let cost = self.cost(bytes);
        let mut over_at = self.over_at.lock().unwrap_or_else(PoisonError::into_inner);
        *over_at = over_at.checked_sub(cost).unwrap_or(*over_at);
    }

    fn cost(&self, bytes: u64) -> Duration {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const RATE: u64 = 1 << 20;

    /// A download: when it is ready for its next piece, and what it was sent.
    #[derive(Clone, Copy)]
    struct Download {
        piece: u64,
        /// What its client needs for a piece, beside the limit.
        client: Duration,
        sent: u64,
    }

    /// Lets downloads run for a time of a clock that only the test moves. Returns what each was sent.
    fn run(downloads: &mut [Download], lasts: Duration) -> u64 {
        let began = Instant::now();
        let share = Share::of(RATE, began).unwrap();
        // Downloads that ask for their turn: when, who asked first, and its number.
        let mut asks = BTreeMap::new();
        asks.extend((0..downloads.len()).map(|n| ((began, n), n)));
        let (mut total, mut asked) = (0, downloads.len());
        while let Some(((now, _), n)) = asks.pop_first() {
            let download = &mut downloads[n];
            let sent_at = share.turn(now, download.piece).max(now);
            if sent_at <= began + lasts {
                download.sent += download.piece;
                total += download.piece;
                asks.insert((sent_at + download.client, asked), n);
                asked += 1;
            }
        }
        total
    }

    #[test]
    fn no_limit_is_no_share() {
        assert!(Share::of(0, Instant::now()).is_none());
    }

    #[test]
    fn a_slow_client_takes_nothing_from_the_others() {
        let fast = Download { piece: 64 << 10, client: Duration::ZERO, sent: 0 };
        let slow = Download { client: Duration::from_secs(5), ..fast };
        let mut downloads = [fast, fast, slow];
        let total = run(&mut downloads, Duration::from_secs(20));
        let expected = RATE * 20;
        assert!(total >= expected - (3 << 16), "the whole rate is used: {total}");
        let [a, b, c] = downloads.map(|download| download.sent);
        assert!(a.abs_diff(b) <= 64 << 10, "{a} and {b}");
        assert!((4 << 16..=6 << 16).contains(&c), "it gets what it reads: {c}");
    }

    #[test]
    fn turns_that_are_not_used_delay_nobody() {
        let began = Instant::now();
        let share = Share::of(RATE, began).unwrap();
        for _ in 0..100_000 {
            share.turn(began, 64 << 10);
            share.give_back(64 << 10);
        }
        assert!(share.turn(began, 64 << 10) <= began);
    }

    #[test]
    fn a_pause_is_no_credit() {
        let began = Instant::now();
        let share = Share::of(RATE, began).unwrap();
        let later = began + Duration::from_secs(3600);
        let mut now = later;
        for _ in 0..16 {
            now = share.turn(now, 64 << 10).max(now);
        }
        // 15 pieces are over when the last one begins.
        let took = now - later;
        assert!(took >= Duration::from_secs(15) / 16 - BURST, "{took:?}");
    }

    /// However many downloads there are, and whatever their pieces: all together they get no more than
    /// the rate, and each has as many turns as the others.
    #[test]
    fn downloads_share_the_rate() {
        let piece = |n: u64| 1000 + n * 7919 % 64_000;
        for count in [1, 2, 3, 7, 40] {
            let alone = |n| Download { piece: piece(n), client: Duration::ZERO, sent: 0 };
            let mut downloads: Vec<_> = (0..count).map(alone).collect();
            let total = run(&mut downloads, Duration::from_secs(30));
            let burst = RATE / 10;
            assert!(total <= RATE * 30 + burst + 65_000, "{count}: {total} bytes");
            assert!(total >= RATE * 30 - 65_000 * count, "{count}: {total} bytes");
            let turns: Vec<_> = downloads.iter().map(|d| d.sent / d.piece).collect();
            let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
            assert!(most - least <= 1, "{turns:?}");
        }
    }
}
