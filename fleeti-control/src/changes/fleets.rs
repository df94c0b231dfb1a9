//! The fleets of what changed, looked up once for all clients that watch.

use crate::error::Error;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::Event;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer counts. A record of an object ends it before any client gets the record
/// ([`Fleets::forget`]), so this is only for what is not recorded.
const KEPT: Duration = Duration::from_secs(1);
/// Maximum number of answers.
const MAX: usize = 10_000;

/// What has a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Object {
    Device(DeviceId),
    Rollout(String),
}

impl Object {
    fn of(change: &Event) -> Option<Self> {
        match change {
            Event::Device { id } => Some(Self::Device(id.clone())),
            Event::Rollout { id } => Some(Self::Rollout(id.clone())),
            Event::Build { .. }
            | Event::BuildLog { .. }
            | Event::Profile { .. }
            | Event::Fleet { .. }
            | Event::Release { .. }
            | Event::Alerts => None,
        }
    }
}

/// The fleets of objects; `None` for one that does not exist.
#[derive(Default)]
pub(crate) struct Fleets {
    known: Mutex<Known>,
    /// Held while one is looked up: one event wakes all streams, and the first of them looks.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    since: Option<Instant>,
    /// Grows with each [`Known::forget`]: an answer that was looked up before does not count after.
    forgotten: u64,
    fleets: HashMap<Object, Option<FleetId>>,
}

impl Fleets {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Forgets what changed. Call this before clients get the changes.
    pub(super) fn forget<'a>(&self, changes: impl Iterator<Item = &'a Event>) {
        self.known().forget(changes.filter_map(Object::of));
    }
}

impl Known {
    fn get(&self, object: &Object, now: Instant) -> Option<Option<FleetId>> {
        let is_new = self.since.is_some_and(|since| now.duration_since(since) < KEPT);
        self.fleets.get(object).filter(|_| is_new).cloned()
    }
    fn forget(&mut self, objects: impl Iterator<Item = Object>) {
        self.forgotten += 1;
        objects.for_each(|object| drop(self.fleets.remove(&object)));
    }
    /// Forgets every older answer with the first one, so that none is older than [`KEPT`].
    fn insert(&mut self, object: Object, fleet: Option<FleetId>, now: Instant) {
        let has_ended = self.since.is_none_or(|since| now.duration_since(since) >= KEPT);
        if has_ended || self.fleets.len() >= MAX {
            self.fleets.clear();
            self.since = Some(now);
        }
        self.fleets.insert(object, fleet);
    }
}

impl Fleets {
    /// The fleet of an object, which `look` reads from the database.
    pub(super) async fn of(
        &self,
        object: Object,
        look: impl AsyncFnOnce(&Object) -> Result<Option<FleetId>, Error>,
    ) -> Result<Option<FleetId>, Error> {
        if let Some(known) = self.known().get(&object, Instant::now()) {
            return Ok(known);
        }
        let _looking = self.looking.lock().await;
        let forgotten = {
            let known = self.known();
            if let Some(fleet) = known.get(&object, Instant::now()) {
                return Ok(fleet);
            }
            known.forgotten
        };
        let fleet = look(&object).await?;
        let mut known = self.known();
        if known.forgotten == forgotten {
            known.insert(object, fleet.clone(), Instant::now());
        }
        Ok(fleet)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_a_second_and_their_number_is_limited() {
        let (mut known, begun) = (Known::default(), Instant::now());
        let object = |n: usize| Object::Rollout(n.to_string());
        let fleet: Option<FleetId> = Some("demo".parse().unwrap());
        assert_eq!(known.get(&object(0), begun), None);
        known.insert(object(0), fleet.clone(), begun);
        known.insert(object(1), None, begun + KEPT / 2);
        assert_eq!(known.get(&object(0), begun + KEPT / 2), Some(fleet.clone()));
        assert_eq!(known.get(&object(1), begun + KEPT / 2), Some(None));
        assert_eq!(known.get(&object(0), begun + KEPT), None);
        assert_eq!(known.get(&object(1), begun + KEPT), None);
        known.insert(object(1), fleet.clone(), begun + KEPT);
        assert_eq!(known.get(&object(0), begun + KEPT), None);
        known.insert(object(0), fleet.clone(), begun + KEPT);
        let before = known.forgotten;
        known.forget([object(0)].into_iter());
        assert_eq!(known.get(&object(0), begun + KEPT), None);
        assert_eq!(known.get(&object(1), begun + KEPT), Some(fleet));
        assert_ne!(known.forgotten, before);
        for n in 0..2 * MAX {
            known.insert(object(n), None, begun + KEPT);
            assert!(known.fleets.len() <= MAX);
        }
    }
}
