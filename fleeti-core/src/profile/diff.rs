//! The difference of two profiles, in terms of the model.

use super::Profile;
use super::merge::{WHOLE, key_field};
use super::path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A field or an entry that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Path. An entry of a list is named by its key, as in `users[ops].shell`; an entry without a
    /// key belongs to the path of its list.
    pub path: String,
    /// The value before; `None` if there was none.
    pub before: Option<String>,
    /// The value after; `None` if there is none.
    pub after: Option<String>,
}

/// What differs between two profiles, ordered by path. A default that is written out does not
/// differ from one that is left out. Password hashes are not shown.
///
/// # Errors
/// [`serde_json::Error`] when a profile does not serialize.
pub fn diff(before: &Profile, after: &Profile) -> Result<Vec<Change>, serde_json::Error> {
    let (before, after) = (full(before)?, full(after)?);
    let mut changes = Vec::new();
    compare(&before, &after, "", "", &mut changes);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// A profile as JSON with every section, also those that have their defaults.
fn full(profile: &Profile) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(profile)?;
    let sections = [
        ("identity", serde_json::to_value(&profile.identity)?),
        ("software", serde_json::to_value(&profile.software)?),
        ("network", serde_json::to_value(&profile.network)?),
        ("kernel", serde_json::to_value(&profile.kernel)?),
        ("hardware", serde_json::to_value(&profile.hardware)?),
        ("security", serde_json::to_value(&profile.security)?),
        ("storage", serde_json::to_value(&profile.storage)?),
        ("state", serde_json::to_value(&profile.state)?),
        ("floors", serde_json::to_value(profile.floors)?),
        ("release_log", serde_json::to_value(profile.release_log)?),
        ("server_contact", serde_json::to_value(profile.server_contact)?),
        ("extension", serde_json::to_value(&profile.extension)?),
    ];
    // Parts of a section that have their defaults as well.
    let parts = [
        ("network", "dns", serde_json::to_value(&profile.network.dns)?),
        ("network", "time", serde_json::to_value(&profile.network.time)?),
        ("network", "proxy", serde_json::to_value(&profile.network.proxy)?),
        ("network", "firewall", serde_json::to_value(&profile.network.firewall)?),
        ("security", "ssh", serde_json::to_value(&profile.security.ssh)?),
        ("security", "passwords", serde_json::to_value(&profile.security.passwords)?),
        ("security", "audit", serde_json::to_value(&profile.security.audit)?),
        ("security", "usb_guard", serde_json::to_value(&profile.security.usb_guard)?),
    ];
    if let Some(fields) = value.as_object_mut() {
        for (name, section) in sections {
            fields.insert(name.to_owned(), section);
        }
        for (section, name, part) in parts {
            if let Some(fields) = fields.get_mut(section).and_then(Value::as_object_mut) {
                fields.insert(name.to_owned(), part);
            }
        }
    }
    Ok(value)
}

/// Compares two values. `pattern` is the path with `[]` for each entry of a list.
fn compare(before: &Value, after: &Value, pattern: &str, at: &str, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let (pattern, at) = (path::field(pattern, name), path::field(at, name));
                either(old.get(name), new.get(name), &pattern, &at, changes);
            }
        }
        (Value::Array(old), Value::Array(new)) if !WHOLE.contains(&pattern) => {
            match key_field(pattern) {
                Some(field) => compare_keyed((old, new), field, pattern, at, changes),
                None => {
                    let missing = |from: &[Value], value: &&Value| !from.contains(value);
                    for value in old.iter().filter(|value| missing(new, value)) {
                        changes.push(change(at, Some(value), None));
                    }
                    for value in new.iter().filter(|value| missing(old, value)) {
                        changes.push(change(at, None, Some(value)));
                    }
                }
            }
        }
        _ if before == after => {}
        _ => changes.push(change(at, Some(before), Some(after))),
    }
}

/// Compares what one of them may not have. A list or a flag that is left out is empty or false.
fn either(
    before: Option<&Value>,
    after: Option<&Value>,
    pattern: &str,
    at: &str,
    changes: &mut Vec<Change>,
) {
    let empty = |other: &Value| match other {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        _ => Value::Null,
    };
    match (before, after) {
        (Some(before), Some(after)) => compare(before, after, pattern, at, changes),
        (Some(before), None) => compare(before, &empty(before), pattern, at, changes),
        (None, Some(after)) => compare(&empty(after), after, pattern, at, changes),
        (None, None) => {}
    }
}

