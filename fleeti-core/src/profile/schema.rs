//! The JSON Schema of a profile document (2020-12), for editors and other programs.

use super::Profile;
use super::merge::KEYED;
use super::path;
use super::shape::{PROFILE, Shape};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

/// The schema, with descriptions and examples, of profiles and of fragments, with `extends` and
/// `remove`. Only the keys of entries are required, because a fragment may have the other fields;
/// [`super::check`] finds what is missing in the end.
///
/// # Errors
/// [`serde_json::Error`] when the schema does not serialize.
pub fn json_schema() -> Result<Value, serde_json::Error> {
    let mut schema = serde_json::to_value(Profile::schema())?;
    let mut named = Vec::new();
    Profile::schemas(&mut named);
    let mut definitions = Map::new();
    for (name, definition) in named {
        definitions.insert(name, serde_json::to_value(definition)?);
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Fleeti profile");
    schema["properties"]["extends"] = json!({
        "type": "array",
        "items": {"type": "string"},
        "description": "Fragments that this profile extends, in order: a later one changes an \
                        earlier one, and the profile changes all of them.",
        "examples": [["template/web-server", "baseline/standard"]],
    });
    let mut remove = removable(&PROFILE, "").unwrap_or_default();
    remove["description"] = json!(
        "Entries of inherited lists and maps to remove: the path of the list, and the keys of \
         its entries."
    );
    remove["examples"] = json!([{"software": {"packages": ["nano"]}, "users": ["ops"]}]);
    schema["properties"]["remove"] = remove;
    schema["$defs"] = Value::Object(definitions);
    adapt(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("required");
        // A profile has both, a fragment neither.
        let own = json!({"schema": ["name"], "name": ["schema"]});
        fields.insert("dependentRequired".to_owned(), own);
    }
    Ok(schema)
}

/// The schema of what can be removed: for each list and each map, the keys of entries.
fn removable(shape: &Shape, at: &str) -> Option<Value> {
    match shape {
        Shape::Text | Shape::Choice(_) | Shape::Integer(..) | Shape::Flag => None,
        Shape::List(_) | Shape::Map(_) => Some(json!({
            "type": "array",
            "items": {"type": "string"},
            "description": format!("Entries to remove from the inherited {at}."),
        })),
        Shape::Table(fields) => {
            let mut properties = Map::new();
            for field in fields {
                let at = path::field(at, &field.name);
                if let Some(inner) = removable(&field.shape, &at) {
                    properties.insert(field.name.clone(), inner);
                }
            }
            (!properties.is_empty()).then(|| {
                json!({
                    "type": "object",
                    "properties": properties,
                    "additionalProperties": false,
                    "description": format!("What to remove from the inherited {at}."),
                })
            })
        }
    }
}

/// Turns a schema of the API document into one of documents: references point to `$defs`, an
/// example is a list of examples, nothing is null, and only keys are required.
fn adapt(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // First, because it can bring a reference to this level.
            without_null(fields);
            if let Some(Value::String(target)) = fields.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", "#/$defs/");
            }
            // OpenAPI has one example, JSON Schema a list of them.
            if let Some(example) = fields.remove("example") {
                fields.insert("examples".to_owned(), Value::Array(vec![example]));
            }
            if let Some(Value::Array(names)) = fields.get_mut("required") {
                names.retain(|name| KEYED.iter().any(|(_, key)| name.as_str() == Some(key)));
                if names.is_empty() {
                    fields.remove("required");
                }
            }
            fields.values_mut().for_each(adapt);
        }
        Value::Array(items) => items.iter_mut().for_each(adapt),
        _ => {}
    }
}

/// TOML has no null: an optional value is left out.
fn without_null(fields: &mut Map<String, Value>) {
    let is_null = |value: &Value| value.as_str() == Some("null") || value["type"] == "null";
    if let Some(Value::Array(kinds)) = fields.get_mut("type") {
        kinds.retain(|kind| !is_null(kind));
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            fields.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("oneOf") {
        choices.retain(|choice| !is_null(choice));
        if let [Value::Object(choice)] = choices.as_mut_slice() {
            let choice = std::mem::take(choice);
            fields.remove("oneOf");
            fields.extend(choice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each property of a schema and of its definitions, with its path.
    fn properties<'a>(value: &'a Value, at: &str, out: &mut Vec<(String, &'a Value)>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::Object(named)) = fields.get("properties") {
                    let named = named.iter().map(|(name, p)| (format!("{at}.{name}"), p));
                    out.extend(named);
                }
                fields.iter().for_each(|(k, v)| properties(v, &format!("{at}/{k}"), out));
            }
            Value::Array(items) => items.iter().for_each(|v| properties(v, at, out)),
            _ => {}
        }
    }

    #[test]
    fn every_property_and_every_definition_has_a_description() {
        let schema = json_schema().unwrap();
        let mut found = Vec::new();
        properties(&schema, "", &mut found);
        assert!(found.len() > 150, "{}", found.len());
        let definitions = schema["$defs"].as_object().unwrap();
        found.extend(definitions.iter().map(|(name, value)| (name.clone(), value)));
        let described =
            |value: &Value| value["description"].as_str().is_some_and(|d| !d.is_empty());
        let missing: Vec<_> =
            found.iter().filter(|(_, value)| !described(value)).map(|(at, _)| at).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_reference_has_a_definition() {
        fn references(value: &Value, out: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    out.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|v| references(v, out));
                }
                Value::Array(items) => items.iter().for_each(|v| references(v, out)),
                _ => {}
            }
        }
        let schema = json_schema().unwrap();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(found.len() > 20);
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(schema.pointer(pointer).is_some(), "{target}");
        }
    }

    #[test]
    fn only_keys_are_required_and_unknown_fields_are_refused() {
        let schema = json_schema().unwrap();
        let user = &schema["$defs"]["User"];
        assert_eq!(user["required"], json!(["name"]));
        assert_eq!(user["additionalProperties"], json!(false));
        assert_eq!(user["properties"]["id"]["type"], json!("integer"), "not null");
        assert_eq!(schema["$defs"]["File"]["required"], json!(["path"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["required"], Value::Null);
        let packages = &schema["properties"]["remove"]["properties"]["software"]["properties"];
        assert_eq!(packages["packages"]["type"], json!("array"));
    }
}
