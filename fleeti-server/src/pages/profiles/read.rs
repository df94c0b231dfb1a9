//! Reads the editor's form. The name of a field is its path, such as `users[0].ssh_keys`; a list of
//! strings is a text area with one string per line. The form has only what the profile itself says:
//! what it inherits is not in it.

use super::schema::{Place, Shape, is_on_by_default, shape};
use fleeti_core::profile::{LIST_MAX, ListRule, list_rule};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};

/// The fields of a form, in its order.
pub type Fields = [(String, String)];

/// Suffix of the name of a hidden field that holds its value as JSON, because a field would change
/// it.
const KEPT: &str = ":kept";
/// Suffix of the name of a hidden field: the profile says the value even if it is empty or the
/// default.
const OWN: &str = ":own";

/// Suffix of the name of a hidden field: the form has the field, even if it is not checked.
const SHOWN: &str = ":shown";

/// Why a form cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// More entries than a profile may have.
    #[error("{0} has more than {LIST_MAX} entries")]
    TooMany(String),
    /// A hidden field does not hold valid JSON.
    #[error("{0}: the hidden field of the form does not hold valid JSON")]
    Kept(String),
    /// A button names a field that does not exist.
    #[error("there is no field {0:?}")]
    NoField(String),
    /// The values cannot be written as TOML.
    #[error("the form cannot be written as a document: {0}")]
    Toml(#[from] toml::ser::Error),
}

/// The value of a field that is in the form once.
pub fn one<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// A form, by the names of its fields.
struct Form<'a> {
    fields: &'a Fields,
    first: HashMap<&'a str, &'a str>,
}

impl<'a> Form<'a> {
    fn of(fields: &'a Fields) -> Self {
        let mut first = HashMap::with_capacity(fields.len());
        for (name, value) in fields {
            first.entry(name.as_str()).or_insert(value.as_str());
        }
        Self { fields, first }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.first.get(name).copied()
    }

    fn has(&self, path: &str, suffix: &str) -> bool {
        self.first.contains_key(format!("{path}{suffix}").as_str())
    }
}

/// Reads what the profile itself says.
///
/// # Errors
/// [`FormError`].
pub fn read(fields: &Fields) -> Result<Value, FormError> {
    let mut value = value_of(&Place::root(), &Form::of(fields))?.unwrap_or_default();
    let mut extends: Vec<&str> = Vec::new();
    for (_, name) in fields.iter().filter(|(n, _)| n == "extends") {
        if !extends.contains(&name.as_str()) {
            extends.push(name);
        }
    }
    if extends.len() > LIST_MAX {
        return Err(FormError::TooMany("extends".to_owned()));
    }
    if !extends.is_empty() {
        value["extends"] = extends.into();
    }
    if let Some(kept) = one(fields, "remove:kept") {
        value["remove"] =
            serde_json::from_str(kept).map_err(|_| FormError::Kept("remove".to_owned()))?;
    }
    Ok(value)
}

