//! The requests with keys that are being worked on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Maximum number of requests of an account. Their connections may have ended, so no other limit
/// holds for them.
pub const IN_PROGRESS_MAX: usize = 32;

/// The account of each request, by its id.
#[derive(Default)]
pub(crate) struct InProgress(Mutex<HashMap<String, String>>);

/// The place of a request among them, until it is dropped.
pub(super) struct Place<'c> {
    all: &'c InProgress,
    id: String,
}

/// Why a request gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The same request has one.
    IsTheSame,
    /// The account has [`IN_PROGRESS_MAX`].
    TooMany,
}

impl InProgress {
    /// A place for a request of an account.
    pub(super) fn enter(&self, id: &str, account: &str) -> Result<Place<'_>, NoPlace> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(id) {
            return Err(NoPlace::IsTheSame);
        }
        if all.values().filter(|of| *of == account).count() >= IN_PROGRESS_MAX {
            return Err(NoPlace::TooMany);
        }
        all.insert(id.to_owned(), account.to_owned());
        Ok(Place { all: self, id: id.to_owned() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_place_until_it_is_dropped() {
        let all = InProgress::default();
        let place = all.enter("a", "alice").ok().unwrap();
        assert_eq!(all.enter("a", "alice").err(), Some(NoPlace::IsTheSame));
        assert!(all.enter("b", "alice").is_ok());
        drop(place);
        assert!(all.enter("a", "alice").is_ok());
        assert!(all.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_account_fills_its_own_share_only() {
        let all = InProgress::default();
        let places: Vec<_> = (0..IN_PROGRESS_MAX)
            .map(|n| all.enter(&n.to_string(), "alice").ok().unwrap())
            .collect();
        assert_eq!(all.enter("more", "alice").err(), Some(NoPlace::TooMany));
        assert!(all.enter("more", "bob").is_ok());
        drop(places);
        assert!(all.enter("more", "alice").is_ok());
    }
}
