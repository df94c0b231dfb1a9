//! What the buttons of the editor do to what a profile says.

use super::read::{Fields, FormError};
use super::schema::{Place, Shape, shape};
use fleeti_core::profile::{Inherited, LIST_MAX, ListRule, list_rule};
use serde_json::{Map, Value, json};

/// Names of the buttons whose value is a field, `LIST=KEY` or `FIELD=VALUE`.
const BUTTONS: &[&str] =
    &["add", "remove", "up", "down", "override", "inherit", "drop", "restore", "set"];

/// A profile that a button changed.
pub struct Edited {
    /// What the profile itself says.
    pub value: Value,
    /// Path of the field or entry that the user works on.
    pub touched: String,
}

/// Does what the pressed button says.
///
/// # Errors
/// [`FormError`].
pub fn changed(
    mut value: Value,
    fields: &Fields,
    inherited: &Inherited,
) -> Result<Edited, FormError> {
    let mut touched = String::new();
    for (button, target) in fields.iter().filter(|(name, _)| BUTTONS.contains(&name.as_str())) {
        let own = &mut value;
        touched = match button.as_str() {
            "add" => add(own, target, Map::new())?,
            "remove" => take(own, target, |list, at| drop(list.remove(at)))?,
            "up" => take(own, target, |list, at| list.swap(at, at.saturating_sub(1)))?,
            "down" => take(own, target, |list, at| {
                let last = list.len() - 1;
                list.swap(at, (at + 1).min(last));
            })?,
            "override" => override_inherited(own, target, inherited)?,
            "inherit" => forget(own, target)?,
            "drop" => remove_inherited(own, target)?,
            "restore" => restore(own, target)?,
            _ => set(own, target)?,
        };
    }
    Ok(Edited { value, touched })
}

fn no_field(name: &str) -> FormError {
    FormError::NoField(name.to_owned())
}

/// A path such as `services[0].drop_ins` as steps.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).map(|step| step.trim_end_matches(']'))
}

/// A path as a JSON pointer (RFC 6901).
fn pointer(path: &str) -> String {
    steps(path).map(|step| format!("/{step}")).collect()
}

/// The value at a path of a profile; objects and fields that do not exist are made. Entries are not.
fn slot<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut at = value;
    for step in steps(path) {
        at = match at {
            Value::Array(list) => list.get_mut(step.parse::<usize>().ok()?)?,
            Value::Object(fields) => fields.entry(step).or_insert_with(|| json!({})),
            _ => return None,
        };
    }
    Some(at)
}

/// The list at a path; made if it does not exist.
fn list<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Vec<Value>> {
    if path != "extends" && !matches!(shape(Place::at(path)?.schema), Shape::Objects(_)) {
        return None;
    }
    let at = slot(value, path)?;
    if !at.is_array() {
        *at = json!([]);
    }
    at.as_array_mut()
}

/// Adds an entry, and returns its path.
fn add(value: &mut Value, path: &str, entry: Map<String, Value>) -> Result<String, FormError> {
    let entries = list(value, path).ok_or_else(|| no_field(path))?;
    if entries.len() >= LIST_MAX {
        return Err(FormError::TooMany(path.to_owned()));
    }
    entries.push(Value::Object(entry));
    Ok(format!("{path}[{}]", entries.len() - 1))
}

/// Changes a list at one of its entries, `LIST[INDEX]`, and returns the path of the list.
fn take(
    value: &mut Value,
    entry: &str,
    work: impl Fn(&mut Vec<Value>, usize),
) -> Result<String, FormError> {
    let (path, index) =
        entry.trim_end_matches(']').rsplit_once('[').ok_or_else(|| no_field(entry))?;
    let entries = list(value, path).ok_or_else(|| no_field(entry))?;
    let index: usize = index.parse().map_err(|_| no_field(entry))?;
    if index < entries.len() {
        work(entries, index);
    }
    Ok(path.to_owned())
}

