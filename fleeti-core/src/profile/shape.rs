//! The structure of a profile document, checked so that all structural errors are found in one
//! pass.
//!
//! serde stops at the first error, but an author wants all of them. This walk uses the positions
//! that the TOML parser keeps. If it finds no error, deserialisation cannot fail on the structure.

use super::finding::{Finding, Lines};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) enum Shape {
    Text,
    Integer,
    Flag,
    List(&'static Shape),
    Table(&'static [Field]),
}

pub(super) struct Field {
    name: &'static str,
    required: bool,
    shape: &'static Shape,
}

const fn field(name: &'static str, required: bool, shape: &'static Shape) -> Field {
    Field { name, required, shape }
}

static TEXTS: Shape = Shape::List(&Shape::Text);

pub(super) static PROFILE: Shape = Shape::Table(&[
    field("schema", true, &Shape::Integer),
    field("name", true, &Shape::Text),
    field("description", false, &Shape::Text),
    field("architecture", true, &Shape::Text),
    field("hostname", false, &Shape::Text),
    field("packages", false, &TEXTS),
    field("kernel_arguments", false, &TEXTS),
    field("users", false, &Shape::List(&USER)),
    field("services", false, &Shape::List(&SERVICE)),
    field("files", false, &Shape::List(&FILE)),
    field("health_checks", false, &Shape::List(&HEALTH_CHECK)),
    field("release_log", false, &RELEASE_LOG),
    field("server_contact", false, &SERVER_CONTACT),
]);
static SERVER_CONTACT: Shape = Shape::Table(&[
    field("optional", false, &Shape::Flag),
    field("deadline_s", false, &Shape::Integer),
]);
static RELEASE_LOG: Shape = Shape::Table(&[
    field("optional", false, &Shape::Flag),
    field("age_days_max", false, &Shape::Integer),
]);
static USER: Shape = Shape::Table(&[
    field("name", true, &Shape::Text),
    field("comment", false, &Shape::Text),
    field("groups", false, &TEXTS),
    field("ssh_keys", false, &TEXTS),
    field("password_hash", false, &Shape::Text),
    field("shell", false, &Shape::Text),
]);
static SERVICE: Shape = Shape::Table(&[
    field("name", true, &Shape::Text),
    field("enabled", false, &Shape::Flag),
    field("unit", false, &Shape::Text),
]);
static FILE: Shape = Shape::Table(&[
    field("path", true, &Shape::Text),
    field("content", true, &Shape::Text),
    field("mode", false, &Shape::Text),
]);
static HEALTH_CHECK: Shape = Shape::Table(&[
    field("name", true, &Shape::Text),
    field("command", true, &TEXTS),
    field("timeout_s", false, &Shape::Integer),
]);

impl Shape {
    fn noun(&self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Flag => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

pub(super) fn walk(
    shape: &Shape,
    value: &Spanned<DeValue<'_>>,
    path: &str,
    lines: &mut Lines<'_>,
    findings: &mut Vec<Finding>,
) {
    let at = value.span().start;
    lines.remember(path, at);
    match (shape, value.get_ref()) {
        (Shape::Text, DeValue::String(_))
        | (Shape::Integer, DeValue::Integer(_))
        | (Shape::Flag, DeValue::Boolean(_)) => {}
        (Shape::List(item), DeValue::Array(items)) => {
            if items.len() > super::LIST_MAX {
                findings.push(lines.finding(
                    path,
                    format!("{} entries, expected at most {}", items.len(), super::LIST_MAX),
                    format!("keep at most {}", super::LIST_MAX),
                ));
            }
            for (i, entry) in items.iter().enumerate() {
                walk(item, entry, &format!("{path}[{i}]"), lines, findings);
            }
        }
        (Shape::Table(fields), DeValue::Table(table)) => {
            walk_table(fields, table, path, at, lines, findings)
        }
        (_, found) => findings.push(lines.finding(
            path,
            format!("expected {}, found {}", shape.noun(), found.type_str()),
            format!("write {}", shape.noun()),
        )),
    }
}

pub(super) fn walk_table(
    fields: &'static [Field],
    table: &DeTable<'_>,
    path: &str,
    at: usize,
    lines: &mut Lines<'_>,
    findings: &mut Vec<Finding>,
) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match fields.iter().find(|f| f.name == name) {
            Some(f) => walk(f.shape, value, &below(name), lines, findings),
            None => {
                lines.remember(&below(name), key.span().start);
                let known: Vec<_> = fields.iter().map(|f| f.name).collect();
                findings.push(lines.finding(
                    &below(name),
                    "unknown field".to_owned(),
                    format!("use one of {}", known.join(", ")),
                ));
            }
        }
    }
    for f in fields.iter().filter(|f| f.required && !table.keys().any(|k| k.get_ref() == f.name)) {
        lines.remember(&below(f.name), at);
        findings.push(lines.finding(
            &below(f.name),
            "is missing".to_owned(),
            format!("add {} = {}", f.name, f.shape.noun()),
        ));
    }
}

pub(super) fn profile_fields() -> &'static [Field] {
    match &PROFILE {
        Shape::Table(fields) => fields,
        Shape::Text | Shape::Integer | Shape::Flag | Shape::List(_) => &[],
    }
}

/// A value of this shape: a part of `value` that does not fit is replaced by a harmless default, so
/// that the rules can check the rest of a document with a broken structure. Positions in lists do
/// not change.
pub(super) fn repaired(shape: &Shape, value: Option<toml::Value>) -> toml::Value {
    use toml::Value;
    match (shape, value) {
        (Shape::Text, Some(v @ Value::String(_)))
        | (Shape::Integer, Some(v @ Value::Integer(_)))
        | (Shape::Flag, Some(v @ Value::Boolean(_))) => v,
        (Shape::Text, _) => Value::String(String::new()),
        (Shape::Integer, _) => Value::Integer(1),
        (Shape::Flag, _) => Value::Boolean(false),
        (Shape::List(item), Some(Value::Array(items))) => {
            Value::Array(items.into_iter().map(|v| repaired(item, Some(v))).collect())
        }
        (Shape::List(_), _) => Value::Array(vec![]),
        (Shape::Table(fields), value) => {
            let mut given = match value {
                Some(Value::Table(table)) => table,
                _ => toml::Table::new(),
            };
            let known = fields.iter().filter_map(|f| {
                let value = given.remove(f.name);
                (value.is_some() || f.required)
                    .then(|| (f.name.to_owned(), repaired(f.shape, value)))
            });
            Value::Table(known.collect())
        }
    }
}
