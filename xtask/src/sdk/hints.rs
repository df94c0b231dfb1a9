//! Types of Python, and the expressions that read their values from JSON.

use super::document::{Document, reference};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Words of Python that cannot be names.
const WORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

/// What a schema is in Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One of these texts.
    Choice(Vec<String>),
    /// A text with a name.
    Text,
    /// A class.
    Class,
    /// One of several classes.
    Union,
}

/// What a named schema is.
pub fn kind(schema: &Value) -> Result<Kind> {
    if let Some(values) = schema["enum"].as_array() {
        return Ok(Kind::Choice(
            values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        ));
    }
    if schema.get("oneOf").is_some() {
        return Ok(Kind::Union);
    }
    match schema["type"].as_str() {
        Some("string") => Ok(Kind::Text),
        Some("object") => Ok(Kind::Class),
        other => bail!("a schema of type {other:?}"),
    }
}

/// A name of JSON as a name of Python. The package writes it back without the underscore.
pub fn name(json: &str) -> String {
    if WORDS.contains(&json) { format!("{json}_") } else { json.to_owned() }
}

/// The schema without `null`, and whether `null` is a value of it.
pub fn without_null(schema: &Value) -> (Value, bool) {
    if let Some([first, second]) = schema["oneOf"].as_array().map(Vec::as_slice)
        && second["type"] == "null"
    {
        return (first.clone(), true);
    }
    if let Some([first, second]) = schema["type"].as_array().map(Vec::as_slice)
        && second == "null"
    {
        let mut plain = schema.clone();
        plain["type"] = first.clone();
        return (plain, true);
    }
    (schema.clone(), false)
}

/// The type of a value that is not `null`. `prefix` is before names of models.
pub fn hint(schema: &Value, prefix: &str) -> Result<String> {
    if let Some(name) = reference(schema) {
        return Ok(format!("{prefix}{name}"));
    }
    Ok(match schema["type"].as_str() {
        Some("string") => match schema["enum"].as_array() {
            Some(values) => literal(values.iter().filter_map(Value::as_str)),
            None => "str".to_owned(),
        },
        Some("integer") => "int".to_owned(),
        Some("number") => "float".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("array") => match schema["prefixItems"].as_array() {
            Some(parts) => {
                let parts: Vec<_> =
                    parts.iter().map(|part| hint(part, prefix)).collect::<Result<_>>()?;
                format!("tuple[{}]", parts.join(", "))
            }
            None => format!("Sequence[{}]", hint(&schema["items"], prefix)?),
        },
        Some("object") => {
            format!("Mapping[str, {}]", hint(&schema["additionalProperties"], prefix)?)
        }
        other => bail!("a value of type {other:?}: {schema}"),
    })
}

/// A type with these texts as its values.
pub fn literal<'a>(values: impl Iterator<Item = &'a str>) -> String {
    format!("Literal[{}]", values.map(|v| format!("\"{v}\"")).collect::<Vec<_>>().join(", "))
}

/// The expression that reads a value that is not `null`. `prefix` is before names of models.
pub fn reader(document: &Document, schema: &Value, of: &str, prefix: &str) -> Result<String> {
    if let Some(name) = reference(schema) {
        let (_, named) = document.named(schema).with_context(|| name.to_owned())?;
        return Ok(match kind(named)? {
            Kind::Choice(_) => format!("_base.choice({of})"),
            Kind::Text => format!("_base.text({of})"),
            Kind::Class => format!("{prefix}{name}._read({of})"),
            Kind::Union => format!("{prefix}_read_{name}({of})"),
        });
    }
    Ok(match schema["type"].as_str() {
        Some("string") if schema.get("enum").is_some() => format!("_base.choice({of})"),
        Some("string") => format!("_base.text({of})"),
        Some("integer") => format!("_base.integer({of})"),
        Some("number") => format!("_base.number({of})"),
        Some("boolean") => format!("_base.boolean({of})"),
        // Parts of other types would need a name for the list.
        Some("array") if schema.get("prefixItems").is_some() => {
            let parts = schema["prefixItems"].as_array().map_or(0, Vec::len);
            if schema["prefixItems"]
                .as_array()
                .is_some_and(|p| p.iter().any(|p| p["type"] != "string"))
            {
                bail!("a list of parts that are no texts: {schema}");
            }
            match parts {
                2 => format!("_base.pair({of})"),
                other => bail!("a list of {other} parts"),
            }
        }
        Some("array") => {
            let item = reader(document, &schema["items"], "x", prefix)?;
            format!("[{item} for x in _base.items({of})]")
        }
        Some("object") => {
            let item = reader(document, &schema["additionalProperties"], "x", prefix)?;
            format!("{{k: {item} for k, x in _base.entries({of})}}")
        }
        other => bail!("a value of type {other:?}: {schema}"),
    })
}

/// A docstring, with its lines indented.
pub fn docstring(text: &str, indent: &str) -> String {
    let text = text.trim().replace('\\', "\\\\").replace("\"\"\"", "'''");
    if text.is_empty() {
        return String::new();
    }
    let lines = text.lines().map(str::trim_end).collect::<Vec<_>>();
    match lines.as_slice() {
        [one] if !one.ends_with('"') => format!("{indent}\"\"\"{one}\"\"\"\n"),
        lines => {
            let body = lines.join(&format!("\n{indent}")).replace(&format!("\n{indent}\n"), "\n\n");
            format!("{indent}\"\"\"{body}\n{indent}\"\"\"\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_is_no_type_of_its_own() {
        let (plain, is_nullable) = without_null(&json!({"type": ["integer", "null"]}));
        assert!(is_nullable && plain["type"] == "integer");
        let one = json!({"oneOf": [{"$ref": "#/components/schemas/Level"}, {"type": "null"}]});
        assert_eq!(hint(&without_null(&one).0, "m.").ok().as_deref(), Some("m.Level"));
    }

    #[test]
    fn a_word_of_python_is_no_name() {
        assert_eq!((name("from").as_str(), name("form").as_str()), ("from_", "form"));
    }
}
