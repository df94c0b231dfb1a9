//! The groups of a rollout with a disruption budget, while a change steps their devices. Only the
//! groups of the devices that change are read and written.

use crate::error::Error;
use fleeti_core::rollout::DevicePhase;
use fleeti_core::rollout::budget::{Budget, Group, Room};
use fleeti_core::rollout::device::Device;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};
use std::collections::{BTreeMap, BTreeSet};

/// Groups that a change is about.
#[derive(Debug, Default)]
pub(super) struct Groups {
    known: BTreeMap<String, Group>,
    /// Those with a device that changed its phase.
    changed: BTreeSet<String>,
}

impl Groups {
    /// Reads the groups of these devices.
    pub(super) async fn read<'a>(
        &mut self,
        tx: &mut Tx<'_>,
        rollout: &StoredRollout,
        devices: impl Iterator<Item = &'a Device>,
    ) -> Result<(), Error> {
        if budget_of(rollout).is_none() {
            return Ok(());
        }
        let wanted: BTreeSet<&str> = devices
            .filter_map(|device| device.group.as_deref())
            .filter(|group| !self.known.contains_key(*group))
            .collect();
        if !wanted.is_empty() {
            let wanted: Vec<_> = wanted.into_iter().collect();
            self.known.extend(store::budgets::of(tx, &rollout.id, &wanted).await?);
        }
        Ok(())
    }

    /// Whether the group of a device has a place. One that was not read has none.
    pub(super) fn room(&self, budget: Option<&Budget>, device: &Device) -> Room {
        let (Some(budget), Some(name)) = (budget, &device.group) else { return Room::Free };
        self.known.get(name).map_or(Room::Full, |group| group.room(budget))
    }

    /// A device changed its phase.
    pub(super) fn moved(&mut self, name: Option<&String>, from: &DevicePhase, to: &DevicePhase) {
        if let Some(name) = name
            && let Some(group) = self.known.get_mut(name)
        {
            *group = group.moved(from, to);
            self.changed.insert(name.clone());
        }
    }

    /// The groups with a device that changed its phase, and how many places of each are free.
    pub(super) fn free(&self, budget: &Budget) -> Vec<(String, usize)> {
        let free = |name: &String| Some((name.clone(), self.known.get(name)?.free(budget)));
        self.changed.iter().filter_map(free).filter(|(_, free)| *free > 0).collect()
    }

    /// Stores what changed.
    pub(super) async fn store(&self, tx: &mut Tx<'_>, rollout: &str) -> Result<(), Error> {
        for name in &self.changed {
            if let Some(group) = self.known.get(name) {
                store::budgets::set(tx, rollout, name, *group).await?;
            }
        }
        Ok(())
    }
}

/// The budget of a rollout.
pub(super) fn budget_of(rollout: &StoredRollout) -> Option<&Budget> {
    rollout.plan.as_ref().and_then(|plan| plan.budget.as_ref())
}
