//! Values by key, with the key that has the most values, and its oldest value.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// Values by key, in order of arrival. Every operation takes logarithmic time.
#[derive(Debug)]
pub struct Ledger<K, V> {
    of: HashMap<K, BTreeMap<u64, V>>,
    /// The last element is the key with the most values; among equals, the one with the oldest
    /// value.
    order: BTreeSet<Rank<K>>,
    total: usize,
    next: u64,
}

/// The place of a key in the order. The fields are compared in this order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<K> {
    /// Number of values.
    count: usize,
    /// Number of the oldest value.
    oldest: Reverse<u64>,
    key: K,
}

impl<K, V> Default for Ledger<K, V> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: BTreeSet::new(), total: 0, next: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord, V> Ledger<K, V> {
    /// Number of values.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Number of values of a key.
    #[must_use]
    pub fn count(&self, key: &K) -> usize {
        self.of.get(key).map_or(0, BTreeMap::len)
    }

    /// Adds a value. Returns its number.
    pub fn add(&mut self, key: &K, value: V) -> u64 {
        let number = self.next;
        self.next += 1;
        self.change(key, |values| values.insert(number, value));
        self.total += 1;
        number
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &K, number: u64) -> Option<V> {
        let removed = self.change(key, |values| values.remove(&number));
        self.total -= usize::from(removed.is_some());
        removed
    }

    /// The key with the most values, and their number; among equals, the key with the oldest value.
    #[must_use]
    pub fn fullest(&self) -> Option<(&K, usize)> {
        self.order.last().map(|rank| (&rank.key, rank.count))
    }

    /// The oldest value of a key, and its number.
    #[must_use]
    pub fn oldest(&self, key: &K) -> Option<(u64, &V)> {
        self.of.get(key)?.first_key_value().map(|(number, value)| (*number, value))
    }

    /// Removes the oldest value of a key.
    pub fn take_oldest(&mut self, key: &K) -> Option<V> {
        let number = self.oldest(key)?.0;
        self.remove(key, number)
    }

    /// All keys, each with the number of its oldest value.
    pub fn keys(&self) -> impl Iterator<Item = (&K, u64)> {
        self.order.iter().map(|rank| (&rank.key, rank.oldest.0))
    }

    fn change<R>(&mut self, key: &K, change: impl FnOnce(&mut BTreeMap<u64, V>) -> R) -> R {
        let place = |values: &BTreeMap<u64, V>| {
            values.first_key_value().map(|(oldest, _)| Rank {
                count: values.len(),
                oldest: Reverse(*oldest),
                key: key.clone(),
            })
        };
        let values = self.of.entry(key.clone()).or_default();
        let before = place(values);
        let result = change(values);
        let after = place(values);
        if before != after {
            if let Some(before) = &before {
                self.order.remove(before);
            }
            match after {
                Some(after) => {
                    self.order.insert(after);
                }
                None => drop(self.of.remove(key)),
            }
        } else if before.is_none() {
            self.of.remove(key);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_is_who_has_the_most_and_of_equals_who_has_the_oldest() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.fullest(), None);
        let first = ledger.add(&"b", 'x');
        ledger.add(&"a", 'y');
        assert_eq!(ledger.fullest(), Some((&"b", 1)), "the oldest");
        ledger.add(&"a", 'z');
        assert_eq!(ledger.fullest(), Some((&"a", 2)));
        assert_eq!(ledger.take_oldest(&"a"), Some('y'));
        assert_eq!(ledger.fullest(), Some((&"b", 1)));
        assert_eq!((ledger.remove(&"b", first), ledger.remove(&"b", first)), (Some('x'), None));
        assert_eq!((ledger.fullest(), ledger.total(), ledger.count(&"b")), (Some((&"a", 1)), 1, 0));
        assert_eq!(ledger.take_oldest(&"b"), None);
        assert_eq!(ledger.take_oldest(&"a"), Some('z'));
        assert!(
            ledger.of.is_empty() && ledger.order.is_empty() && ledger.total() == 0,
            "nothing is left behind"
        );
    }
}
