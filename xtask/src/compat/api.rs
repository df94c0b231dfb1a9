//! Whether the API still serves clients of the previous release: fields are added, not removed, and
//! nothing more is required of a request (docs/deprecation.md).
//!
//! Values that an enumeration of a response gets are added fields as well: a client must expect
//! values that it does not know.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Most levels of schemas in schemas.
const DEPTH_MAX: usize = 64;

/// Compares the kept document with today's. `accepted` are breaks that a decision allows, with its
/// reason; one that is no break any more must be removed.
pub fn check(kept: &Path, today: &Path, accepted: &BTreeMap<String, String>) -> Result<()> {
    let read = |path: &Path| -> Result<Value> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let broken = breaks(&read(kept)?, &read(today)?);
    let unknown: Vec<_> = broken.iter().filter(|text| !accepted.contains_key(*text)).collect();
    let listed = unknown.iter().map(|text| format!("\n  {text}")).collect::<String>();
    ensure!(
        unknown.is_empty(),
        "the API no longer serves clients of the previous release:{listed}\n\
         keep the old form beside the new one; see docs/deprecation.md"
    );
    let stale = accepted.keys().find(|text| !broken.contains(*text));
    ensure!(stale.is_none(), "[accepted] has {stale:?}, which is no break");
    Ok(())
}