/// Takes an inherited value into the profile: a field, or an entry as `LIST=KEY`.
fn override_inherited(
    value: &mut Value,
    target: &str,
    inherited: &Inherited,
) -> Result<String, FormError> {
    if let Some((path, key)) = target.split_once('=') {
        let ListRule::Keyed(field) = list_rule(path) else { return Err(no_field(target)) };
        let entry = [(field.to_owned(), Value::from(key))].into_iter().collect();
        return add(value, path, entry);
    }
    Place::at(target).ok_or_else(|| no_field(target))?;
    let found = inherited_at(value, target, inherited).ok_or_else(|| no_field(target))?;
    let found = found.to_json();
    *slot(value, target).ok_or_else(|| no_field(target))? = found;
    Ok(target.to_owned())
}

/// What a profile inherits at a path of its own values: entries are found by their keys.
fn inherited_at<'a>(own: &Value, path: &str, inherited: &'a Inherited) -> Option<&'a Inherited> {
    let (mut own, mut at, mut so_far) = (own, inherited, String::new());
    for step in path.split(['.', '[']) {
        if let Some(index) = step.strip_suffix(']') {
            let ListRule::Keyed(field) = list_rule(&so_far) else { return None };
            own = own.get(index.parse::<usize>().ok()?)?;
            at = at.entry(field, own.get(field)?.as_str()?)?;
            so_far.push_str(&format!("[{index}]"));
        } else {
            own = own.get(step).unwrap_or(&Value::Null);
            at = at.field(step)?;
            so_far.push_str(if so_far.is_empty() { "" } else { "." });
            so_far.push_str(step);
        }
    }
    Some(at)
}

/// Removes a value from the profile, so that it is inherited again.
fn forget(value: &mut Value, path: &str) -> Result<String, FormError> {
    Place::at(path).ok_or_else(|| no_field(path))?;
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent =
        value.pointer_mut(&if parent.is_empty() { String::new() } else { pointer(parent) });
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(name);
    }
    Ok(path.to_owned())
}

/// The list of removed entries of an inherited list, and the key of one, from `LIST=KEY`.
fn removed<'a, 'b>(
    value: &'a mut Value,
    target: &'b str,
) -> Option<(&'a mut Vec<Value>, &'b str, &'b str)> {
    let (path, key) = target.split_once('=')?;
    let is_list = matches!(
        shape(Place::at(path)?.schema),
        Shape::Objects(_) | Shape::Texts | Shape::Choices(_) | Shape::Pairs
    );
    if !is_list || path.contains('[') {
        return None;
    }
    let at = slot(value, &format!("remove.{path}"))?;
    if !at.is_array() {
        *at = json!([]);
    }
    Some((at.as_array_mut()?, path, key))
}

fn remove_inherited(value: &mut Value, target: &str) -> Result<String, FormError> {
    let (keys, path, key) = removed(value, target).ok_or_else(|| no_field(target))?;
    if keys.len() < LIST_MAX && !keys.iter().any(|known| known.as_str() == Some(key)) {
        keys.push(key.into());
    }
    Ok(path.to_owned())
}

fn restore(value: &mut Value, target: &str) -> Result<String, FormError> {
    let (keys, path, key) = removed(value, target).ok_or_else(|| no_field(target))?;
    keys.retain(|known| known.as_str() != Some(key));
    if let Some(removed) = value.get_mut("remove") {
        prune(removed);
        if removed.as_object().is_some_and(Map::is_empty) {
            value.as_object_mut().and_then(|fields| fields.remove("remove"));
        }
    }
    Ok(path.to_owned())
}

/// Removes empty lists and tables.
fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|_, inner| match inner {
            Value::Array(list) => !list.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }
}

