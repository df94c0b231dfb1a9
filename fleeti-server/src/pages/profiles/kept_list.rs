//! Which entries of a changed list are entries of the list before.

use fleeti_core::profile::ListRule;
use serde_json::Value;

/// An entry of a changed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// The entry of the old list at this index, unchanged.
    Same(usize),
    /// The entry of the old list at this index, which says something else now.
    Changed(usize),
    /// No entry of the old list.
    New,
}

/// For each entry of the new list, where it comes from. No entry of the old list is used twice.
pub fn matched(rule: ListRule, old: &[Value], new: &[Value]) -> Vec<Placed> {
    let mut is_used = vec![false; old.len()];
    let mut placed = vec![Placed::New; new.len()];
    // The same entry at the same place comes first, so that of two equal ones each stays.
    for (at, wanted) in new.iter().enumerate() {
        if old.get(at) == Some(wanted) {
            (is_used[at], placed[at]) = (true, Placed::Same(at));
        }
    }
    let mut look = |fits: &dyn Fn(&Value, &Value) -> bool, found: fn(usize) -> Placed| {
        for (at, wanted) in new.iter().enumerate() {
            if placed[at] != Placed::New {
                continue;
            }
            let from = old.iter().zip(&is_used).position(|(old, used)| !used && fits(old, wanted));
            if let Some(from) = from {
                (is_used[from], placed[at]) = (true, found(from));
            }
        }
    };
    look(&|old, new| old == new, Placed::Same);
    if let ListRule::Keyed(field) = rule {
        look(
            &|old, new| old.get(field).is_some() && old.get(field) == new.get(field),
            Placed::Changed,
        );
    }
    if old.len() == new.len() {
        for (at, (placed, is_used)) in placed.iter_mut().zip(&is_used).enumerate() {
            if *placed == Placed::New && !is_used {
                *placed = Placed::Changed(at);
            }
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(rule: ListRule, old: &Value, new: &Value) -> Vec<Placed> {
        matched(rule, old.as_array().unwrap(), new.as_array().unwrap())
    }

    #[test]
    fn an_entry_is_found_by_what_it_says_its_key_or_its_place() {
        use Placed::{Changed, New, Same};
        let texts = |old, new| of(ListRule::Joined, &old, &new);
        assert_eq!(texts(json!(["a", "b"]), json!(["b", "c", "a"])), [Same(1), New, Same(0)]);
        assert_eq!(texts(json!(["a", "b"]), json!(["a", "c"])), [Same(0), Changed(1)]);
        assert_eq!(texts(json!(["a", "a"]), json!(["a"])), [Same(0)]);
        assert_eq!(texts(json!([]), json!(["a"])), [New]);
        let (old, new) = (json!([{"n": 1}, {"n": 2}]), json!([{"n": 2, "x": 0}, {"n": 1}, {}]));
        assert_eq!(of(ListRule::Keyed("n"), &old, &new), [Changed(1), Same(0), New]);
    }
}
