//! The OpenAPI document as a page that is read without a program.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// The page: operations by subject, then every type.
pub fn page(document: &str) -> Result<String> {
    let document: Value = serde_json::from_str(document)?;
    let mut page = format!(
        "# HTTP API\n\n{} A server serves this document at `/api/v1/openapi.json`. Which role may call what: \
         [roles, permissions and routes](access.md).\n",
        words(&document["info"]["description"])
    );
    let mut subjects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().context("paths")? {
        for (method, operation) in methods.as_object().context("methods")? {
            let subject = words(&operation["tags"][0]);
            let text = self::operation(method, path, operation);
            subjects.entry(subject).or_default().push(text);
        }
    }
    for (subject, operations) in subjects {
        page.push_str(&format!("\n## {subject}\n{}", operations.concat()));
    }
    page.push_str("\n## Types\n");
    for (name, schema) in document["components"]["schemas"].as_object().context("schemas")? {
        page.push_str(&type_of(name, schema));
    }
    Ok(page)
}

fn operation(method: &str, path: &str, operation: &Value) -> String {
    let mut text =
        format!("\n### {} {path}\n\n{}\n", method.to_uppercase(), words(&operation["summary"]));
    let description = words(&operation["description"]);
    if !description.is_empty() {
        text.push_str(&format!("\n{description}\n"));
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        text.push_str("\n| parameter | in | type | meaning |\n|---|---|---|---|\n");
        for p in parameters {
            let row = [words(&p["in"]), kind(&p["schema"]), words(&p["description"])];
            text.push_str(&format!("| `{}` | {} |\n", words(&p["name"]), row.join(" | ")));
        }
    }
    let contents = &operation["requestBody"]["content"];
    for (media, content) in contents.as_object().into_iter().flatten() {
        text.push_str(&format!("\nBody (`{media}`): {}\n", kind(&content["schema"])));
    }
    let mut refusals = Vec::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.starts_with(['4', '5']) {
            refusals.push(status.clone());
            continue;
        }
        let shapes: Vec<String> = response["content"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(media, content)| match &content["schema"] {
                Value::Null => format!("`{media}`"),
                schema => kind(schema),
            })
            .collect();
        let shapes = shapes.join(", ");
        text.push_str(&format!("\n**{status}** {} {shapes}\n", words(&response["description"])));
    }
    if !refusals.is_empty() {
        text.push_str(&format!("\nRefused with [Problem](#problem): {}\n", refusals.join(", ")));
    }
    text
}

fn type_of(name: &str, schema: &Value) -> String {
    let mut text = format!("\n### {name}\n\n{}\n", words(&schema["description"]));
    let properties: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    if properties.is_empty() {
        text.push_str(&format!("\n{}\n", kind(schema)));
        return text;
    }
    let required: Vec<String> =
        schema["required"].as_array().into_iter().flatten().map(words).collect();
    text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for (field, of) in properties {
        let optional = if required.contains(field) { "" } else { ", optional" };
        let row = format!("{}{optional} | {}", kind(of), words(&of["description"]));
        text.push_str(&format!("| `{field}` | {row} |\n"));
    }
    text
}

/// A schema in words, with links to types.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for (key, joined) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[key].as_array() {
            return parts.iter().map(kind).collect::<Vec<_>>().join(joined);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|v| format!("`{}`", words(v))).collect();
        return values.join(", ");
    }
    if let Value::Object(fields) = &schema["properties"] {
        let fields: Vec<String> =
            fields.iter().map(|(name, of)| format!("`{name}`: {}", kind(of))).collect();
        return format!("{{ {} }}", fields.join(", "));
    }
    let name = match &schema["type"] {
        Value::Array(names) => {
            names.iter().map(words).filter(|n| n != "null").collect::<Vec<_>>().join(" or ")
        }
        one => words(one),
    };
    match name.as_str() {
        "array" => format!("list of {}", kind(&schema["items"])),
        "" => "anything".to_owned(),
        _ => name,
    }
}

/// A text for a cell of a table: one line, in which nothing is a tag or a column.
fn words(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn an_operation_has_its_parameters_body_answers_and_types() {
        let document = r##"{"info": {"description": "All."}, "paths": {"/a/{id}": {"post": {
            "tags": ["things"], "summary": "Change a | b.",
            "parameters": [{"name": "id", "in": "path", "description": "Its id.", "schema": {"type": "string"}}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
            "responses": {"200": {"description": "Done.", "content": {"application/json":
                {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}}}}, "404": {}}}}},
            "components": {"schemas": {"Thing": {"description": "A thing.", "required": ["n"], "properties": {
                "n": {"type": ["integer", "null"], "description": "How many <."}, "k": {"enum": ["x", "y"]}}}}}}"##;
        let page = page(document).unwrap();
        for expected in [
            "## things\n\n### POST /a/{id}\n\nChange a \\| b.\n",
            "| `id` | path | string | Its id. |\n",
            "Body (`application/json`): [Thing](#thing)\n",
            "**200** Done. list of [Thing](#thing)\n",
            "[Problem](#problem): 404\n",
            "### Thing\n\nA thing.\n",
            "| `n` | integer | How many &lt;. |\n",
            "| `k` | `x`, `y`, optional |  |\n",
        ] {
            assert!(page.contains(expected), "{expected}\n---\n{page}");
        }
    }
}
