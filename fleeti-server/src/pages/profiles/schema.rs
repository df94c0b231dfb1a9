//! The types of a profile's values, as its schema declares them, and the places of the editor.

use fleeti_core::profile::Profile;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayItems, Object, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

static DEFINITIONS: LazyLock<HashMap<String, RefOr<Schema>>> = LazyLock::new(|| {
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    named.into_iter().collect()
});
/// The schema of a profile.
pub static PROFILE: LazyLock<RefOr<Schema>> = LazyLock::new(Profile::schema);

/// The type of a value, as its schema declares it.
pub enum Shape {
    Object(&'static Object),
    /// A list of texts.
    Texts,
    /// A list of some of these values.
    Choices(Vec<String>),
    Objects(&'static RefOr<Schema>),
    /// Names that the author chooses, each with a text.
    Pairs,
    /// The values to choose from. An empty one stands for none.
    Choice(Vec<String>),
    Integer,
    Flag,
    Lines,
    Text,
}

/// The schema that a reference names.
pub fn resolved(schema: &'static RefOr<Schema>) -> Option<&'static Schema> {
    match schema {
        RefOr::T(schema) => Some(schema),
        RefOr::Ref(reference) => {
            match DEFINITIONS.get(reference.ref_location.rsplit('/').next()?)? {
                RefOr::T(schema) => Some(schema),
                RefOr::Ref(_) => None,
            }
        }
    }
}

/// The type that a schema declares.
pub fn shape(schema: &'static RefOr<Schema>) -> Shape {
    match resolved(schema) {
        Some(Schema::Array(array)) => match &array.items {
            ArrayItems::RefOrSchema(items) => match shape(items) {
                Shape::Object(_) => Shape::Objects(items),
                Shape::Choice(values) => Shape::Choices(values),
                _ => Shape::Texts,
            },
            ArrayItems::False => Shape::Texts,
        },
        Some(Schema::Object(object)) => match (&object.enum_values, &object.schema_type) {
            (Some(values), _) => {
                Shape::Choice(values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            }
            (None, SchemaType::Type(Type::Object)) if object.additional_properties.is_some() => {
                // `deny_unknown_fields` is written as additional properties that are never there.
                match object.additional_properties.as_deref() {
                    Some(AdditionalProperties::RefOr(_)) => Shape::Pairs,
                    _ => Shape::Object(object),
                }
            }
            (None, SchemaType::Type(Type::Object)) => Shape::Object(object),
            (None, kind) if is_kind(kind, &Type::Integer) => Shape::Integer,
            (None, kind) if is_kind(kind, &Type::Boolean) => Shape::Flag,
            _ if matches!(&object.format, Some(SchemaFormat::Custom(name)) if name == "multiline") => {
                Shape::Lines
            }
            _ => Shape::Text,
        },
        // An optional value of a type with a name: null, or the type.
        Some(Schema::OneOf(one)) => {
            match one.items.iter().find(|item| matches!(item, RefOr::Ref(_))).map(shape) {
                Some(Shape::Choice(values)) => {
                    Shape::Choice(std::iter::once(String::new()).chain(values).collect())
                }
                Some(other) => other,
                None => Shape::Text,
            }
        }
        _ => Shape::Text,
    }
}

/// Whether a type is this one, or this one or null.
fn is_kind(found: &SchemaType, kind: &Type) -> bool {
    match found {
        SchemaType::Type(one) => one == kind,
        SchemaType::Array(kinds) => kinds.contains(kind),
        SchemaType::AnyValue => false,
    }
}

/// The default of a flag.
pub fn is_on_by_default(schema: &'static RefOr<Schema>) -> bool {
    matches!(resolved(schema), Some(Schema::Object(object)) if object.default == Some(Value::Bool(true)))
}

/// An example of a value, one line for each entry of a list; empty if there is none.
pub fn example(schema: &'static RefOr<Schema>) -> String {
    let own = match schema {
        RefOr::T(Schema::Object(object)) => object.example.as_ref(),
        RefOr::T(Schema::Array(array)) => array.example.as_ref(),
        _ => None,
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match own {
        Some(Value::Array(values)) => values.iter().map(text).collect::<Vec<_>>().join("\n"),
        Some(Value::Object(pairs)) => {
            let line = |(name, value): (&String, &Value)| format!("{name} = {}", text(value));
            pairs.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Some(value) => text(value),
        None => String::new(),
    }
}

/// A place in the editor: the whole profile, a property, or an entry of a list.
pub struct Place {
    pub schema: &'static RefOr<Schema>,
    /// As `users[0].ssh_keys`; empty for the whole profile.
    pub path: String,
    /// Name of the property; that of the list for an entry.
    pub name: &'static str,
    pub required: bool,
}

impl Place {
    /// The whole profile.
    pub fn root() -> Self {
        Self { schema: &PROFILE, path: String::new(), name: "", required: true }
    }
    /// The place at a path such as `users[0].ssh_keys`; `None` if no profile has it.
    pub fn at(path: &str) -> Option<Self> {
        let mut place = Self::root();
        for step in path.split(['.', '[']) {
            place = match (shape(place.schema), step.strip_suffix(']')) {
                (Shape::Objects(items), Some(index)) => place.entry(items, index.parse().ok()?),
                (Shape::Object(object), None) => {
                    let (name, schema) = object.properties.get_key_value(step)?;
                    place.property(object, name, schema)
                }
                _ => return None,
            };
        }
        Some(place)
    }

    /// A property of an object.
    pub fn property(
        &self,
        object: &'static Object,
        name: &'static str,
        schema: &'static RefOr<Schema>,
    ) -> Self {
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { schema, path, name, required: object.required.iter().any(|r| r == name) }
    }
    /// An entry of a list.
    pub fn entry(&self, items: &'static RefOr<Schema>, index: usize) -> Self {
        let path = format!("{}[{index}]", self.path);
        Self { schema: items, path, name: self.name, required: true }
    }
}