/// Replaces a text by a near match: `FIELD=VALUE`, where the field may be a line of a list.
fn set(value: &mut Value, target: &str) -> Result<String, FormError> {
    let (path, text) = target.split_once('=').ok_or_else(|| no_field(target))?;
    match value.pointer_mut(&pointer(path)) {
        Some(at) if at.is_string() => *at = text.into(),
        _ => return Err(no_field(path)),
    }
    let touched = match path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
        Some((list, _)) => list,
        None => path,
    };
    Ok(touched.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::{Builtin, draft};

    const TEXT: &str = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\nextends = [\"baseline/standard\", \"users/operators\"]\n[[services]]\nname = \"a.service\"\n[[services]]\nname = \"b.service\"\n";

    fn press(button: &str, target: &str) -> Result<Edited, FormError> {
        let draft = draft(TEXT, &Builtin);
        let fields = [(button.to_owned(), target.to_owned())];
        changed(draft.own.unwrap(), &fields, &draft.inherited)
    }

    #[test]
    fn entries_are_added_moved_and_removed() {
        let more = press("add", "network.firewall.rules").unwrap();
        assert_eq!(more.value["network"]["firewall"]["rules"], json!([{}]));
        assert_eq!(more.touched, "network.firewall.rules[0]");
        assert_eq!(
            press("remove", "services[0]").unwrap().value["services"][0]["name"],
            "b.service"
        );
        assert_eq!(press("down", "services[0]").unwrap().value["services"][0]["name"], "b.service");
        assert_eq!(press("up", "services[1]").unwrap().value["services"][0]["name"], "b.service");
        assert_eq!(press("up", "services[0]").unwrap().value["services"][0]["name"], "a.service");
        assert_eq!(press("down", "extends[0]").unwrap().value["extends"][0], "users/operators");
    }

    #[test]
    fn an_inherited_value_is_taken_over_and_given_back() {
        let own = press("override", "security.ssh.attempts_max").unwrap();
        assert_eq!(own.value["security"]["ssh"]["attempts_max"], 4);
        let fields = [("inherit".to_owned(), "security.ssh.attempts_max".to_owned())];
        let back = changed(own.value, &fields, &Inherited::default()).unwrap();
        assert_eq!(back.value["security"]["ssh"], json!({}));
        let entry = press("override", "users=ops").unwrap();
        assert_eq!(
            (entry.value["users"][0]["name"].as_str(), entry.touched.as_str()),
            (Some("ops"), "users[0]")
        );
        let draft = draft(TEXT, &Builtin);
        let fields = [("override".to_owned(), "users[0].groups".to_owned())];
        let deep = changed(entry.value, &fields, &draft.inherited).unwrap();
        assert_eq!(deep.value["users"][0]["groups"], json!(["adm", "systemd-journal"]));
    }

    #[test]
    fn an_inherited_entry_is_removed_and_restored() {
        let dropped = press("drop", "kernel.blacklist=hfs").unwrap().value;
        assert_eq!(dropped["remove"], json!({"kernel": {"blacklist": ["hfs"]}}));
        let fields = [("restore".to_owned(), "kernel.blacklist=hfs".to_owned())];
        let restored = changed(dropped, &fields, &Inherited::default()).unwrap().value;
        assert_eq!(restored.get("remove"), None);
    }

    #[test]
    fn a_near_match_replaces_what_was_typed() {
        let fixed = press("set", "services[1].name=c.service").unwrap();
        assert_eq!(fixed.value["services"][1]["name"], "c.service");
    }

    #[test]
    fn a_button_that_names_no_field_is_refused() {
        for (button, target) in [
            ("add", "colours"),
            ("add", "name"),
            ("remove", "users[x]"),
            ("remove", "users"),
            ("up", "services"),
            ("override", "security.ssh.colour"),
            ("override", "kernel.arguments=x"),
            ("inherit", "colour"),
            ("drop", "name=x"),
            ("drop", "services[0].drop_ins=x"),
            ("restore", "colours=x"),
            ("set", "services[7].name=x"),
            ("set", "name"),
        ] {
            assert!(press(button, target).is_err(), "{button} {target}");
        }
    }
}