fn value_of(place: &Place, form: &Form<'_>) -> Result<Option<Value>, FormError> {
    let path = &place.path;
    if let Some(kept) = form.get(&format!("{path}{KEPT}")) {
        return serde_json::from_str(kept).map(Some).map_err(|_| FormError::Kept(path.clone()));
    }
    let text = || form.get(path).map(|value| value.replace("\r\n", "\n"));
    let is_own = || form.has(path, OWN);
    let some_if = |is_said: bool, value: Value| is_said.then_some(value);
    Ok(match shape(place.schema) {
        Shape::Object(object) => {
            let values = object_of(place, object, form)?;
            let is_said = !values.is_empty() || path.ends_with(']') || path.is_empty();
            some_if(is_said || place.required && has_below(form, path), values.into())
        }
        Shape::Objects(items) => {
            let entries = entries_of(place, items, form)?;
            some_if(!entries.is_empty(), entries.into())
        }
        Shape::Texts => {
            let lines = text().unwrap_or_default();
            let lines = lines.lines().map(str::trim).filter(|l| !l.is_empty());
            let list: Vec<_> = lines.map(Value::from).collect();
            some_if(!list.is_empty() || is_own(), list.into())
        }
        Shape::Choices(_) => {
            let chosen = form.fields.iter().filter(|(n, _)| n == path).take(LIST_MAX);
            let list: Vec<_> = chosen.map(|(_, v)| Value::from(v.as_str())).collect();
            some_if(!list.is_empty(), list.into())
        }
        Shape::Pairs => {
            let pairs = pairs_of(&text().unwrap_or_default());
            some_if(!pairs.is_empty(), pairs.into())
        }
        Shape::Flag => {
            let is_on = text().is_some();
            let is_default = is_on == is_on_by_default(place.schema);
            // Without a marker, a field that is not in the form has its default.
            let is_here = is_own() || form.has(path, SHOWN);
            some_if(is_own() || !is_default && (is_on || is_here), is_on.into())
        }
        Shape::Integer => text()
            .filter(|t| !t.is_empty())
            .map(|t| t.trim().parse::<i64>().map_or_else(|_| Value::from(t), Value::from)),
        Shape::Choice(values) => text()
            .filter(|t| {
                let is_default = values.first() == Some(t);
                place.required || is_own() || !t.is_empty() && !is_default
            })
            .map(Value::from),
        // Omits empty optional values, so that their defaults apply.
        Shape::Lines | Shape::Text => {
            text().filter(|t| place.required || is_own() || !t.is_empty()).map(Value::from)
        }
    })
}

/// Whether the form has a field below a path.
fn has_below(form: &Form<'_>, path: &str) -> bool {
    form.fields.iter().any(|(name, _)| name.strip_prefix(path).is_some_and(|r| r.starts_with('.')))
}

/// One name and value in each line, with an equals sign between them.
fn pairs_of(lines: &str) -> Map<String, Value> {
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.trim().to_owned(), Value::from(value.trim()))
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(pair).collect()
}

fn object_of(
    place: &Place,
    object: &'static Object,
    form: &Form<'_>,
) -> Result<Map<String, Value>, FormError> {
    let mut values = Map::new();
    for (name, schema) in &object.properties {
        if let Some(value) = value_of(&place.property(object, name, schema), form)? {
            values.insert(name.clone(), value);
        }
    }
    Ok(values)
}

/// The entries of a list in the order of the form. Indices may have gaps; the list has none.
fn entries_of(
    place: &Place,
    items: &'static RefOr<Schema>,
    form: &Form<'_>,
) -> Result<Vec<Value>, FormError> {
    let prefix = format!("{}[", place.path);
    let index = |name: &str| name.strip_prefix(&prefix)?.split(']').next()?.parse::<usize>().ok();
    let indices: BTreeSet<usize> = form.fields.iter().filter_map(|(name, _)| index(name)).collect();
    if indices.len() > LIST_MAX {
        return Err(FormError::TooMany(place.path.clone()));
    }
    let entries = indices.into_iter().map(|i| value_of(&place.entry(items, i), form));
    entries.filter_map(Result::transpose).collect()
}

/// Whether a value is said even if it is empty or the default: the field needs the marker.
pub fn is_marked(place: &Place, own: Option<&Value>, has_inherited: bool) -> bool {
    let Some(own) = own else { return false };
    match shape(place.schema) {
        Shape::Flag | Shape::Choice(_) => true,
        Shape::Texts => {
            let is_whole = list_rule(&place.path) == ListRule::Whole;
            own.as_array().is_some_and(Vec::is_empty) || is_whole && has_inherited
        }
        Shape::Text | Shape::Lines => has_inherited || own.as_str() == Some(""),
        Shape::Object(_)
        | Shape::Objects(_)
        | Shape::Choices(_)
        | Shape::Pairs
        | Shape::Integer => false,
    }
}
