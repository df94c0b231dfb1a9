//! The shape of a profile document, derived from the schema of its type.
//!
//! serde stops at the first error, but an author wants all of them. Therefore a document is first
//! compared with its shape, and serde reads only what fits.

use super::Profile;
use std::collections::HashMap;
use std::sync::LazyLock;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// One of these strings.
    Choice(Vec<String>),
    /// An integer from the first to the second, inclusive.
    Integer(i64, i64),
    /// `true` or `false`.
    Flag,
    /// A list of values of one shape.
    List(Box<Shape>),
    /// A table with names that the author chooses.
    Map(Box<Shape>),
    /// A table with these fields.
    Table(Vec<Field>),
}

/// A field of a table.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// The shape of [`Profile`], from the schema that its type has in the API.
pub(super) static PROFILE: LazyLock<Shape> = LazyLock::new(|| {
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    Shape::of(&Profile::schema(), &named.into_iter().collect())
});

/// The shape of a document: a profile, what it extends, and what it removes from that.
pub(super) static DOCUMENT: LazyLock<Shape> = LazyLock::new(|| {
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    let Shape::Table(mut fields) = Shape::of(&Profile::schema(), &named.into_iter().collect())
    else {
        return Shape::Table(Vec::new());
    };
    let optional = |name: &str, shape| Field { name: name.to_owned(), required: false, shape };
    fields.push(optional("extends", Shape::List(Box::new(Shape::Text))));
    if let Some(removable) = PROFILE.removable() {
        fields.push(optional("remove", removable));
    }
    Shape::Table(fields)
});

type Named = HashMap<String, RefOr<Schema>>;

impl Shape {
    /// The shape of a schema. What is none of the others is a text: the types of a profile have no
    /// other values.
    fn of(schema: &RefOr<Schema>, named: &Named) -> Self {
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
            Schema::Object(object) => Self::of_object(object, named),
            // An optional value of a type with a name: null, or the type.
            Schema::OneOf(one) => one
                .items
                .iter()
                .find(|item| matches!(item, RefOr::Ref(_)))
                .map_or(Self::Text, |item| Self::of(item, named)),
            _ => Self::Text,
        }
    }

    fn of_object(object: &Object, named: &Named) -> Self {
        if let Some(values) = &object.enum_values {
            return Self::Choice(
                values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            );
        }
        let kind = match &object.schema_type {
            SchemaType::Type(kind) => Some(kind),
            SchemaType::Array(kinds) => kinds.iter().find(|kind| **kind != Type::Null),
            SchemaType::AnyValue => None,
        };
        match kind {
            Some(Type::Object) => match object.additional_properties.as_deref() {
                Some(AdditionalProperties::RefOr(items)) => {
                    Self::Map(Box::new(Self::of(items, named)))
                }
                _ => Self::Table(fields(object, named)),
            },
            Some(Type::Integer) => {
                let bound = |number: &Option<utoipa::Number>| match number {
                    Some(utoipa::Number::Int(number)) => i64::try_from(*number).ok(),
                    Some(utoipa::Number::UInt(number)) => i64::try_from(*number).ok(),
                    _ => None,
                };
                // Integers of a profile are u32, and the number of its schema.
                let highest = i64::from(u32::MAX);
                Self::Integer(
                    bound(&object.minimum).unwrap_or(0),
                    bound(&object.maximum).unwrap_or(highest),
                )
            }
            Some(Type::Boolean) => Self::Flag,
            _ => Self::Text,
        }
    }

    /// The shape of what a document can remove: for each list and each map, the names of entries.
    fn removable(&self) -> Option<Self> {
        match self {
            Self::Text | Self::Choice(_) | Self::Integer(..) | Self::Flag => None,
            Self::List(_) | Self::Map(_) => Some(Self::List(Box::new(Self::Text))),
            Self::Table(fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .filter_map(|field| {
                        let shape = field.shape.removable()?;
                        Some(Field { name: field.name.clone(), required: false, shape })
                    })
                    .collect();
                (!fields.is_empty()).then_some(Self::Table(fields))
            }
        }
    }

    /// The field of a table.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Table(fields) => fields.iter().find(|f| f.name == name).map(|f| &f.shape),
            Self::Map(items) => Some(items),
            _ => None,
        }
    }

    /// What a value should be, for a message.
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Text => "a string".to_owned(),
            Self::Choice(values) => format!("one of {}", values.join(", ")),
            Self::Integer(..) => "an integer".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Table(_) => "a table".to_owned(),
        }
    }
}

fn fields(object: &Object, named: &Named) -> Vec<Field> {
    let of = |(name, schema): (&String, &RefOr<Schema>)| Field {
        name: name.clone(),
        required: object.required.contains(name),
        shape: Shape::of(schema, named),
    };
    object.properties.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(shape: &Shape, path: &str, required: bool, out: &mut Vec<String>) {
        let mark = if required { ", required" } else { "" };
        let range = match shape {
            Shape::Integer(low, high) if (*low, *high) != (0, i64::from(u32::MAX)) => {
                format!(" {low}..={high}")
            }
            _ => String::new(),
        };
        out.push(format!("{path}: {}{range}{mark}", shape.noun()));
        match shape {
            Shape::Text | Shape::Choice(_) | Shape::Integer(..) | Shape::Flag => {}
            Shape::List(item) => describe(item, &format!("{path}[]"), false, out),
            Shape::Map(item) => describe(item, &format!("{path}.*"), false, out),
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