/// The document as it is kept: what programs read of it, without texts for people.
pub fn essence(document: &Value) -> Value {
    match document {
        Value::Object(fields) => {
            let is_text = |name: &str, value: &Value| {
                let words = ["description", "summary", "title", "example", "examples", "tags"];
                words.contains(&name) && (!value.is_object() || name.starts_with("example"))
            };
            let kept = fields.iter().filter(|(name, value)| !is_text(name, value));
            kept.map(|(name, value)| (name.clone(), essence(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(essence).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

/// A document with one line for each path and each schema.
pub fn lines(document: &Value) -> Result<String> {
    let line = |(name, value): (&String, &Value)| -> Result<String> {
        Ok(format!("{}: {}", serde_json::to_string(name)?, serde_json::to_string(value)?))
    };
    let each = |value: &Value| -> Result<String> {
        Ok(fields(value).map(line).collect::<Result<Vec<_>>>()?.join(",\n"))
    };
    let (paths, schemas) = (each(&document["paths"])?, each(&document["components"]["schemas"])?);
    Ok(format!(
        "{{\"openapi\": {}, \"paths\": {{\n{paths}\n}}, \"components\": {{\"schemas\": {{\n{schemas}\n}}}}}}\n",
        document["openapi"]
    ))
}

/// Who writes the value that a schema describes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Writer {
    Client,
    Server,
}

/// What a client of `old` can run into at a server of `new`, each as one line, ordered.
fn breaks(old: &Value, new: &Value) -> BTreeSet<String> {
    let mut found = Comparison { old, new, seen: BTreeSet::new(), broken: BTreeSet::new() };
    for (path, item) in fields(&old["paths"]) {
        for (method, operation) in fields(item) {
            let Some(id) = operation["operationId"].as_str() else { continue };
            let today = &new["paths"][path.as_str()][method.as_str()];
            if today.is_null() {
                found.say(id, "the operation is gone");
            } else {
                found.operation(id, operation, today);
            }
        }
    }
    found.broken
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> BTreeSet<&str> {
    items(value).chain(std::iter::once(value)).filter_map(Value::as_str).collect()
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Pairs of named schemas that are compared, or were.
    seen: BTreeSet<(String, String, Writer)>,
    broken: BTreeSet<String>,
}

impl<'a> Comparison<'a> {
    fn say(&mut self, at: &str, what: impl std::fmt::Display) {
        self.broken.insert(format!("{at}: {what}"));
    }

    fn operation(&mut self, id: &str, old: &'a Value, new: &'a Value) {
        if new["operationId"].as_str() != Some(id) {
            self.say(id, format!("its id is {} now", new["operationId"]));
        }
        self.parameters(id, old, new);
        let (before, after) = (&old["requestBody"], &new["requestBody"]);
        if after["required"] == true && before["required"] != true {
            self.say(id, "a body is required now");
        }
        for (kind, content) in fields(&before["content"]) {
            let at = format!("{id} request");
            match after["content"].get(kind) {
                Some(today) => {
                    self.schema(&at, (&content["schema"], &today["schema"]), Writer::Client, 0)
                }
                None => self.say(&at, format!("{kind} is not accepted any more")),
            }
        }
        let is_success = |status: &str| status.starts_with('2');
        for (status, response) in fields(&old["responses"]).filter(|(s, _)| is_success(s)) {
            let at = format!("{id} response {status}");
            let Some(today) = new["responses"].get(status) else {
                self.say(&at, "it is gone");
                continue;
            };
            for (kind, content) in fields(&response["content"]) {
                match today["content"].get(kind) {
                    Some(today) => {
                        self.schema(&at, (&content["schema"], &today["schema"]), Writer::Server, 0)
                    }
                    None => self.say(&at, format!("it has no {kind} any more")),
                }
            }
        }
    }

    fn parameters(&mut self, id: &str, old: &'a Value, new: &'a Value) {
        let name = |p: &Value| (p["in"].to_string(), p["name"].to_string());
        for parameter in items(&old["parameters"]) {
            let at = format!("{id} parameter {}", parameter["name"]);
            match items(&new["parameters"]).find(|p| name(p) == name(parameter)) {
                Some(today) => {
                    let pair = (&parameter["schema"], &today["schema"]);
                    self.schema(&at, pair, Writer::Client, 0);
                    if today["required"] == true && parameter["required"] != true {
                        self.say(&at, "it is required now");
                    }
                }
                None => self.say(&at, "it is gone"),
            }
        }
        for parameter in items(&new["parameters"]).filter(|p| p["required"] == true) {
            if !items(&old["parameters"]).any(|p| name(p) == name(parameter)) {
                self.say(id, format!("the new parameter {} is required", parameter["name"]));
            }
        }
    }

    /// A schema by its name, or itself.
    fn resolved(document: &'a Value, schema: &'a Value) -> (&'a Value, Option<&'a str>) {
        let Some(reference) = schema["$ref"].as_str() else { return (schema, None) };
        let pointer = reference.trim_start_matches('#');
        (document.pointer(pointer).unwrap_or(&Value::Null), Some(reference))
    }

    fn schema(&mut self, at: &str, pair: (&'a Value, &'a Value), writer: Writer, depth: usize) {
        let (old, old_name) = Self::resolved(self.old, pair.0);
        let (new, new_name) = Self::resolved(self.new, pair.1);
        if let (Some(a), Some(b)) = (old_name, new_name)
            && !self.seen.insert((a.to_owned(), b.to_owned(), writer))
        {
            return;
        }
        if depth > DEPTH_MAX {
            self.say(at, "schemas are too deep to be compared");
            return;
        }
        // A named schema is said by its name, as many operations use it.
        let name = old_name.and_then(|name| name.rsplit('/').next());
        let at = name.map_or_else(|| at.to_owned(), |name| format!("{name} {}", direction(writer)));
        self.types(&at, old, new, writer);
        self.properties(&at, (old, new), writer, depth);
        if !old["items"].is_null() {
            self.schema(&format!("{at}[]"), (&old["items"], &new["items"]), writer, depth + 1);
        }
        if old["additionalProperties"].is_object() {
            let pair = (&old["additionalProperties"], &new["additionalProperties"]);
            self.schema(&format!("{at}{{}}"), pair, writer, depth + 1);
        }
        for kind in ["oneOf", "anyOf", "allOf"] {
            self.variants(&at, (&old[kind], &new[kind]), writer, depth);
        }
    }

    fn types(&mut self, at: &str, old: &Value, new: &Value, writer: Writer) {
        let (before, after) = (words(&old["type"]), words(&new["type"]));
        // An integer is a number that its reader accepts.
        let fits = |word: &str, among: &BTreeSet<&str>| {
            among.contains(word) || (word == "integer" && among.contains("number"))
        };
        let is_right = match writer {
            Writer::Client => after.is_empty() || before.iter().all(|word| fits(word, &after)),
            Writer::Server => before.is_empty() || after.iter().all(|word| fits(word, &before)),
        };
        if !is_right {
            self.say(at, format!("its type was {} and is {}", old["type"], new["type"]));
        }
        let (before, after) = (words(&old["enum"]), words(&new["enum"]));
        if writer == Writer::Client && !after.is_empty() {
            for value in before.difference(&after) {
                self.say(at, format!("the value {value:?} is gone"));
            }
        }
    }

    fn properties(
        &mut self,
        at: &str,
        (old, new): (&'a Value, &'a Value),
        writer: Writer,
        depth: usize,
    ) {
        let (before, after) = (words(&old["required"]), words(&new["required"]));
        for (name, property) in fields(&old["properties"]) {
            let place = format!("{at}.{name}");
            match new["properties"].get(name) {
                Some(today) => self.schema(&place, (property, today), writer, depth + 1),
                None => self.say(&place, "the field is gone"),
            }
            let (was, is) = (before.contains(name.as_str()), after.contains(name.as_str()));
            match writer {
                Writer::Client if is && !was => self.say(&place, "the field is required now"),
                Writer::Server if was && !is => self.say(&place, "the field may be absent now"),
                Writer::Client | Writer::Server => {}
            }
        }
        let known = |name: &str| old["properties"].get(name).is_some();
        for name in after.iter().filter(|name| writer == Writer::Client && !known(name)) {
            self.say(&format!("{at}.{name}"), "the new field is required");
        }
    }

    /// Every variant that there was fits one of today's.
    fn variants(
        &mut self,
        at: &str,
        (old, new): (&'a Value, &'a Value),
        writer: Writer,
        depth: usize,
    ) {
        for (number, variant) in items(old).enumerate() {
            let mut nearest: Option<(BTreeSet<String>, BTreeSet<_>)> = None;
            for today in items(new) {
                let mut trial = Comparison {
                    old: self.old,
                    new: self.new,
                    seen: self.seen.clone(),
                    broken: BTreeSet::new(),
                };
                if tag(self.old, variant) == tag(self.new, today) {
                    trial.schema(
                        &format!("{at} variant {number}"),
                        (variant, today),
                        writer,
                        depth + 1,
                    );
                    let (broken, seen) = (trial.broken, trial.seen);
                    if nearest.as_ref().is_none_or(|(found, _)| broken.len() < found.len()) {
                        nearest = Some((broken, seen));
                    }
                }
            }
            match nearest {
                Some((broken, seen)) => {
                    self.broken.extend(broken);
                    self.seen = seen;
                }
                None => {
                    self.say(at, format!("variant {number} {} is gone", tag(self.old, variant)))
                }
            }
        }
    }
}

/// What tells a variant from others: its name, its type, and each field with one possible value.
fn tag(document: &Value, variant: &Value) -> String {
    let (schema, name) = Comparison::resolved(document, variant);
    let one = |value: &Value| items(&value["enum"]).count() == 1;
    let fixed = fields(&schema["properties"]).filter(|(_, value)| one(value));
    let mut words: Vec<_> =
        fixed.map(|(name, value)| format!("{name}={}", value["enum"])).collect();
    words.extend(name.map(str::to_owned));
    if words.is_empty() {
        words.push(schema["type"].to_string());
        words.extend(items(&schema["enum"]).map(ToString::to_string));
        words.extend(fields(&schema["properties"]).map(|(name, _)| name.clone()).take(1));
    }
    words.join(" ")
}

const fn direction(writer: Writer) -> &'static str {
    match writer {
        Writer::Client => "(request)",
        Writer::Server => "(response)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A document with one operation, whose body and response is this schema.
    fn document(schema: &Value) -> Value {
        let content =
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}});
        json!({
            "paths": {"/things": {"post": {
                "operationId": "make_thing",
                "parameters": [{"in": "query", "name": "q", "schema": {"type": "string"}}],
                "requestBody": {"content": content, "required": true},
                "responses": {"200": {"content": content}, "404": {}}
            }}},
            "components": {"schemas": {"Thing": schema}}
        })
    }

    fn thing() -> Value {
        json!({
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "string"},
                "size": {"type": ["integer", "null"]},
                "colour": {"type": "string", "enum": ["red", "blue"]},
                "inner": {"$ref": "#/components/schemas/Thing"},
                "kind": {"oneOf": [
                    {"type": "object", "required": ["type"],
                     "properties": {"type": {"type": "string", "enum": ["a"]}, "n": {"type": "integer"}}},
                    {"type": "null"}
                ]}
            }
        })
    }

    fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let (old, mut new) = (document(&thing()), document(&thing()));
        change(&mut new);
        breaks(&old, &new).into_iter().collect()
    }

    #[test]
    fn what_is_added_breaks_nothing() {
        assert_eq!(after(|_| ()), [""; 0]);
        let more = after(|new| {
            let thing = &mut new["components"]["schemas"]["Thing"];
            thing["properties"]["more"] = json!({"type": "string"});
            thing["properties"]["colour"]["enum"] = json!(["red", "blue", "green"]);
            let variants = thing["properties"]["kind"]["oneOf"].as_array_mut().unwrap();
            let other = json!({"type": "object", "properties": {"type": {"enum": ["b"]}}});
            variants.insert(0, other);
            new["paths"]["/others"] = json!({"get": {"operationId": "others", "responses": {}}});
            let parameters = new["paths"]["/things"]["post"]["parameters"].as_array_mut().unwrap();
            parameters.push(json!({"in": "query", "name": "more", "schema": {"type": "string"}}));
        });
        assert_eq!(more, [""; 0]);
    }

    #[test]
    fn each_break_is_named() {
        type Change = fn(&mut Value);
        let cases: [(Change, &[&str]); 10] = [
            (|new| new["paths"] = json!({}), &["make_thing: the operation is gone"]),
            (
                |new| new["paths"]["/things"]["post"]["parameters"][0]["required"] = json!(true),
                &["make_thing parameter \"q\": it is required now"],
            ),
            (
                |new| new["paths"]["/things"]["post"]["parameters"] = json!([]),
                &["make_thing parameter \"q\": it is gone"],
            ),
            (
                |new| new["paths"]["/things"]["post"]["responses"] = json!({"201": {}}),
                &["make_thing response 200: it is gone"],
            ),
            (
                |new| {
                    let thing = &mut new["components"]["schemas"]["Thing"];
                    thing["properties"].as_object_mut().unwrap().remove("size");
                },
                &[
                    "Thing (request).size: the field is gone",
                    "Thing (response).size: the field is gone",
                ],
            ),
            (
                |new| new["components"]["schemas"]["Thing"]["required"] = json!([]),
                &["Thing (response).id: the field may be absent now"],
            ),
            (
                |new| {
                    new["components"]["schemas"]["Thing"]["required"] = json!(["id", "size", "x"])
                },
                &[
                    "Thing (request).size: the field is required now",
                    "Thing (request).x: the new field is required",
                ],
            ),
            (
                |new| {
                    let thing = &mut new["components"]["schemas"]["Thing"];
                    thing["properties"]["size"]["type"] = json!("string");
                },
                &[
                    "Thing (request).size: its type was [\"integer\",\"null\"] and is \"string\"",
                    "Thing (response).size: its type was [\"integer\",\"null\"] and is \"string\"",
                ],
            ),
            (
                |new| {
                    let thing = &mut new["components"]["schemas"]["Thing"];
                    thing["properties"]["colour"]["enum"] = json!(["red"]);
                },
                &["Thing (request).colour: the value \"blue\" is gone"],
            ),
            (
                |new| {
                    let thing = &mut new["components"]["schemas"]["Thing"];
                    thing["properties"]["kind"]["oneOf"].as_array_mut().unwrap().remove(0);
                },
                &[
                    "Thing (request).kind: variant 0 type=[\"a\"] is gone",
                    "Thing (response).kind: variant 0 type=[\"a\"] is gone",
                ],
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(after(change), expected);
        }
    }

    #[test]
    fn a_field_that_may_be_null_now_breaks_readers_and_not_writers() {
        let found = after(|new| {
            let thing = &mut new["components"]["schemas"]["Thing"];
            thing["properties"]["id"]["type"] = json!(["string", "null"]);
        });
        assert_eq!(
            found,
            ["Thing (response).id: its type was \"string\" and is [\"string\",\"null\"]"]
        );
    }

    #[test]
    fn texts_for_people_are_not_kept_and_fields_with_such_names_are() {
        let document = json!({
            "description": "words",
            "properties": {"description": {"type": "string", "example": {"a": 1}}, "tags": {"type": "array"}}
        });
        let kept =
            json!({"properties": {"description": {"type": "string"}, "tags": {"type": "array"}}});
        assert_eq!(essence(&document), kept);
    }
}
