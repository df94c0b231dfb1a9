//! Which entries of two maps differ.

use std::collections::{BTreeMap, BTreeSet};

/// Keys of two maps.
pub(super) struct Keys {
    pub(super) added: BTreeSet<String>,
    pub(super) removed: BTreeSet<String>,
    pub(super) changed: BTreeSet<String>,
}

pub(super) fn keys<T: PartialEq>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Keys {
    let changed = |(key, old): (&String, &T)| {
        after.get(key).is_some_and(|new| new != old).then(|| key.clone())
    };
    Keys {
        added: after.keys().filter(|key| !before.contains_key(*key)).cloned().collect(),
        removed: before.keys().filter(|key| !after.contains_key(*key)).cloned().collect(),
        changed: before.iter().filter_map(changed).collect(),
    }
}
