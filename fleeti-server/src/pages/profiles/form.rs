//! Generates a form from the profile's schema, and reads it back. The name of a field is its path,
//! such as `users[0].ssh_keys`; a list of strings is a text area with one string per line. The
//! check that profile files go through validates the form as well; each error is shown at its
//! field.

use super::field::{Field, Kind};
use super::schema::{Place, Shape, is_on_by_default, resolved, shape};
use askama::Template;
use fleeti_core::profile::{self, Finding, LIST_MAX, Profile};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};

type Fields = [(String, String)];

/// Suffix of the name of a hidden field that holds its value as JSON, because a field would change
/// it.
const KEPT: &str = ":kept";

/// Whether a field returns exactly the text it was filled with: browsers normalise line ends, drop
/// them in a field of one line, and have no NUL.
fn survives(text: &str, is_one_line: bool) -> bool {
    !(text.contains(['\r', '\0']) || is_one_line && text.contains('\n'))
}

/// Whether a text area with one string per line returns exactly this list.
fn survives_as_lines(list: &[Value]) -> bool {
    list.iter().all(|v| {
        v.as_str()
            .is_some_and(|t| !t.is_empty() && t == t.trim() && !t.contains(['\n', '\r', '\0']))
    })
}

/// Why a form cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// More entries than a profile may have.
    #[error("{0} has more than {LIST_MAX} entries")]
    TooMany(String),
    /// A hidden field does not hold valid JSON.
    #[error("{0}: the hidden field of the form does not hold valid JSON")]
    Kept(String),
    /// A button names a list that does not exist.
    #[error("there is no list {0:?}")]
    NoList(String),
}

/// Reads the value of a form.
///
/// # Errors
/// [`FormError::TooMany`].
pub fn read(fields: &Fields) -> Result<Value, FormError> {
    Ok(value_of(&Place::root(), fields)?.unwrap_or_default())
}

fn value_of(place: &Place, fields: &Fields) -> Result<Option<Value>, FormError> {
    let path = &place.path;
    if let Some((_, kept)) =
        fields.iter().find(|(name, _)| name.strip_suffix(KEPT) == Some(path.as_str()))
    {
        return serde_json::from_str(kept).map(Some).map_err(|_| FormError::Kept(path.clone()));
    }
    let text = || {
        fields.iter().find(|(name, _)| name == path).map(|(_, value)| value.replace("\r\n", "\n"))
    };
    Ok(match shape(place.schema) {
        Shape::Object(object) => Some(Value::Object(object_of(place, object, fields)?)),
        Shape::Objects(items) => Some(Value::Array(entries_of(place, items, fields)?)),
        Shape::Texts => {
            let lines = text().unwrap_or_default();
            Some(lines.lines().map(str::trim).filter(|l| !l.is_empty()).map(Value::from).collect())
        }
        Shape::Pairs => {
            let lines = text().unwrap_or_default();
            let pair = |line: &str| {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                (name.trim().to_owned(), Value::from(value.trim()))
            };
            let lines = lines.lines().filter(|line| !line.trim().is_empty());
            Some(Value::Object(lines.map(pair).collect()))
        }
        Shape::Flag => Some(Value::Bool(text().is_some())),
        Shape::Integer => text()
            .filter(|t| !t.is_empty())
            .map(|t| t.trim().parse::<i64>().map_or_else(|_| Value::from(t), Value::from)),
        Shape::Choice(_) => text().filter(|t| !t.is_empty()).map(Value::from),
        // Omits empty optional values, so that their defaults apply.
        Shape::Lines | Shape::Text => {
            text().filter(|t| place.required || !t.is_empty()).map(Value::from)
        }
    })
}

fn object_of(
    place: &Place,
    object: &'static Object,
    fields: &Fields,
) -> Result<Map<String, Value>, FormError> {
    let mut values = Map::new();
    for (name, schema) in &object.properties {
        if let Some(value) = value_of(&place.property(object, name, schema), fields)? {
            values.insert(name.clone(), value);
        }
    }
    Ok(values)
}

