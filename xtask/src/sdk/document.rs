//! The OpenAPI document, as far as clients follow from it. Everything is in an order of its own, so
//! that the same document always gives the same files.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The document.
pub struct Document {
    /// Schemas by name.
    pub schemas: BTreeMap<String, Value>,
    /// Operations, by tag, path and method.
    pub operations: Vec<Operation>,
    /// Names of schemas that are only the body of a request.
    pub requests: BTreeSet<String>,
}

/// An operation.
pub struct Operation {
    pub id: String,
    pub tag: String,
    pub method: &'static str,
    pub path: String,
    pub summary: String,
    /// Path parameters, in the order of the path.
    pub places: Vec<String>,
    /// Query parameters.
    pub query: Vec<Parameter>,
    pub body: Body,
    pub answer: Answer,
}

/// A query parameter.
pub struct Parameter {
    pub name: String,
    pub is_required: bool,
    pub schema: Value,
    pub description: String,
}

/// The body of a request.
pub enum Body {
    Nothing,
    Bytes,
    Json(Value),
}

/// The body of a response.
pub enum Answer {
    Nothing,
    Text,
    Bytes,
    /// JSON that the document does not describe.
    Free,
    Json(Value),
    /// Server-sent events of this schema.
    Events(Value),
}

const METHODS: [(&str, &str); 4] =
    [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("delete", "DELETE")];

impl Document {
    /// Reads a document.
    pub fn read(document: &Value) -> Result<Self> {
        let schemas = document["components"]["schemas"].as_object().context("no schemas")?;
        let schemas: BTreeMap<_, _> =
            schemas.iter().map(|(name, schema)| (name.clone(), schema.clone())).collect();
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().context("no paths")? {
            for (key, method) in METHODS {
                if let Some(operation) = item.get(key) {
                    operations.push(
                        Operation::read(method, path, operation)
                            .with_context(|| format!("{method} {path}"))?,
                    );
                }
            }
        }
        operations.sort_by(|a, b| {
            (&a.tag, &a.path, a.method, &a.id).cmp(&(&b.tag, &b.path, b.method, &b.id))
        });
        let requests = only_requests(&schemas, &operations);
        Ok(Self { schemas, operations, requests })
    }

    /// The schema that a reference names.
    pub fn named<'a>(&'a self, schema: &'a Value) -> Option<(&'a str, &'a Value)> {
        let name = reference(schema)?;
        self.schemas.get_key_value(name).map(|(name, schema)| (name.as_str(), schema))
    }
}

/// The name that `{"$ref": ...}` refers to.
pub fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/")
}

/// Every name that a value refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(name) = reference(value) {
        found.insert(name.to_owned());
    }
    match value {
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        Value::Object(fields) => {
            // An act that waits for approval repeats a request, which is no other use of it.
            let others = fields.iter().filter(|(key, _)| *key != "request");
            others.for_each(|(_, value)| references(value, found));
        }
        _ => {}
    }
}

/// Schemas that are the body of one operation and nothing else: a client writes their fields as
/// arguments.
fn only_requests(schemas: &BTreeMap<String, Value>, operations: &[Operation]) -> BTreeSet<String> {
    let mut elsewhere = BTreeSet::new();
    schemas.values().for_each(|schema| references(schema, &mut elsewhere));
    let mut bodies: BTreeMap<String, usize> = BTreeMap::new();
    for operation in operations {
        if let Answer::Json(schema) | Answer::Events(schema) = &operation.answer {
            references(schema, &mut elsewhere);
        }
        if let Body::Json(schema) = &operation.body
            && let Some(name) = reference(schema)
        {
            *bodies.entry(name.to_owned()).or_default() += 1;
        }
    }
    // A profile is a document of its own, and one of several forms has no fields.
    let has_fields = |name: &String| schemas[name]["properties"].is_object();
    let is_written = |name: &String| !elsewhere.contains(name) && name != "Profile";
    bodies.into_keys().filter(|name| is_written(name) && has_fields(name)).collect()
}

impl Operation {
    fn read(method: &'static str, path: &str, operation: &Value) -> Result<Self> {
        let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
        let mut query = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let word = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            match parameter["in"].as_str() {
                // Headers are the business of the client below.
                Some("path" | "header") => {}
                Some("query") => query.push(Parameter {
                    name: word("name"),
                    is_required: parameter["required"].as_bool().unwrap_or_default(),
                    schema: parameter["schema"].clone(),
                    description: word("description"),
                }),
                other => bail!("a parameter in {other:?}"),
            }
        }
        let places = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        Ok(Self {
            id: text("operationId"),
            tag: operation["tags"][0].as_str().context("no tag")?.to_owned(),
            method,
            path: path.to_owned(),
            summary: text("summary"),
            places: places.map(str::to_owned).collect(),
            query,
            body: body(operation)?,
            answer: answer(operation)?,
        })
    }
}

fn body(operation: &Value) -> Result<Body> {
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return Ok(Body::Nothing);
    };
    if let Some(json) = content.get("application/json") {
        return Ok(Body::Json(json["schema"].clone()));
    }
    if content.contains_key("application/octet-stream") {
        return Ok(Body::Bytes);
    }
    bail!("a body of {:?}", content.keys().collect::<Vec<_>>())
}

fn answer(operation: &Value) -> Result<Answer> {
    let responses = operation["responses"].as_object().context("no responses")?;
    let (status, response) =
        responses.iter().find(|(status, _)| status.starts_with('2')).context("no success")?;
    let content = response["content"].as_object().and_then(|content| content.iter().next());
    let Some((kind, content)) = content else {
        return Ok(if status == "200" { Answer::Free } else { Answer::Nothing });
    };
    let schema = content["schema"].clone();
    Ok(match kind.as_str() {
        // The bytes of a document, whose digest counts.
        "application/json" if schema["type"] == "string" => Answer::Bytes,
        "application/json" if schema["type"] == "object" => Answer::Free,
        "application/json" => Answer::Json(schema),
        "text/event-stream" => Answer::Events(schema),
        "text/plain" | "application/pem-certificate-chain" => Answer::Text,
        _ if schema["type"] == "string" => Answer::Text,
        _ => Answer::Bytes,
    })
}
