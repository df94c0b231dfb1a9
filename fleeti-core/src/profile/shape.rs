//! The structure of a profile document, checked so that all structural errors are found in one
//! pass.
//!
//! serde stops at the first error, but an author wants all of them. This walk uses the positions
//! that the TOML parser keeps. If it finds no error, deserialisation cannot fail on the structure.

use super::Profile;
use super::finding::{Finding, Lines};
use std::collections::HashMap;
use std::sync::LazyLock;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayItems, Object, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

pub(super) enum Shape {
    Text,
    Integer,
    Flag,
    List(Box<Shape>),
    Table(Vec<Field>),
}

pub(super) struct Field {
    name: String,
    required: bool,
    shape: Shape,
}

/// The shape of [`Profile`], from the schema that its type has in the API.
pub(super) static PROFILE: LazyLock<Shape> = LazyLock::new(|| {
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    Shape::of(&Profile::schema(), &named.into_iter().collect())
});

impl Shape {
    /// The shape of a schema. What is neither a list, a table, an integer nor a flag is a text: the
    /// types of a profile have no other values.
    fn of(schema: &RefOr<Schema>, named: &HashMap<String, RefOr<Schema>>) -> Self {
        let schema = match schema {
            RefOr::T(schema) => schema,
            RefOr::Ref(reference) => {
                let name = reference.ref_location.rsplit('/').next();
                return match name.and_then(|name| named.get(name)) {
                    Some(schema) => Self::of(schema, named),
                    None => Self::Text,
                };
            }
        };
        match schema {
            Schema::Array(array) => match &array.items {
                ArrayItems::RefOrSchema(items) => Self::List(Box::new(Self::of(items, named))),
                ArrayItems::False => Self::List(Box::new(Self::Text)),
            },
            Schema::Object(object) => match &object.schema_type {
                SchemaType::Type(Type::Object) => Self::Table(fields(object, named)),
                SchemaType::Type(Type::Integer) => Self::Integer,
                SchemaType::Type(Type::Boolean) => Self::Flag,
                _ => Self::Text,
            },
            _ => Self::Text,
        }
    }
}

fn fields(object: &Object, named: &HashMap<String, RefOr<Schema>>) -> Vec<Field> {
    let of = |(name, schema): (&String, &RefOr<Schema>)| Field {
        name: name.clone(),
        required: object.required.contains(name),
        shape: Shape::of(schema, named),
    };
    object.properties.iter().map(of).collect()
}

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
    fields: &[Field],
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
            Some(f) => walk(&f.shape, value, &below(name), lines, findings),
            None => {
                lines.remember(&below(name), key.span().start);
                let known: Vec<_> = fields.iter().map(|f| f.name.as_str()).collect();
                findings.push(lines.finding(
                    &below(name),
                    "unknown field".to_owned(),
                    format!("use one of {}", known.join(", ")),
                ));
            }
        }
    }
    for f in fields.iter().filter(|f| f.required && !table.keys().any(|k| *k.get_ref() == f.name)) {
        lines.remember(&below(&f.name), at);
        findings.push(lines.finding(
            &below(&f.name),
            "is missing".to_owned(),
            format!("add {} = {}", f.name, f.shape.noun()),
        ));
    }
}

pub(super) fn profile_fields() -> &'static [Field] {
    match &*PROFILE {
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
                let value = given.remove(&f.name);
                (value.is_some() || f.required).then(|| (f.name.clone(), repaired(&f.shape, value)))
            });
            Value::Table(known.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(shape: &Shape, path: &str, required: bool, out: &mut Vec<String>) {
        let mark = if required { ", required" } else { "" };
        out.push(format!("{path}: {}{mark}", shape.noun()));
        match shape {
            Shape::Text | Shape::Integer | Shape::Flag => {}
            Shape::List(item) => describe(item, &format!("{path}[]"), false, out),
            Shape::Table(fields) => {
                for f in fields {
                    describe(&f.shape, &format!("{path}.{}", f.name), f.required, out);
                }
            }
        }
    }

    #[test]
    fn the_shape_of_a_profile_is_that_of_its_type() {
        let mut out = Vec::new();
        describe(&PROFILE, "", false, &mut out);
        insta::assert_snapshot!(out.join("\n"));
    }
}