/// The entries of a list in the order of the form. Indices may have gaps; the list has none.
fn entries_of(
    place: &Place,
    items: &'static RefOr<Schema>,
    fields: &Fields,
) -> Result<Vec<Value>, FormError> {
    let prefix = format!("{}[", place.path);
    let index = |name: &str| name.strip_prefix(&prefix)?.split(']').next()?.parse::<usize>().ok();
    let indices: BTreeSet<usize> = fields.iter().filter_map(|(name, _)| index(name)).collect();
    if indices.len() > LIST_MAX {
        return Err(FormError::TooMany(place.path.clone()));
    }
    let entries = indices.into_iter().map(|i| value_of(&place.entry(items, i), fields));
    entries.filter_map(Result::transpose).collect()
}

/// A path such as `services[0].drop_ins` as a JSON pointer (RFC 6901).
fn pointer(path: &str) -> String {
    let steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    steps.map(|step| format!("/{step}")).collect()
}

/// Reads the value of a form, and adds or removes the entry whose button was pressed.
///
/// # Errors
/// [`FormError`].
pub fn changed(fields: &Fields) -> Result<Value, FormError> {
    let mut value = read(fields)?;
    let pressed = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if let Some(list) = pressed("add") {
        let entries = value
            .pointer_mut(&pointer(list))
            .and_then(Value::as_array_mut)
            .ok_or_else(|| FormError::NoList(list.to_owned()))?;
        if entries.len() >= LIST_MAX {
            return Err(FormError::TooMany(list.to_owned()));
        }
        entries.push(Value::Object(Map::new()));
    }
    if let Some(entry) = pressed("remove") {
        let missing = || FormError::NoList(entry.to_owned());
        let (list, index) = entry.trim_end_matches(']').rsplit_once('[').ok_or_else(missing)?;
        let entries =
            value.pointer_mut(&pointer(list)).and_then(Value::as_array_mut).ok_or_else(missing)?;
        let index: usize = index.parse().map_err(|_| missing())?;
        if index < entries.len() {
            entries.remove(index);
        }
    }
    Ok(value)
}

/// The profile, or all findings by path.
///
/// # Errors
/// For a value that TOML cannot represent. No form makes one.
pub fn check(value: &Value) -> Result<Result<Profile, Vec<Finding>>, toml::ser::Error> {
    Ok(profile::check(&toml::to_string(value)?))
}

/// Renders the fields with their values.
///
/// # Errors
/// When a template does not render.
pub fn render(value: &Value, findings: &[Finding]) -> askama::Result<String> {
    field(&Place::root(), Some(value), findings)
}

fn field(place: &Place, value: Option<&Value>, findings: &[Finding]) -> askama::Result<String> {
    let kind = kind_of(place, value, findings)?;
    let path = &place.path;
    // What is wrong inside a list of texts is wrong at its field; inside an object it has a field
    // of its own.
    let is_here = |f: &&Finding| match &kind {
        Kind::Group(_) => f.path == *path && !path.is_empty(),
        Kind::Entries(_) | Kind::Fixed(_) => f.path == *path,
        _ => f.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('[')),
    };
    let errors = findings.iter().filter(is_here).cloned().collect();
    Field {
        path: path.clone(),
        label: label(place.name),
        help: help(place.schema, &kind),
        required: place.required,
        errors,
        kind,
    }
    .render()
}

