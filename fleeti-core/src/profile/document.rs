//! A document as a tree, in which every value knows where it came from.

use super::LIST_MAX;
use super::finding::{Remedy, nearest};
use super::path::{self, Segment};
use super::shape::Shape;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Index of the source: 0 is the document itself.
    pub(super) source: usize,
    /// Line in the text of the source; 1 for the first.
    pub(super) line: usize,
    /// Path in the source.
    pub(super) path: String,
}

/// A value, where it came from, and what it replaced.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    /// Values that a later source replaced, oldest first.
    pub(super) replaced: Vec<(Origin, String)>,
    pub(super) value: Value,
}

/// A value of a document.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// A short text for messages; `None` for lists and tables.
    pub(super) fn plain(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(format!("{text:?}")),
            Self::Integer(number) => Some(number.to_string()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::List(_) | Self::Table(_) => None,
        }
    }

    /// The value as JSON, from which a profile is read.
    ///
    /// Serde compiles the model once for each format that it is read from, and profiles are read
    /// from JSON already; through TOML the server's program would be half a megabyte larger.
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => Json::from(text.as_str()),
            Self::Integer(number) => Json::from(*number),
            Self::Flag(flag) => Json::from(*flag),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(fields) => {
                fields.iter().map(|(name, node)| (name.clone(), node.value.to_json())).collect()
            }
        }
    }
}

impl Node {
    /// The child at one segment.
    pub(super) fn child(&self, segment: &Segment) -> Option<&Self> {
        match (&self.value, segment) {
            (Value::Table(fields), Segment::Field(name)) => fields.get(name),
            (Value::List(items), Segment::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    /// The value at a path, or its deepest parent that exists, and the rest of the path.
    pub(super) fn locate<'a>(&self, segments: &'a [Segment]) -> (&Self, &'a [Segment]) {
        let mut node = self;
        let mut rest = segments;
        while let Some((first, after)) = rest.split_first() {
            let Some(child) = node.child(first) else { break };
            node = child;
            rest = after;
        }
        (node, rest)
    }

    /// The text of a plain string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Something that is wrong with the structure, and where.
pub(super) struct Wrong {
    pub(super) origin: Origin,
    pub(super) message: String,
    pub(super) remedy: Remedy,
}

/// Reads one text.
pub(super) struct Reader<'a> {
    pub(super) source: usize,
    pub(super) text: &'a str,
    pub(super) wrong: Vec<Wrong>,
    /// Byte offsets of the starts of lines, so that a line is found without reading the text again.
    lines: Vec<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: usize, text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { source, text, wrong: Vec::new(), lines: std::iter::once(0).chain(starts).collect() }
    }

    fn origin(&self, offset: usize, path: &str) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset.min(self.text.len()));
        Origin { source: self.source, line: line.max(1), path: path.to_owned() }
    }

    fn say(&mut self, origin: Origin, message: String, remedy: impl Into<Remedy>) {
        self.wrong.push(Wrong { origin, message, remedy: remedy.into() });
    }

    /// The document as a tree. Values that do not fit the shape are reported and replaced by
    /// harmless ones, so that positions in lists do not change and rules can check the rest.
    /// Missing fields are not reported, because another source may have them.
    pub(super) fn read(&mut self, shape: &Shape) -> Option<Node> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(self.table(shape, table.get_ref(), 0, "")),
            Err(e) => {
                let origin = self.origin(e.span().map_or(0, |span| span.start), "");
                let message = e.message().to_owned();
                self.say(origin, message, "correct the TOML syntax here");
                None
            }
        }
    }

    fn table(&mut self, shape: &Shape, table: &DeTable<'_>, offset: usize, at: &str) -> Node {
        let mut fields = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let below = path::field(at, name);
            let Some(inner) = shape.field(name) else {
                let origin = self.origin(key.span().start, &below);
                self.say(origin, "unknown field".to_owned(), unknown_remedy(shape, name));
                continue;
            };
            fields.insert(name.to_owned(), self.value(inner, value, &below));
        }
        Node { origin: self.origin(offset, at), replaced: Vec::new(), value: Value::Table(fields) }
    }

    fn value(&mut self, shape: &Shape, value: &Spanned<DeValue<'_>>, at: &str) -> Node {
        let offset = value.span().start;
        let origin = self.origin(offset, at);
        let read = match (shape, value.get_ref()) {
            (Shape::Text, DeValue::String(text)) => Value::Text(text.as_ref().to_owned()),
            (Shape::Choice(choices), DeValue::String(text)) => {
                if !choices.iter().any(|choice| choice == text.as_ref()) {
                    self.choice(origin.clone(), choices, text);
                }
                Value::Text(text.as_ref().to_owned())
            }
            (Shape::Integer(low, high), DeValue::Integer(number)) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                match number.filter(|number| (*low..=*high).contains(number)) {
                    Some(number) => Value::Integer(number),
                    None => {
                        let remedy = format!("use {low} to {high}");
                        self.say(origin.clone(), "is out of range".to_owned(), remedy);
                        Value::Integer((*low).max(1))
                    }
                }
            }
            (Shape::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Shape::List(item), DeValue::Array(items)) => {
                if items.len() > LIST_MAX {
                    let message = format!("{} entries, expected at most {LIST_MAX}", items.len());
                    self.say(origin.clone(), message, format!("keep at most {LIST_MAX}"));
                }
                let kept = items.iter().take(LIST_MAX).enumerate();
                Value::List(
                    kept.map(|(i, entry)| self.value(item, entry, &path::index(at, i))).collect(),
                )
            }
            (Shape::Table(_) | Shape::Map(_), DeValue::Table(table)) => {
                return self.table(shape, table, offset, at);
            }
            (_, found) => {
                let noun = shape.noun();
                let message = format!("expected {noun}, found {}", found.type_str());
                self.say(origin.clone(), message, format!("write {noun}"));
                harmless(shape)
            }
        };
        Node { origin, replaced: Vec::new(), value: read }
    }

    fn choice(&mut self, origin: Origin, choices: &[String], text: &str) {
        // INVARIANT: the message does not repeat the value, which may be a secret in the wrong
        // field.
        let remedy = match nearest(text, choices.iter().map(String::as_str)) {
            Some(near) => Remedy::value(near),
            None => format!("use one of {}", choices.join(", ")).into(),
        };
        self.say(origin, format!("expected one of {}", choices.join(", ")), remedy);
    }
}

/// A value that fits the shape and breaks no rule by its type.
pub(super) fn harmless(shape: &Shape) -> Value {
    match shape {
        Shape::Text => Value::Text(String::new()),
        Shape::Choice(choices) => Value::Text(choices.first().cloned().unwrap_or_default()),
        Shape::Integer(low, _) => Value::Integer((*low).max(1)),
        Shape::Flag => Value::Flag(false),
        Shape::List(_) => Value::List(Vec::new()),
        Shape::Map(_) | Shape::Table(_) => Value::Table(BTreeMap::new()),
    }
}

fn unknown_remedy(shape: &Shape, name: &str) -> Remedy {
    let Shape::Table(fields) = shape else { return "remove it".into() };
    let known = || fields.iter().map(|field| field.name.as_str());
    match nearest(name, known()) {
        Some(near) => Remedy::name(near),
        None => format!("use one of {}", known().collect::<Vec<_>>().join(", ")).into(),
    }
}
