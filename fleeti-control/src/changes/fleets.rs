//! The fleets of what changed, looked up once for all clients that watch.

use crate::context::Context;
use crate::error::Error;
use crate::{devices, rollouts};
use fleeti_core::id::{DeviceId, FleetId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer counts: as long as a credential without another look at it, so that a client
/// learns of a device that left its fleet for a second at most.
const KEPT: Duration = Duration::from_secs(1);
/// Maximum number of answers.
const MAX: usize = 10_000;

/// What has a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Object {
    Device(DeviceId),
    Rollout(String),
}

/// The fleets of objects; `None` for one that does not exist.
#[derive(Default)]
pub(crate) struct Fleets(Mutex<Known>);

#[derive(Default)]
struct Known {
    since: Option<Instant>,
    fleets: HashMap<Object, Option<FleetId>>,
}

impl Fleets {
    fn known(&self, object: &Object) -> Option<Option<FleetId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(object, Instant::now())
    }
    fn keep(&self, object: Object, fleet: Option<FleetId>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(object, fleet, Instant::now());
    }
}

impl Known {
    fn get(&self, object: &Object, now: Instant) -> Option<Option<FleetId>> {
        let is_new = self.since.is_some_and(|since| now.duration_since(since) < KEPT);
        self.fleets.get(object).filter(|_| is_new).cloned()
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

/// The fleet of an object.
pub(super) async fn of(cx: &Context, object: Object) -> Result<Option<FleetId>, Error> {
    if let Some(known) = cx.fleets.known(&object) {
        return Ok(known);
    }
    let fleet = match &object {
        Object::Device(id) => devices::fleet_of(cx, id).await?,
        Object::Rollout(id) => rollouts::fleet_of(cx, id).await?,
    };
    cx.fleets.keep(object, fleet.clone());
    Ok(fleet)
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
        for n in 0..2 * MAX {
            known.insert(object(n), None, begun + KEPT);
            assert!(known.fleets.len() <= MAX);
        }
    }
}
