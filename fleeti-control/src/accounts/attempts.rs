//! Limits on attempts to sign in. They count by the address that attempts, and by address and
//! account: an attacker exhausts only the attempts of their own address, and locks nobody else out.
//! Attempts from many addresses wait for the one computation of a hash, in turns.

use crate::error::Error;
use crate::places::Origin;
use fleeti_core::wire::problem::Code;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The time within which attempts are counted, in seconds.
pub const WINDOW_S: u64 = 15 * 60;
/// Failed attempts of an address within that time, over all accounts.
pub const PER_ADDRESS: u32 = 30;
/// Failed attempts of an address at one account.
pub const PER_ACCOUNT: u32 = 8;
/// Maximum number of counters. With more, the oldest end first.
const COUNTERS_MAX: usize = 8192;

#[derive(Debug, Clone, Copy)]
struct Counter {
    began_s: u64,
    failed: u32,
}

/// Failed attempts by address, and by address and account.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<(Origin, Option<String>), Counter>>);

impl Attempts {
    /// Counts an attempt as failed before the password is looked at, so that concurrent guesses are
    /// counted as well.
    ///
    /// # Errors
    /// [`Code::TooMany`].
    pub(super) fn begin(&self, from: Origin, account: &str, now_s: u64) -> Result<(), Error> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = [((from, None), PER_ADDRESS), ((from, Some(account.to_owned())), PER_ACCOUNT)];
        for (key, max) in &limits {
            if let Some(counter) = all.get(key).filter(|c| now_s.abs_diff(c.began_s) < WINDOW_S)
                && counter.failed >= *max
            {
                let again_s = (counter.began_s + WINDOW_S).saturating_sub(now_s);
                let text = "too many failed attempts to sign in from this address";
                return Err(Error::new(Code::TooMany, text)
                    .hint("try again in 15 minutes, or from another address")
                    .retry_after(again_s.clamp(1, WINDOW_S)));
            }
        }
        if all.len() + limits.len() > COUNTERS_MAX {
            all.retain(|_, counter| now_s.abs_diff(counter.began_s) < WINDOW_S);
        }
        if all.len() + limits.len() > COUNTERS_MAX
            && let Some(oldest) = all.values().map(|c| c.began_s).min()
        {
            all.retain(|_, counter| counter.began_s > oldest);
        }
        for (key, _) in limits {
            let counter = all.entry(key).or_insert(Counter { began_s: now_s, failed: 0 });
            if now_s.abs_diff(counter.began_s) >= WINDOW_S {
                *counter = Counter { began_s: now_s, failed: 0 };
            }
            counter.failed += 1;
        }
        Ok(())
    }

    /// Forgets a counted attempt, and all of this account, as it succeeded.
    pub(super) fn succeeded(&self, from: Origin, account: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(from, Some(account.to_owned())));
        if let Some(counter) = all.get_mut(&(from, None)) {
            counter.failed = counter.failed.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn an_attacker_exhausts_the_attempts_of_his_own_address_only() {
        let (attempts, attacker, alice) =
            (Attempts::default(), origin("192.0.2.1"), origin("192.0.2.2"));
        for _ in 0..PER_ACCOUNT {
            attempts.begin(attacker, "alice", 1000).unwrap();
        }
        assert_eq!(attempts.begin(attacker, "alice", 1000).unwrap_err().code(), Code::TooMany);
        attempts.begin(alice, "alice", 1000).unwrap();
        // Other accounts, until the address has none left.
        let more = PER_ADDRESS - PER_ACCOUNT;
        (0..more).for_each(|n| attempts.begin(attacker, &n.to_string(), 1000).unwrap());
        assert!(attempts.begin(attacker, "bob", 1000).is_err());
        attempts.begin(attacker, "bob", 1000 + WINDOW_S).unwrap();
    }

    #[test]
    fn an_attempt_that_succeeded_does_not_count() {
        let (attempts, office) = (Attempts::default(), origin("2001:db8::1"));
        for _ in 0..10 * PER_ADDRESS {
            attempts.begin(office, "alice", 1000).unwrap();
            attempts.succeeded(office, "alice");
        }
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let attempts = Attempts::default();
        for n in 0..3 * COUNTERS_MAX as u64 {
            let from = std::net::IpAddr::from((0xc000_0000_u32 + n as u32).to_be_bytes());
            attempts.begin(from.into(), "alice", 1000 + n / 100).unwrap();
        }
        assert!(attempts.0.lock().unwrap().len() <= COUNTERS_MAX);
    }
}
