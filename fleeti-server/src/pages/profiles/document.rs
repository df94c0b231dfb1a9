//! What the editor's form says, as a document.

use super::sections::SECTIONS;
use serde_json::{Map, Value};

/// Plain fields, which are first in a document.
const HEAD: &[&str] = &["schema", "name", "description", "architecture", "extends"];

/// The document, TOML, with the fields in the order of the editor.
///
/// # Errors
/// For a value that TOML cannot represent. No form makes one.
pub fn text(value: &Value) -> Result<String, toml::ser::Error> {
    let mut text = String::new();
    for name in HEAD {
        text.push_str(&part(name, value)?);
    }
    let sections = SECTIONS.iter().flat_map(|section| section.fields);
    let fields = sections.copied().filter(|name| !HEAD.contains(name));
    for name in std::iter::once("remove").chain(fields) {
        let part = part(name, value)?;
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    Ok(text)
}

fn part(name: &str, value: &Value) -> Result<String, toml::ser::Error> {
    match value.get(name) {
        Some(inner) => {
            let one: Map<_, _> = [(name.to_owned(), inner.clone())].into_iter().collect();
            toml::to_string_pretty(&one)
        }
        None => Ok(String::new()),
    }
}

/// The document: the text that the form was made from, unless the form says something else.
///
/// # Errors
/// As [`text`].
pub fn kept_or_written(value: &Value, source: &str) -> Result<String, toml::ser::Error> {
    match toml::from_str::<Value>(source) {
        Ok(said) if said == *value => Ok(source.to_owned()),
        _ => text(value),
    }
}

/// Whether a text has comments, which the form cannot keep.
pub fn has_comments(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_begins_with_its_name_and_says_what_the_form_says() {
        let value = json!({
            "schema": 1, "name": "web", "architecture": "x86_64",
            "extends": ["template/web-server"],
            "users": [{"name": "ops", "groups": ["adm"]}],
            "network": {"firewall": {"rules": [{"name": "app", "ports": ["8080"]}]}},
        });
        let text = text(&value).unwrap();
        assert!(text.starts_with("schema = 1\nname = \"web\"\narchitecture"), "{text}");
        assert_eq!(toml::from_str::<Value>(&text).unwrap(), value);
        let commented = format!("# why\n{text}");
        assert_eq!(kept_or_written(&value, &commented).unwrap(), commented);
        assert!(has_comments(&commented) && !has_comments(&text));
        let other = json!({"schema": 1, "name": "other", "architecture": "x86_64"});
        assert!(kept_or_written(&other, &commented).unwrap().contains("other"));
    }
}