fn kind_of(place: &Place, value: Option<&Value>, findings: &[Finding]) -> askama::Result<Kind> {
    let text = || {
        value.map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
    };
    let list = || value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let shape = shape(place.schema);
    if place.path == "schema" {
        return Ok(Kind::Fixed(profile::SCHEMA.to_string()));
    }
    if value.is_some_and(|v| is_changed_by_a_browser(&shape, v)) {
        return Ok(Kind::Kept(value.map_or_else(String::new, Value::to_string)));
    }
    Ok(match shape {
        Shape::Object(object) => {
            let rendered = object.properties.iter().map(|(name, schema)| {
                let inner = value.and_then(|v| v.get(name));
                field(&place.property(object, name, schema), inner, findings)
            });
            Kind::Group(rendered.collect::<askama::Result<String>>()?)
        }
        Shape::Objects(items) => {
            let entries = list().iter().enumerate();
            let rendered = entries.map(|(i, v)| field(&place.entry(items, i), Some(v), findings));
            Kind::Entries(rendered.collect::<askama::Result<Vec<String>>>()?)
        }
        Shape::Texts => {
            let text: Vec<_> = list().iter().filter_map(Value::as_str).collect();
            Kind::Long(text.join("\n"), text.len().clamp(2, 12))
        }
        Shape::Pairs => {
            let pairs = value.and_then(Value::as_object);
            let line = |(name, value): (&String, &Value)| {
                format!("{name} = {}", value.as_str().unwrap_or_default())
            };
            let lines: Vec<_> = pairs.into_iter().flatten().map(line).collect();
            Kind::Long(lines.join("\n"), lines.len().clamp(2, 12))
        }
        Shape::Choice(values) => {
            // The first value is the default of an optional field, as a browser would send it.
            let chosen = Some(text()).filter(|text| !text.is_empty());
            let first = || values.first().cloned().unwrap_or_default();
            Kind::Choice(chosen.unwrap_or_else(first), values)
        }
        Shape::Integer => Kind::Number(text()),
        Shape::Flag => Kind::Flag(
            value.and_then(Value::as_bool).unwrap_or_else(|| is_on_by_default(place.schema)),
        ),
        Shape::Lines => Kind::Long(text(), text().lines().count().clamp(4, 24)),
        Shape::Text => Kind::Text(text()),
    })
}

/// Whether a browser would return another value than its field was filled with.
fn is_changed_by_a_browser(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Texts => value.as_array().is_some_and(|list| !survives_as_lines(list)),
        Shape::Lines => value.as_str().is_some_and(|t| !survives(t, false)),
        Shape::Text => value.as_str().is_some_and(|t| !survives(t, true)),
        Shape::Object(_)
        | Shape::Objects(_)
        | Shape::Pairs
        | Shape::Choice(_)
        | Shape::Integer
        | Shape::Flag => false,
    }
}

/// The description of a property, or else of its type.
fn help(schema: &'static RefOr<Schema>, kind: &Kind) -> String {
    let own = match schema {
        RefOr::Ref(reference) if !reference.description.is_empty() => {
            Some(reference.description.clone())
        }
        _ => match resolved(schema) {
            Some(Schema::Object(object)) => object.description.clone(),
            Some(Schema::Array(array)) => array.description.clone(),
            _ => None,
        },
    };
    let mut help = own.unwrap_or_default();
    if matches!(kind, Kind::Long(..)) && matches!(shape(schema), Shape::Texts) {
        help.push_str(" One on each line.");
    }
    if matches!(kind, Kind::Long(..)) && matches!(shape(schema), Shape::Pairs) {
        help.push_str(" Each line is a name, an equals sign and a value.");
    }
    help.replace('`', "")
}

