//! Which fields of a profile a base honours. A field that a base does not honour is refused by name
//! when an image is built, never ignored.

use super::Profile;
use super::path;
use super::shape::{PROFILE, Shape};
use serde_json::Value;

/// The fields that a profile sets to other values than their defaults, without those that match
/// `honoured`. Entries of `honoured` are as those of [`fields`].
///
/// # Errors
/// [`serde_json::Error`] when the profile does not serialize.
pub fn beyond(profile: &Profile, honoured: &[&str]) -> Result<Vec<String>, serde_json::Error> {
    let value = serde_json::to_value(profile)?;
    let mut walk = Walk { honoured, known: fields(), whole: value.clone(), found: Vec::new() };
    walk.visit(&value, "", "", "");
    Ok(walk.found)
}

/// Every field that a profile can have, with `[]` for each entry of a list and `.*` for each key of
/// a map, for example `users[].ssh_keys` and `kernel.sysctl.*`.
#[must_use]
pub fn fields() -> Vec<String> {
    let mut out = Vec::new();
    collect(&PROFILE, "", &mut out);
    out
}

fn collect(shape: &Shape, at: &str, out: &mut Vec<String>) {
    match shape {
        Shape::Table(fields) => {
            fields.iter().for_each(|f| collect(&f.shape, &path::field(at, &f.name), out));
        }
        Shape::List(item) if matches!(**item, Shape::Table(_)) => {
            collect(item, &format!("{at}[]"), out);
        }
        Shape::Map(_) => out.push(format!("{at}.*")),
        Shape::Text | Shape::Choice(_) | Shape::Integer(..) | Shape::Flag | Shape::List(_) => {
            out.push(at.to_owned());
        }
    }
}

struct Walk<'a> {
    honoured: &'a [&'a str],
    /// The result of [`fields`].
    known: Vec<String>,
    whole: Value,
    found: Vec<String>,
}

impl Walk<'_> {
    /// `pattern` has `[]` for each entry of a list; `pointer` is a JSON pointer (RFC 6901).
    fn visit(&mut self, value: &Value, pattern: &str, at: &str, pointer: &str) {
        let below = |name: &str| {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            format!("{pointer}/{escaped}")
        };
        let every_key = format!("{pattern}.*");
        match value {
            Value::Object(fields) if self.known.contains(&every_key) => {
                for name in fields.keys() {
                    self.leaf(&every_key, &path::field(at, name), &below(name));
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let pattern = path::field(pattern, name);
                    self.visit(value, &pattern, &path::field(at, name), &below(name));
                }
            }
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                for (i, item) in items.iter().enumerate() {
                    let at = path::index(at, i);
                    self.visit(item, &format!("{pattern}[]"), &at, &below(&i.to_string()));
                }
            }
            _ => self.leaf(pattern, at, pointer),
        }
    }

    fn leaf(&mut self, pattern: &str, at: &str, pointer: &str) {
        if !self.honoured.contains(&pattern) && !self.is_default(pointer) {
            self.found.push(at.to_owned());
        }
    }

    /// Whether the profile is the same without the field. Only what is around the field is looked
    /// at, so that the cost does not grow with the profile for each field.
    fn is_default(&self, pointer: &str) -> bool {
        let steps: Vec<_> =
            pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        let with = around(&self.whole, &steps, true);
        let without = around(&self.whole, &steps, false);
        let read = |value: Value| serde_json::from_value::<Profile>(value).ok();
        matches!((read(with), read(without)), (Some(with), Some(without)) if with == without)
    }
}

/// The part of a document around a field, with the field or without it: on the way to the field
/// plain values, which may be required; beside it everything.
fn around(value: &Value, steps: &[String], with: bool) -> Value {
    let Some((step, rest)) = steps.split_first() else { return value.clone() };
    match value {
        Value::Object(fields) => {
            let is_parent = rest.is_empty();
            let kept = fields.iter().filter_map(|(name, field)| {
                if name == step {
                    return (!is_parent || with).then(|| (name.clone(), around(field, rest, with)));
                }
                let is_plain = !field.is_object() && !field.is_array();
                (is_parent || is_plain).then(|| (name.clone(), field.clone()))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => {
            let entry = step.parse::<usize>().ok().and_then(|index| items.get(index));
            entry.map(|entry| around(entry, rest, with)).into_iter().collect()
        }
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::check;

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    #[test]
    fn a_field_that_is_not_honoured_is_named_unless_it_has_its_default() {
        let more = "identity.locale = \"de_DE.UTF-8\"\nidentity.keyboard = \"us\"\n\
                    [kernel.sysctl]\n\"vm.swappiness\" = \"1\"\n\
                    [[state.directories]]\npath = \"/var/lib/a\"\nbackup = true\non_reset = \"wipe\"\n";
        let profile = check(&format!("{GOOD}{more}")).unwrap();
        let always = ["schema", "name", "architecture"];
        let honoured = [&always[..], &["state.directories[].path"]].concat();
        assert_eq!(
            beyond(&profile, &honoured).unwrap(),
            ["identity.locale", "kernel.sysctl[\"vm.swappiness\"]", "state.directories[0].backup",]
        );
        let all = fields();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert!(beyond(&profile, &all).unwrap().is_empty());
    }
}
