//! The JSON Schema of a profile document (2020-12), for editors and other programs.

use super::Profile;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

/// The schema, with descriptions and examples. It also describes `extends` and `remove`.
///
/// # Errors
/// [`serde_json::Error`] when the schema does not serialize.
pub fn json_schema() -> Result<Value, serde_json::Error> {
    let mut schema = serde_json::to_value(Profile::schema())?;
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    let mut definitions = serde_json::Map::new();
    for (name, definition) in named {
        definitions.insert(name, serde_json::to_value(definition)?);
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Fleeti profile");
    schema["properties"]["extends"] = json!({
        "type": "array",
        "items": {"type": "string"},
        "description": "Fragments that this profile extends, in order: a later one changes an \
                        earlier one, and the profile changes both.",
        "examples": [["template/web-server", "baseline/standard"]],
    });
    schema["properties"]["remove"] = json!({
        "type": "object",
        "description": "Entries of inherited lists and maps to remove: the path of the list, and \
                        the keys of its entries.",
        "examples": [{"software": {"packages": ["nano"]}, "users": ["ops"]}],
    });
    schema["$defs"] = Value::Object(definitions);
    point_to_definitions(&mut schema);
    Ok(schema)
}

/// References of the API document point to its components; here they point to `$defs`.
fn point_to_definitions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", "#/$defs/");
            }
            // OpenAPI has one example, JSON Schema a list of them.
            if let Some(example) = fields.remove("example") {
                fields.insert("examples".to_owned(), Value::Array(vec![example]));
            }
            fields.values_mut().for_each(point_to_definitions);
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_definitions),
        _ => {}
    }
}