fn compare_keyed(
    (old, new): (&[Value], &[Value]),
    field: &str,
    pattern: &str,
    at: &str,
    changes: &mut Vec<Change>,
) {
    let key = |entry: &Value| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    let find = |list: &[Value], wanted: &Option<String>| {
        list.iter().position(|entry| key(entry) == *wanted && wanted.is_some())
    };
    let inner = format!("{pattern}[]");
    for entry in old {
        let name = key(entry);
        let at = format!("{at}[{}]", name.as_deref().unwrap_or_default());
        match find(new, &name) {
            Some(i) => compare(entry, &new[i], &inner, &at, changes),
            None => changes.push(change(&at, Some(entry), None)),
        }
    }
    for entry in new {
        let name = key(entry);
        if find(old, &name).is_none() {
            let at = format!("{at}[{}]", name.as_deref().unwrap_or_default());
            changes.push(change(&at, None, Some(entry)));
        }
    }
}

fn change(at: &str, before: Option<&Value>, after: Option<&Value>) -> Change {
    let show = |value: &Value| match value {
        Value::Null => None,
        _ if at.ends_with(".password_hash") => Some("(hidden)".to_owned()),
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => {
            let mut fields = fields.clone();
            if let Some(hash) = fields.get_mut("password_hash") {
                *hash = Value::from("(hidden)");
            }
            Some(Value::Object(fields).to_string())
        }
        other => Some(other.to_string()),
    };
    Change { path: at.to_owned(), before: before.and_then(show), after: after.and_then(show) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::check;
    use crate::profile::shape::{PROFILE, Shape};

    fn profile(more: &str) -> Profile {
        check(&format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}")).unwrap()
    }

    fn said(before: &str, after: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let changes = diff(&profile(before), &profile(after)).unwrap();
        changes.into_iter().map(|c| (c.path, c.before, c.after)).collect()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_profile_does_not_differ_from_itself_nor_from_its_written_out_defaults() {
        let everything = include_str!("rules/everything.toml");
        let everything = check(everything).unwrap();
        assert_eq!(diff(&everything, &everything).unwrap(), []);
        let defaults = "identity.keyboard = \"us\"\nnetwork.dns.over_tls = \"no\"\n\
                        security.ssh.forwarding = true\nstate.version = 1\n";
        assert!(said("", defaults).is_empty());
    }

    #[test]
    fn entries_are_found_by_their_keys_and_lists_are_compared_as_sets() {
        let before = "software.packages = [\"jq\", \"curl\"]\n\
                      [[users]]\nname = \"a\"\n[[users]]\nname = \"b\"\n";
        let after = "software.packages = [\"curl\", \"less\"]\n\
                     [[users]]\nname = \"b\"\nshell = \"/bin/sh\"\n[[users]]\nname = \"c\"\n";
        let found = said(before, after);
        let paths: Vec<_> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(
            paths,
            ["software.packages", "software.packages", "users[a]", "users[b].shell", "users[c]"]
        );
        assert_eq!(found[0], ("software.packages".into(), text("jq"), None));
        assert_eq!(found[1], ("software.packages".into(), None, text("less")));
        assert_eq!(found[3], ("users[b].shell".into(), text("/bin/bash"), text("/bin/sh")));
    }

    #[test]
    fn a_default_that_is_set_shows_the_default() {
        assert_eq!(
            said("", "identity.time_zone = \"Europe/Berlin\"\n"),
            [("identity.time_zone".into(), text("Etc/UTC"), text("Europe/Berlin"))]
        );
        assert_eq!(
            said("", "kernel.sysctl = {\"vm.swappiness\" = \"1\"}\n"),
            [("kernel.sysctl[\"vm.swappiness\"]".into(), None, text("1"))]
        );
    }

    #[test]
    fn every_table_of_the_model_is_compared_with_its_defaults() {
        fn tables(shape: &Shape, at: &str, out: &mut Vec<String>) {
            if let Shape::Table(fields) = shape {
                out.push(at.to_owned());
                fields.iter().for_each(|f| tables(&f.shape, &format!("{at}/{}", f.name), out));
            }
        }
        let mut pointers = Vec::new();
        tables(&PROFILE, "", &mut pointers);
        let value = full(&profile("")).unwrap();
        for pointer in pointers {
            assert!(value.pointer(&pointer).is_some_and(Value::is_object), "{pointer}");
        }
    }

    #[test]
    fn a_password_hash_is_not_shown() {
        let user =
            |hash: &str| format!("[[users]]\nname = \"a\"\npassword_hash = \"$y$j9T${hash}\"\n");
        for (before, after) in [(user("aa"), user("bb")), (String::new(), user("bb"))] {
            let changes = diff(&profile(&before), &profile(&after)).unwrap();
            assert_eq!(changes.len(), 1);
            assert!(!format!("{changes:?}").contains("$y$"), "{changes:?}");
        }
    }
}
