//! How a later source changes what an earlier one said.
//!
//! - A plain value replaces the earlier one.
//! - A table is merged field by field, a map key by key.
//! - A list of [`KEYED`] is merged entry by entry: entries with the same key are one entry.
//! - A list of [`WHOLE`] is one value, and replaces the earlier one.
//! - To every other list the new entries are appended; an entry that is there already is not
//!   repeated.

use super::document::{Node, Origin, Value};
use super::path;
use std::collections::BTreeMap;

/// Lists whose entries have a key, and the field that is the key. `[]` is an entry of a list.
pub(super) const KEYED: &[(&str, &str)] = &[
    ("users", "name"),
    ("groups", "name"),
    ("sudo", "name"),
    ("software.repositories", "name"),
    ("software.own", "name"),
    ("services", "name"),
    ("services[].drop_ins", "name"),
    ("timers", "service"),
    ("containers", "name"),
    ("network.interfaces", "name"),
    ("network.vlans", "name"),
    ("network.bridges", "name"),
    ("network.bonds", "name"),
    ("network.wifi", "ssid"),
    ("network.wireguard", "name"),
    ("network.wireguard[].peers", "public_key"),
    ("network.firewall.rules", "name"),
    ("files", "path"),
    ("secrets", "name"),
    ("site", "name"),
    ("state.directories", "path"),
    ("health_checks", "name"),
    ("diagnostics", "name"),
    ("support_keys", "name"),
];

/// Lists that are one value.
pub(super) const WHOLE: &[&str] = &[
    "sudo[].commands",
    "containers[].command",
    "containers[].ports",
    "containers[].volumes",
    "health_checks[].command",
    "diagnostics[].command",
    "network.interfaces[].addresses",
    "network.interfaces[].gateways",
    "network.firewall.rules[].ports",
    "network.firewall.rules[].from",
];

/// Fields that are not inherited.
pub(super) const OWN: &[&str] = &["schema", "name", "description", "extends", "remove"];

/// A plain value that two sources set differently.
pub(super) struct Conflict {
    pub(super) path: String,
    pub(super) first: Origin,
    pub(super) second: Origin,
}

/// The key of an entry.
pub(super) fn key<'a>(entry: &'a Node, field: &str) -> Option<&'a str> {
    match &entry.value {
        Value::Table(fields) => fields.get(field)?.text(),
        _ => None,
    }
}

/// The field that is the key of a list's entries.
pub(super) fn key_field(pattern: &str) -> Option<&'static str> {
    KEYED.iter().find(|(list, _)| *list == pattern).map(|(_, field)| *field)
}

/// Merges `over` into `base`. `pattern` is the path with `[]` for each entry of a list, `at` the
/// path as a person reads it.
pub(super) fn merge(base: &mut Node, over: Node, place: &Place<'_>, conflicts: &mut Vec<Conflict>) {
    match (&mut base.value, over.value) {
        (Value::Table(fields), Value::Table(new)) => {
            for (name, node) in new {
                match fields.get_mut(&name) {
                    Some(old) => merge(old, node, &place.field(&name), conflicts),
                    None => {
                        fields.insert(name, node);
                    }
                }
            }
        }
        (Value::List(items), Value::List(new)) if !WHOLE.contains(&place.pattern.as_str()) => {
            match key_field(&place.pattern) {
                Some(field) => merge_keyed(items, new, field, place, conflicts),
                None => append(items, new),
            }
        }
        (old, new) => {
            // A source that extends both decides between them.
            let is_descendant = place.is_descendant;
            conflicts.retain(|conflict| {
                conflict.path != place.path
                    || !is_descendant(over.origin.source, conflict.first.source)
                    || !is_descendant(over.origin.source, conflict.second.source)
            });
            let is_same = old.plain().is_some() && old.plain() == new.plain();
            if is_same {
                // The first source that says it stays its origin.
                return;
            }
            if let (Some(said), Some(_)) = (old.plain(), new.plain()) {
                if !is_descendant(over.origin.source, base.origin.source) {
                    conflicts.push(Conflict {
                        path: place.path.clone(),
                        first: base.origin.clone(),
                        second: over.origin.clone(),
                    });
                }
                base.replaced.push((base.origin.clone(), said));
            }
            base.origin = over.origin;
            base.value = new;
        }
    }
}

fn merge_keyed(
    items: &mut Vec<Node>,
    new: Vec<Node>,
    field: &str,
    place: &Place<'_>,
    conflicts: &mut Vec<Conflict>,
) {
    // Two entries of one source with the same key stay two entries: a rule reports them.
    let earlier: BTreeMap<String, usize> = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| Some((key(item, field)?.to_owned(), i)))
        .collect();
    for node in new {
        match key(&node, field).and_then(|key| Some((key.to_owned(), *earlier.get(key)?))) {
            Some((key, at)) => merge(&mut items[at], node, &place.entry(&key), conflicts),
            None => items.push(node),
        }
    }
}

fn append(items: &mut Vec<Node>, new: Vec<Node>) {
    let earlier: Vec<_> = items.iter().filter_map(|item| item.value.plain()).collect();
    items.extend(
        new.into_iter()
            .filter(|node| node.value.plain().is_none_or(|said| !earlier.contains(&said))),
    );
}

/// Where a merge is.
pub(super) struct Place<'a> {
    pattern: String,
    path: String,
    /// Whether the first source extends the second, at whatever distance.
    is_descendant: &'a dyn Fn(usize, usize) -> bool,
}

impl<'a> Place<'a> {
    pub(super) fn root(is_descendant: &'a dyn Fn(usize, usize) -> bool) -> Self {
        Self { pattern: String::new(), path: String::new(), is_descendant }
    }
    fn field(&self, name: &str) -> Self {
        Self {
            pattern: path::field(&self.pattern, name),
            path: path::field(&self.path, name),
            is_descendant: self.is_descendant,
        }
    }
    fn entry(&self, key: &str) -> Self {
        Self {
            pattern: format!("{}[]", self.pattern),
            path: format!("{}[{key}]", self.path),
            is_descendant: self.is_descendant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::shape::{PROFILE, Shape};

    fn lists(shape: &Shape, at: &str, out: &mut Vec<(String, bool, bool)>) {
        match shape {
            Shape::List(item) => {
                let key = key_field(at);
                let has_key = key.is_some_and(|key| item.field(key).is_some());
                out.push((at.to_owned(), matches!(**item, Shape::Table(_)), has_key));
                lists(item, &format!("{at}[]"), out);
            }
            Shape::Map(item) => lists(item, &format!("{at}.*"), out),
            Shape::Table(fields) => {
                fields.iter().for_each(|f| lists(&f.shape, &path::field(at, &f.name), out));
            }
            Shape::Text | Shape::Choice(_) | Shape::Integer(..) | Shape::Flag => {}
        }
    }

    #[test]
    fn every_list_of_tables_has_a_key_and_every_rule_a_list() {
        let mut found = Vec::new();
        lists(&PROFILE, "", &mut found);
        for (at, is_of_tables, has_key) in &found {
            assert_eq!(is_of_tables, has_key, "{at}");
        }
        let known = |list: &str| found.iter().any(|(at, ..)| at == list);
        assert!(KEYED.iter().all(|(list, _)| known(list)));
        assert!(WHOLE.iter().all(|list| known(list) && key_field(list).is_none()));
    }
}
