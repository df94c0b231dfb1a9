//! `models.py`: a class for each object of the document, a union for each choice of objects, and an
//! alias for each text.

use super::document::{Document, reference};
use super::hints::{Kind, docstring, hint, kind, literal, name, reader, without_null};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

const HEAD: &str = "\
# Generated from fleeti-server/openapi.json by `cargo xtask sdk`.
\"\"\"What the API of a Fleeti server reads and writes.

Each class is immutable. `from_json` reads a value and raises `AnswerError` for one of another form;
`to_json` writes it. A field that is absent is `None`, or `()` for a list. A name that is a word of
Python has an underscore at its end: `from_`.
\"\"\"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from . import _base

";

/// Texts that a representation of a value does not show: object and field.
const SECRETS: [(&str, &str); 7] = [
    ("CreatedAccount", "link"),
    ("CreatedToken", "token"),
    ("CreatedWorker", "token"),
    ("EnrollmentRecord", "token"),
    ("PasswordLink", "path"),
    ("SetSecret", "value"),
    ("ShownRecoveryKey", "key"),
];

/// A field of a class.
struct Field {
    json: String,
    schema: Value,
    is_nullable: bool,
    is_required: bool,
    description: String,
}

/// A variant of a union.
struct Variant<'a> {
    class: String,
    schema: &'a Value,
    /// The field that tells variants apart, and its value; only the field if its presence does.
    tag: (String, Option<String>),
}

/// The text of the module.
pub fn text(document: &Document) -> Result<String> {
    let (mut text, mut aliases) = (HEAD.to_owned(), String::new());
    let mut names = BTreeSet::new();
    for (name, schema) in &document.schemas {
        let context = || name.clone();
        names.insert(name.clone());
        match kind(schema).with_context(context)? {
            Kind::Class => class(document, name, schema, None, &mut text).with_context(context)?,
            Kind::Union => {
                let variants = variants(name, schema).with_context(context)?;
                for variant in &variants {
                    names.insert(variant.class.clone());
                }
                union(document, name, schema, &variants, (&mut text, &mut aliases))
                    .with_context(context)?;
            }
            Kind::Choice(values) => {
                let values = literal(values.iter().map(String::as_str));
                alias(&mut aliases, name, &values, schema)?;
            }
            Kind::Text => alias(&mut aliases, name, "str", schema)?,
        }
    }
    for (class, field) in SECRETS {
        if document.schemas.get(class).is_none_or(|s| s["properties"].get(field).is_none()) {
            bail!("SECRETS names {class}.{field}, which does not exist");
        }
    }
    write!(text, "\n{aliases}\n__all__ = [\n")?;
    names.iter().try_for_each(|name| writeln!(text, "    \"{name}\","))?;
    text.push_str("]\n");
    Ok(text)
}

fn alias(text: &mut String, name: &str, of: &str, schema: &Value) -> Result<()> {
    let description = schema["description"].as_str().unwrap_or_default();
    write!(text, "\n{name}: TypeAlias = {of}\n{}", docstring(description, ""))?;
    Ok(())
}

/// The fields of an object: those that are required first, each group in an order of its own.
fn fields(schema: &Value) -> Vec<Field> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut fields: Vec<_> = properties
        .into_iter()
        .map(|(json, schema)| {
            let (plain, is_nullable) = without_null(&schema);
            let description = schema["description"].as_str().or(plain["description"].as_str());
            Field {
                is_required: required.contains(&json.as_str()),
                description: description.unwrap_or_default().to_owned(),
                json,
                schema: plain,
                is_nullable,
            }
        })
        .collect();
    let place = |field: &Field| required.iter().position(|json| *json == field.json);
    fields.sort_by_key(|field| (place(field).unwrap_or(usize::MAX), field.json.clone()));
    fields
}

/// A class, whose tag has one value if it is a variant.
fn class(
    document: &Document,
    class: &str,
    schema: &Value,
    tag: Option<(&str, &str)>,
    text: &mut String,
) -> Result<()> {
    let description = schema["description"].as_str().unwrap_or_default();
    write!(text, "\nclass {class}(_base.Model):\n{}\n", docstring(description, "    "))?;
    let (mut read, mut secrets) = (Vec::new(), Vec::new());
    for field in fields(schema) {
        let (python, json) = (name(&field.json), &field.json);
        if let Some((tag, value)) = tag
            && tag == json
        {
            writeln!(text, "    {python}: Literal[\"{value}\"] = \"{value}\"")?;
            continue;
        }
        let (hint, default) = declared(&field)?;
        if SECRETS.contains(&(class, json)) {
            secrets.push(format!("\"{python}\""));
        }
        let default = default.map_or_else(String::new, |default| format!(" = {default}"));
        writeln!(text, "    {python}: {hint}{default}")?;
        text.push_str(&docstring(&field.description, "    "));
        read.push(format!("\"{python}\": {},", value_of(document, &field)?));
    }
    if !secrets.is_empty() {
        writeln!(text, "    _secrets = ({},)", secrets.join(", "))?;
    }
    writeln!(text, "\n    @classmethod\n    def _read(cls, value: Any) -> {class}:")?;
    if read.is_empty() {
        text.push_str("        _base.entries(value)\n        return cls()\n\n");
        return Ok(());
    }
    let get = if read.iter().any(|line| line.contains("get(")) {
        "        get = value.get\n"
    } else {
        ""
    };
    write!(
        text,
        "        _base.entries(value)\n{get}        return _base.made(\n            cls,\n            {{\n"
    )?;
    read.iter().try_for_each(|line| writeln!(text, "                {line}"))?;
    text.push_str("            },\n        )\n\n");
    Ok(())
}

