//! Pairing codes that are shown now, and the limits on them.

use crate::error::Error;
use crate::ledger::Ledger;
use crate::places::{Origin, Places};
use fleeti_core::enrollment::pairing::CODE_S;
use fleeti_core::wire::problem::Code;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Maximum number of waiting requests, in total and per address.
const WAITING_MAX: usize = 400;
const WAITING_PER_ADDRESS: usize = 100;
/// Maximum number of addresses whose codes are counted.
const ADDRESSES_MAX: usize = 4096;
/// Maximum number of wrong codes per minute, over all clients. At this rate a code out of 20^8 is
/// not guessed within its ten minutes.
pub(crate) const WRONG_PER_MINUTE: u32 = 10;

/// Counts events within a minute from the first one.
#[derive(Default)]
struct Minute {
    began_s: u64,
    count: u32,
}

impl Minute {
    fn at(&mut self, now_s: u64) -> u32 {
        if now_s.abs_diff(self.began_s) >= 60 {
            *self = Self { began_s: now_s, count: 0 };
        }
        self.count
    }
}

/// The in-memory state of pairing.
pub struct Pairing {
    given: Mutex<HashMap<Origin, Minute>>,
    /// Codes of the last ten minutes, by the address that requested them.
    pub(super) codes: Mutex<Codes>,
    wrong: Mutex<Minute>,
    /// Notifies waiting requests that a code was entered.
    pub(super) admitted: Notify,
    /// Places of waiting requests.
    pub(super) waiting: Arc<Places<Origin>>,
}

impl Default for Pairing {
    fn default() -> Self {
        let waiting = Places::new(WAITING_MAX, WAITING_PER_ADDRESS);
        Self {
            given: Mutex::default(),
            codes: Mutex::default(),
            wrong: Mutex::default(),
            admitted: Notify::new(),
            waiting,
        }
    }
}

/// Tokens of pending enrollments, by address, and when they expire.
#[derive(Default)]
pub(crate) struct Codes {
    of: Ledger<Origin, String>,
    ends: VecDeque<Ends>,
}

/// When a code ends.
struct Ends {
    at_s: u64,
    origin: Origin,
    /// Its number in the ledger.
    number: u64,
}

impl Codes {
    /// Adds a pending enrollment. If there is no place left, evicts one of an address that has at
    /// least two more, and returns the evicted token.
    pub(crate) fn enter(
        &mut self,
        origin: Origin,
        token_sha256: &str,
        now_s: u64,
        all: usize,
    ) -> Result<Option<String>, Error> {
        while let Some(Ends { origin, number, .. }) =
            self.ends.pop_front_if(|ends| ends.at_s < now_s)
        {
            self.of.remove(&origin, number);
        }
        let mut lost = None;
        if self.of.total() >= all {
            let own = self.of.count(&origin);
            let fullest =
                self.of.fullest().filter(|(_, count)| *count > own + 1).map(|(of, _)| *of);
            let Some(fullest) = fullest else {
                return Err(Error::new(Code::Unavailable, "too many pending enrollments")
                    .hint("try again in ten minutes")
                    .retry_after(CODE_S));
            };
            lost = self.of.take_oldest(&fullest);
        }
        let number = self.of.add(&origin, token_sha256.to_owned());
        self.ends.push_back(Ends { at_s: now_s + CODE_S, origin, number });
        Ok(lost)
    }
}

fn limited(code: Code, what: &str) -> Error {
    Error::new(code, format!("too many {what} within a minute"))
        .hint("try again in a minute")
        .retry_after(60)
}

impl Pairing {
    /// Counts a code for an address. An address gets `max` codes per minute.
    pub(crate) fn give(&self, origin: Origin, max: u32, now_s: u64) -> Result<(), Error> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= ADDRESSES_MAX && !given.contains_key(&origin) {
            // An attacker with this many addresses is not limited here, but must not block others.
            given.clear();
        }
        let minute = given.entry(origin).or_default();
        if minute.at(now_s) >= max {
            return Err(limited(Code::TooMany, "codes for one address"));
        }
        minute.count += 1;
        Ok(())
    }

    /// Counts a code as wrong before the lookup, so that concurrent guesses are counted as well.
    pub(crate) fn guess(&self, now_s: u64) -> Result<Guess<'_>, Error> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.at(now_s) >= WRONG_PER_MINUTE {
            return Err(limited(Code::Unavailable, "wrong codes"));
        }
        wrong.count += 1;
        Ok(Guess(&self.wrong))
    }
}

/// A guess that counts as wrong until the code turns out to be right.
pub(crate) struct Guess<'a>(&'a Mutex<Minute>);

impl Guess<'_> {
    pub(crate) fn was_right(self) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.count = wrong.count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_many_codes_gives_way_to_one_with_few() {
        let (mut codes, now) = (Codes::default(), 1000);
        let [many, few] = ["192.0.2.1", "192.0.2.2"]
            .map(|a| Origin::from(a.parse::<std::net::IpAddr>().unwrap()));
        for token in ["a", "b", "c"] {
            assert_eq!(codes.enter(many, token, now, 3).unwrap(), None);
        }
        assert_eq!(codes.enter(many, "d", now, 3).unwrap_err().code(), Code::Unavailable);
        assert_eq!(codes.enter(few, "e", now, 3).unwrap().as_deref(), Some("a"));
        assert_eq!(
            codes.enter(few, "f", now, 3).unwrap_err().code(),
            Code::Unavailable,
            "as many, but for one"
        );
        // Their time is over.
        assert_eq!(codes.enter(many, "g", now + CODE_S + 1, 3).unwrap(), None);
        assert_eq!((codes.of.total(), codes.ends.len()), (1, 1));
    }

    #[test]
    fn guesses_are_counted_before_they_are_looked_up() {
        let pairing = Pairing::default();
        let mut guesses: Vec<_> =
            (0..WRONG_PER_MINUTE).map(|_| pairing.guess(1000).unwrap()).collect();
        assert_eq!(
            pairing.guess(1000).err().unwrap().code(),
            Code::Unavailable,
            "all at the same time"
        );
        guesses.pop().unwrap().was_right();
        assert!(pairing.guess(1000).is_ok() && pairing.guess(1000).is_err());
    }
}
