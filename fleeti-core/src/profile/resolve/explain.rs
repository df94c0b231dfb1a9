//! Explains where the values of a resolved profile came from.

use super::{Resolved, STEPS_MAX, is_entry};
use crate::profile::document::{Node, Origin, Value};
use crate::profile::finding::{Finding, Severity};
use crate::profile::path::{self, Segment, segments};
use crate::profile::shape::{PROFILE, Shape};

/// One step of an explanation: a source that set a value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Path in the resolved profile.
    pub path: String,
    /// Name of the fragment; `None` for the document itself.
    pub source: Option<String>,
    /// Line in the text of the source; 1 for the first.
    pub line: usize,
    /// The value.
    pub value: String,
    /// A later source replaced the value.
    pub is_replaced: bool,
}

impl Resolved {
    /// The resolved profile as a document that extends nothing.
    ///
    /// # Errors
    /// [`toml::ser::Error`] when the profile does not serialize.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(&self.profile)
    }

    /// Where the values at a path and below it came from, oldest first. An entry of a list can be
    /// named by its key: `users[ops].shell`. Empty if no source sets it, so that it has its
    /// default.
    ///
    /// # Errors
    /// [`Finding`] for a path that no profile has.
    pub fn why(&self, at: &str) -> Result<Vec<Step>, Finding> {
        let segments = self.by_key(at);
        let mut shape = Some(&*PROFILE);
        for segment in &segments {
            shape = match (shape, segment) {
                (Some(Shape::List(item)), Segment::Index(_)) => Some(item),
                (Some(shape), Segment::Field(name)) => shape.field(name),
                _ => None,
            };
        }
        if shape.is_none() {
            return Err(Finding {
                path: at.to_owned(),
                line: 1,
                message: "no profile has this field".to_owned(),
                remedy: "use a path such as users[ops].shell or network.firewall".to_owned(),
                severity: Severity::Error,
                suggestion: None,
            });
        }
        let (node, rest) = self.tree.locate(&segments);
        let mut steps = Vec::new();
        if rest.is_empty() {
            self.collect(node, &path::join("", &segments), &mut steps);
        }
        Ok(steps)
    }

    /// The segments of a path, with keys of entries replaced by their indices.
    fn by_key(&self, at: &str) -> Vec<Segment> {
        let mut found: Vec<Segment> = Vec::new();
        let mut pattern = String::new();
        let mut rest = at;
        while !rest.is_empty() {
            let (head, key, after) = match rest.split_once('[') {
                Some((head, tail)) if !tail.starts_with('"') => {
                    let (key, after) = tail.split_once(']').unwrap_or((tail, ""));
                    (head, Some(key), after)
                }
                _ => (rest, None, ""),
            };
            for segment in segments(head) {
                if let Segment::Field(name) = &segment {
                    pattern = path::field(&pattern, name);
                }
                found.push(segment);
            }
            if let Some(key) = key {
                let (node, _) = self.tree.locate(&found);
                let by_key = match &node.value {
                    Value::List(items) => {
                        items.iter().position(|item| is_entry(item, &pattern, key))
                    }
                    _ => None,
                };
                let index = by_key.or_else(|| key.parse().ok()).unwrap_or(usize::MAX);
                found.push(Segment::Index(index));
                pattern.push_str("[]");
            }
            rest = after;
        }
        found
    }

    fn collect(&self, node: &Node, at: &str, steps: &mut Vec<Step>) {
        if steps.len() >= STEPS_MAX {
            return;
        }
        let step = |origin: &Origin, value: &str, is_replaced| Step {
            path: at.to_owned(),
            source: (origin.source > 0).then(|| self.names[origin.source].clone()),
            line: origin.line,
            value: value.to_owned(),
            is_replaced,
        };
        match &node.value {
            Value::Table(fields) => {
                fields.iter().for_each(|(k, node)| self.collect(node, &path::field(at, k), steps));
            }
            Value::List(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(i, node)| self.collect(node, &path::index(at, i), steps));
            }
            plain => {
                steps.extend(node.replaced.iter().map(|(origin, said)| step(origin, said, true)));
                steps.push(step(&node.origin, &plain.plain().unwrap_or_default(), false));
            }
        }
    }
}
