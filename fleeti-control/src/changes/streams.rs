//! The open streams of each account: one account cannot take the connections of all others.

use crate::accounts::actor::Actor;
use crate::error::Error;
use fleeti_core::wire::problem::Code;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of open streams of an account: of the API, of pages, and of logs of builds.
pub const STREAMS_MAX: usize = 128;

/// Seconds after which a refused client may try again.
const RETRY_S: u64 = 30;

/// The number of open streams by account.
#[derive(Default)]
pub struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// A place for a stream, until it is dropped.
#[must_use]
pub struct Place {
    streams: Arc<Mutex<HashMap<String, usize>>>,
    account: String,
}

impl Streams {
    /// A place for one more stream of an account.
    ///
    /// # Errors
    /// [`Code::TooMany`] if the account has [`STREAMS_MAX`].
    pub fn open(&self, by: &Actor) -> Result<Place, Error> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = by.account();
        let number = open.get(account).copied().unwrap_or_default();
        if number >= STREAMS_MAX {
            let text = format!("{account} has {number} open event streams, the most allowed");
            return Err(Error::new(Code::TooMany, text)
                .hint("close pages or programs that watch")
                .retry_after(RETRY_S));
        }
        open.insert(account.to_owned(), number + 1);
        Ok(Place { streams: Arc::clone(&self.0), account: account.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = open.get_mut(&self.account) {
            *number -= 1;
            if *number == 0 {
                open.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_limit_of_its_own_and_gets_its_places_back() {
        let streams = Streams::default();
        let (one, other) = (Actor::of_process("one"), Actor::of_process("other"));
        let mut places: Vec<_> = (0..STREAMS_MAX).map(|_| streams.open(&one).unwrap()).collect();
        assert_eq!(streams.open(&one).err().map(|e| e.code()), Some(Code::TooMany));
        drop(streams.open(&other).unwrap());
        places.pop();
        drop(streams.open(&one).unwrap());
        drop(places);
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
