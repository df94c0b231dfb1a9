//! Reads the editor's form. The name of a field is its path, such as `users[0].ssh_keys`; a list of
//! strings is a text area with one string per line. The form has only what the profile itself says:
//! what it inherits is not in it.

use super::schema::{Place, Shape, is_on_by_default, shape};
use fleeti_core::profile::{LIST_MAX, ListRule, list_rule};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};

/// The fields of a form, in its order.
pub type Fields = [(String, String)];

/// Largest number of fields of a form.
const FIELDS_MAX: usize = 20_000;
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
    /// More fields than a form may have.
    #[error("the form has {0} fields, expected at most {FIELDS_MAX}")]
    TooManyFields(usize),
    /// A hidden field does not hold a value of its field, as JSON.
    #[error("{0}: the hidden field of the form does not hold a value of this field, as JSON")]
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

/// The values of a form, by the names of its fields.
struct Form<'a> {
    values: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Form<'a> {
    fn of(fields: &'a Fields) -> Self {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in fields {
            values.entry(name.as_str()).or_default().push(value.as_str());
        }
        Self { values }
    }

    fn all(&self, name: &str) -> &[&'a str] {
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().copied()
    }

    fn has(&self, path: &str, suffix: &str) -> bool {
        self.values.contains_key(format!("{path}{suffix}").as_str())
    }

    /// What follows a prefix in the names that begin with it.
    fn below(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.values.range::<str, _>(from).map_while(move |(name, _)| name.strip_prefix(prefix))
    }
}

/// Reads what the profile itself says.
///
/// # Errors
/// [`FormError`].
pub fn read(fields: &Fields) -> Result<Value, FormError> {
    if fields.len() > FIELDS_MAX {
        return Err(FormError::TooManyFields(fields.len()));
    }
    let form = Form::of(fields);
    let mut value = value_of(&Place::root(), &form)?.unwrap_or_default();
    let mut extends: Vec<&str> = Vec::new();
    for name in form.all("extends") {
        if !extends.contains(name) {
            extends.push(name);
        }
        if extends.len() > LIST_MAX {
            return Err(FormError::TooMany("extends".to_owned()));
        }
    }
    if !extends.is_empty() {
        value["extends"] = extends.into();
    }
    if let Some(kept) = form.get("remove:kept") {
        value["remove"] = kept_value("remove", kept, Value::is_object)?;
    }
    Ok(value)
}

/// The value of a hidden field.
fn kept_value(path: &str, kept: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, FormError> {
    let value: Option<Value> = serde_json::from_str(kept).ok();
    let value = value.filter(|value| fits(value) && is_writable(value));
    value.ok_or_else(|| FormError::Kept(path.to_owned()))
}

/// Whether a document can hold a value.
fn is_writable(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_f64(),
        Value::Array(list) => list.iter().all(is_writable),
        Value::Object(fields) => fields.values().all(is_writable),
    }
}

/// Whether a value is of the kind of a shape.
fn is_of(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Object(_) | Shape::Pairs => value.is_object(),
        Shape::Objects(_) | Shape::Texts | Shape::Choices(_) => value.is_array(),
        Shape::Choice(_) | Shape::Integer | Shape::Flag | Shape::Lines | Shape::Text => {
            !value.is_object() && !value.is_array()
        }
    }
}

fn value_of(place: &Place, form: &Form<'_>) -> Result<Option<Value>, FormError> {
    let path = &place.path;
    let shape = shape(place.schema);
    // The form of a whole profile is never hidden.
    if let Some(kept) = form.get(&format!("{path}{KEPT}")).filter(|_| !path.is_empty()) {
        return kept_value(path, kept, |value| is_of(&shape, value)).map(Some);
    }
    let text = || form.get(path).map(|value| value.replace("\r\n", "\n"));
    let is_own = || form.has(path, OWN);
    let some_if = |is_said: bool, value: Value| is_said.then_some(value);
    Ok(match shape {
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
            let chosen = form.all(path).iter().take(LIST_MAX);
            let list: Vec<_> = chosen.map(|value| Value::from(*value)).collect();
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
    form.below(&format!("{path}.")).next().is_some()
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
    let index = |rest: &str| rest.split(']').next()?.parse::<usize>().ok();
    let indices: BTreeSet<usize> = form.below(&prefix).filter_map(index).collect();
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
