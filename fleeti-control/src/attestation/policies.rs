//! The appraisal policies of all fleets, in memory.

use crate::error::Error;
use arc_swap::ArcSwap;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::FleetId;
use fleeti_store::{Db, attestations};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The policies of all fleets, kept equal to the database.
pub struct Policies {
    own: ArcSwap<HashMap<FleetId, Policy>>,
    usual: Policy,
    changes: AtomicU64,
}

impl Policies {
    /// Loads the policies from the database.
    pub async fn load(db: &Db) -> Result<Self, Error> {
        Ok(Self {
            own: ArcSwap::from_pointee(attestations::policies(db.pool()).await?),
            usual: Policy::usual(),
            changes: AtomicU64::new(0),
        })
    }

    /// The policy of a fleet.
    #[must_use]
    pub fn of(&self, fleet: &FleetId) -> Policy {
        self.own.load().get(fleet).unwrap_or(&self.usual).clone()
    }

    /// Whether all fleets have the default policy.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        self.own.load().is_empty()
    }

    /// Counts a change of what devices may run, so that concurrent appraisals are repeated.
    pub fn touch(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// A counter that grows with every change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, fleet: &FleetId, policy: &Policy) {
        self.own.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(fleet.clone(), policy.clone());
            all
        });
        self.touch();
    }
}
