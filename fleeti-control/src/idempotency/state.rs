//! The requests with keys that are being worked on.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The ids of the requests.
#[derive(Default)]
pub(crate) struct InProgress(Mutex<HashSet<String>>);

/// The place of a request among them, until it is dropped.
pub(super) struct Place<'c> {
    all: &'c InProgress,
    id: String,
}

impl InProgress {
    /// A place for a request; `None` while the same request has one.
    pub(super) fn enter(&self, id: &str) -> Option<Place<'_>> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        is_new.then(|| Place { all: self, id: id.to_owned() })
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
        let place = all.enter("a").unwrap();
        assert!(all.enter("a").is_none());
        assert!(all.enter("b").is_some());
        drop(place);
        assert!(all.enter("a").is_some());
        assert!(all.0.lock().unwrap().is_empty());
    }
}