/// The type and the default of a field.
fn declared(field: &Field) -> Result<(String, Option<&'static str>)> {
    let plain = hint(&field.schema, "")?;
    let is_list = field.schema["type"] == "array" && !field.is_nullable;
    Ok(match (field.is_required, is_list) {
        (true, _) if field.is_nullable => (format!("{plain} | None"), None),
        (true, _) => (plain, None),
        (false, true) => (plain, Some("()")),
        (false, false) => (format!("{plain} | None"), Some("None")),
    })
}

/// The expression that reads a field of the object `value`.
fn value_of(document: &Document, field: &Field) -> Result<String> {
    let json = &field.json;
    if field.is_required && !field.is_nullable {
        return reader(document, &field.schema, &format!("value[\"{json}\"]"), "");
    }
    let read = reader(document, &field.schema, "y", "")?;
    let absent = if field.schema["type"] == "array" && !field.is_nullable { "()" } else { "None" };
    Ok(format!("{absent} if (y := get(\"{json}\")) is None else {read}"))
}

fn variants<'a>(union: &str, schema: &'a Value) -> Result<Vec<Variant<'a>>> {
    let mut found = Vec::new();
    for schema in schema["oneOf"].as_array().into_iter().flatten() {
        let properties = schema["properties"].as_object().context("a variant is no object")?;
        let tagged = properties.iter().find_map(|(name, property)| {
            let [value] = property["enum"].as_array()?.as_slice() else { return None };
            Some((name.clone(), value.as_str()?.to_owned()))
        });
        let tag = match tagged {
            Some((name, value)) => (name, Some(value)),
            None => (schema["required"][0].as_str().context("no tag")?.to_owned(), None),
        };
        let word = camel(tag.1.as_deref().unwrap_or(&tag.0));
        found.push(Variant { class: format!("{union}{word}"), schema, tag });
    }
    Ok(found)
}

fn camel(snake: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    snake.split('_').map(capital).collect()
}

fn union(
    document: &Document,
    name: &str,
    schema: &Value,
    variants: &[Variant<'_>],
    (text, aliases): (&mut String, &mut String),
) -> Result<()> {
    for variant in variants {
        if document.schemas.contains_key(&variant.class) {
            bail!("{} is a variant and a schema", variant.class);
        }
        let tag = variant.tag.1.as_deref().map(|value| (variant.tag.0.as_str(), value));
        class(document, &variant.class, variant.schema, tag, text)?;
    }
    writeln!(text, "\ndef _read_{name}(value: Any) -> {name}:\n    _base.entries(value)")?;
    if let Some(Variant { tag: (field, Some(_)), .. }) = variants.first() {
        writeln!(text, "    tag = value.get(\"{field}\")")?;
    }
    for Variant { class, tag, .. } in variants {
        let test = match tag {
            (_, Some(value)) => format!("tag == \"{value}\""),
            (field, None) => format!("\"{field}\" in value"),
        };
        writeln!(text, "    if {test}:\n        return {class}._read(value)")?;
    }
    writeln!(text, "    raise _base.unknown_variant(\"{name}\", value)\n")?;
    let classes: Vec<_> = variants.iter().map(|variant| variant.class.as_str()).collect();
    alias(aliases, name, &classes.join(" | "), schema)
}

/// The fields of a body as arguments: name, type and default.
pub fn arguments(
    document: &Document,
    body: &Value,
) -> Result<Vec<(String, String, Option<&'static str>)>> {
    let (_, schema) = document.named(body).with_context(|| format!("{:?}", reference(body)))?;
    let declare = |field: Field| {
        let (hint, default) = declared(&field)?;
        Ok((name(&field.json), with_prefix(&hint, document), default))
    };
    fields(schema).into_iter().map(declare).collect()
}

/// A type with `m.` before names of models.
fn with_prefix(hint: &str, document: &Document) -> String {
    let mut found = String::new();
    let mut word = String::new();
    let end = |word: &mut String, found: &mut String| {
        if document.schemas.contains_key(word.as_str()) {
            found.push_str("m.");
        }
        found.push_str(word);
        word.clear();
    };
    for c in hint.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            end(&mut word, &mut found);
            found.push(c);
        }
    }
    end(&mut word, &mut found);
    found
}
