//! Devices of several kinds, taken one after the other so that every prefix has each kind in
//! proportion: what the cohorts of a rollout are on average.

use super::parts::{Expected, Group};

/// Devices of several kinds.
pub(super) struct Mix {
    groups: Vec<Group>,
    taken: Vec<usize>,
    total: usize,
    all: usize,
}

impl Mix {
    pub(super) fn of(groups: Vec<Group>) -> Self {
        let total = groups.iter().map(|group| group.devices).sum();
        Self { taken: vec![0; groups.len()], groups, total, all: 0 }
    }
}

impl Iterator for Mix {
    type Item = Expected;

    /// The kind that is furthest behind its part.
    fn next(&mut self) -> Option<Expected> {
        self.all += 1;
        let behind = |(n, group): (usize, &Group)| {
            let taken = self.taken.get(n).copied().unwrap_or(group.devices);
            // How far it is behind, times the total: exact, without fractions.
            let due = group.devices as i128 * self.all as i128;
            let behind = due - taken as i128 * self.total as i128;
            (taken < group.devices).then_some((behind, n))
        };
        // The first of equals, so that devices that update come first.
        let (_, n) = self
            .groups
            .iter()
            .enumerate()
            .filter_map(behind)
            .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))?;
        if let Some(taken) = self.taken.get_mut(n) {
            *taken += 1;
        }
        self.groups.get(n).map(|group| group.expected)
    }
}
