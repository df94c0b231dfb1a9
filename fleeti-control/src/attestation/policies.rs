//! The appraisal policies of all fleets, in memory.

use crate::error::Error;
use arc_swap::ArcSwap;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::FleetId;
use fleeti_store::{self as store, Db};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The policies of all fleets, kept equal to the database.
pub(super) struct Policies {
    own: ArcSwap<HashMap<FleetId, Policy>>,
    usual: Policy,
    changes: AtomicU64,
}

impl Policies {
    /// Loads the policies from the database.
    pub(super) async fn load(db: &Db) -> Result<Self, Error> {
        Ok(Self {
            own: ArcSwap::from_pointee(store::policies::all(db.pool()).await?),
            usual: Policy::usual(),
            changes: AtomicU64::new(0),
        })
    }

    /// The policy of a fleet.
    pub(super) fn of(&self, fleet: &FleetId) -> Policy {
        self.own.load().get(fleet).unwrap_or(&self.usual).clone()
    }

    /// Whether all fleets have the default policy.
    pub(super) fn are_usual(&self) -> bool {
        self.own.load().is_empty()
    }

    /// Counts a change of what devices may run, so that concurrent appraisals are repeated.
    pub(super) fn touch(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// A counter that grows with every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, fleet: &FleetId, policy: &Policy) {
        self.own.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(fleet.clone(), policy.clone());
            all
        });
        self.touch();
    }
}