/// The label of a field: `ssh_keys` becomes `SSH keys`.
fn label(name: &str) -> String {
    let words: Vec<String> = name
        .split('_')
        .enumerate()
        .map(|(i, word)| match word {
            "ssh" => "SSH".to_owned(),
            "s" if i > 0 => "(seconds)".to_owned(),
            _ if i == 0 => {
                word.get(..1).map_or_else(String::new, |first| first.to_uppercase() + &word[1..])
            }
            _ => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::{HealthCheck, UnitState};

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    const GOOD: &[(&str, &str)] = &[
        ("schema", "1"),
        ("name", "kiosk"),
        ("architecture", "x86_64"),
        ("software.packages", "bash\r\n jq \n\n"),
        ("users[0].name", "ops"),
        ("users[0].groups", "sudo"),
        ("services[0].name", "a.service"),
        ("services[0].unit", "[Service]\r\nExecStart=/bin/true\r\n"),
        ("services[3].name", "b.service"),
        ("services[3].state", "disabled"),
    ];

    #[test]
    fn a_form_becomes_the_profile_that_it_says() {
        let profile = check(&read(&fields(GOOD)).unwrap()).unwrap().unwrap();
        assert_eq!(profile.software.packages, ["bash", "jq"]);
        assert_eq!(profile.users[0].groups, ["sudo"]);
        assert_eq!(profile.users[0].shell, "/bin/bash", "an empty field leaves the default");
        assert_eq!(
            profile.services.iter().map(|s| s.state).collect::<Vec<_>>(),
            [UnitState::Enabled, UnitState::Disabled]
        );
        assert_eq!(profile.services[0].unit.as_deref(), Some("[Service]\nExecStart=/bin/true\n"));
    }

    #[test]
    fn a_profile_survives_the_way_through_its_form() {
        for name in ["kiosk", "gateway"] {
            let path = format!("{}/../examples/profiles/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let mut profile = profile::check(&std::fs::read_to_string(path).unwrap()).unwrap();
            // Values that a browser would change.
            let command = ["/bin/sh", "-c", "a\nb", "", " spaced "];
            profile.health_checks.push(HealthCheck::of_command("odd", &command, 10));
            profile.description = "two\nlines".into();
            for (path, content) in [
                ("/etc/a", "\nfirst line empty\n"),
                ("/etc/b", "dos\r\n"),
                ("/etc/c", ""),
                ("/etc/d", "no end"),
            ] {
                profile.files.push(profile::File::new(path, content));
            }
            let page = render(&serde_json::to_value(&profile).unwrap(), &[]).unwrap();
            assert_eq!(check(&read(&filled_in(&page)).unwrap()).unwrap().unwrap(), profile);
        }
    }

    /// What a browser would submit for this page.
    fn filled_in(page: &str) -> Vec<(String, String)> {
        let text = |s: &str| {
            s.replace("&#34;", "\"")
                .replace("&#39;", "'")
                .replace("&#60;", "<")
                .replace("&#62;", ">")
                .replace("&#38;", "&")
        };
        let attribute = |tag: &str, name: &str| {
            Some(text(tag.split_once(&format!(" {name}=\""))?.1.split('"').next()?))
        };
        let mut sent = Vec::new();
        for piece in page.split('<').skip(1) {
            let (tag, content) = piece.split_once('>').unwrap();
            let Some(name) = attribute(tag, "name") else { continue };
            if tag.starts_with("input") && (!tag.contains("checkbox") || tag.ends_with("checked")) {
                sent.push((
                    name,
                    attribute(tag, "value").unwrap_or_default().replace(['\n', '\r'], ""),
                ));
            } else if tag.starts_with("textarea") {
                // HTML drops a newline right after the tag, and sends line ends as CR LF.
                sent.push((
                    name,
                    text(content.strip_prefix('\n').unwrap_or(content)).replace('\n', "\r\n"),
                ));
            } else if tag.starts_with("select") {
                let options = &page[page.find(&format!("name=\"{name}\"")).unwrap()..];
                let chosen =
                    options.split("<option selected>").nth(1).unwrap().split('<').next().unwrap();
                sent.push((name, chosen.to_owned()));
            }
        }
        sent
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_field() {
        let mut wrong = fields(GOOD);
        wrong.push(("kernel.arguments".into(), "quiet\ninit=/bin/sh".into()));
        wrong.push(("users[0].shell".into(), "zsh".into()));
        let value = read(&wrong).unwrap();
        let findings = check(&value).unwrap().unwrap_err();
        let page = render(&value, &findings).unwrap();
        for path in ["kernel.arguments", "users[0].shell"] {
            assert!(
                page.contains(&format!("aria-describedby=\"{path}-error\"")),
                "{path} in {page}"
            );
        }
        assert!(page.contains("kernel.arguments[1]: "), "the line is named");
        assert_eq!(page.matches("role=\"alert\"").count(), 2);
    }

    #[test]
    fn entries_are_added_and_removed() {
        let mut more = fields(GOOD);
        more.push(("add".into(), "users".into()));
        assert_eq!(changed(&more).unwrap()["users"].as_array().unwrap().len(), 2);
        let mut less = fields(GOOD);
        less.push(("remove".into(), "services[0]".into()));
        assert_eq!(changed(&less).unwrap()["services"][0]["name"], "b.service");
        for (name, value) in [("add", "colours"), ("remove", "users[x]"), ("remove", "users")] {
            let mut odd = fields(GOOD);
            odd.push((name.into(), value.into()));
            assert!(changed(&odd).is_err(), "{name} {value}");
        }
    }
}
