//! Resolves a document: reads it and the fragments that it extends, merges them, and checks the
//! result.

mod draft;
mod explain;
#[cfg(test)]
mod tests;

pub use draft::{Draft, Inherited, InheritedValue, ListRule, draft, draft_with, list_rule};
pub use explain::Step;

use super::document::{Node, Origin, Reader, Value, Wrong, harmless};
use super::finding::{Finding, Remedy, Severity, nearest};
use super::index::SuiteFindings;
use super::library::{Builtin, Library};
use super::merge::{self, Conflict, OWN, Place};
use super::path::{self, segments};
use super::shape::{DOCUMENT, PROFILE, Shape};
use super::{Profile, TEXT_MAX, rules};
use crate::id::{Architecture, Line};
use crate::wire::problem::FieldError;
use std::collections::{BTreeMap, BTreeSet};

/// Largest number of fragments that a profile extends, directly and indirectly.
pub const SOURCES_MAX: usize = 64;
/// Largest number of steps that an explanation has.
const STEPS_MAX: usize = 2048;

/// A profile in which everything is said, and where each value came from.
#[derive(Debug)]
pub struct Resolved {
    /// The profile.
    pub profile: Profile,
    /// What its author should look at, ordered by line.
    pub warnings: Vec<Finding>,
    /// Names of the fragments that it extends, directly and indirectly, in the order in which they
    /// were merged.
    pub extends: Vec<String>,
    tree: Node,
    names: Vec<String>,
}

/// Parses and checks a profile that extends only fragments that are shipped with Fleeti.
///
/// # Errors
/// All findings, ordered by line; never empty.
pub fn check(text: &str) -> Result<Profile, Vec<Finding>> {
    resolve(text, &Builtin).map(|resolved| resolved.profile)
}

/// Resolves and checks a profile.
///
/// # Errors
/// All findings, errors and warnings, ordered by line; at least one error.
pub fn resolve(text: &str, library: &dyn Library) -> Result<Resolved, Vec<Finding>> {
    resolve_with(text, library, &|_| SuiteFindings::default())
}

/// Resolves and checks a profile by the rules and by what `packages` finds, usually
/// [`against_suite`](super::against_suite).
///
/// # Errors
/// All findings, errors and warnings, ordered by line; at least one error.
pub fn resolve_with(
    text: &str,
    library: &dyn Library,
    packages: &dyn Fn(&Profile) -> SuiteFindings,
) -> Result<Resolved, Vec<Finding>> {
    if let Some(finding) = too_long(text) {
        return Err(vec![finding]);
    }
    let mut sources = Sources::new(library);
    sources.read_document(text);
    sources.finish(packages)
}

/// The names in `extends` of a document or a fragment, so that a library can load them before the
/// document is resolved. Names of a text that cannot be read are none.
#[must_use]
pub fn extends(text: &str) -> Vec<String> {
    if text.len() > TEXT_MAX {
        return Vec::new();
    }
    let Some(Node { value: Value::Table(fields), .. }) = Reader::new(0, text).read(&DOCUMENT)
    else {
        return Vec::new();
    };
    let Some(Node { value: Value::List(entries), .. }) = fields.get("extends") else {
        return Vec::new();
    };
    entries.iter().filter_map(Node::text).map(str::to_owned).collect()
}

/// The finding for a text above the maximum length.
fn too_long(text: &str) -> Option<Finding> {
    (text.len() > TEXT_MAX).then(|| Finding {
        path: String::new(),
        line: 1,
        message: format!("{} bytes, expected at most {TEXT_MAX}", text.len()),
        remedy: format!("keep a profile below {TEXT_MAX} bytes"),
        severity: Severity::Error,
        suggestion: None,
    })
}

/// A document or a fragment.
#[derive(Clone)]
struct Source {
    name: String,
    tree: Node,
    extends: Vec<Node>,
    remove: Option<Node>,
    /// Indices of all sources that it extends, at whatever distance.
    ancestors: BTreeSet<usize>,
    /// The entry of `extends` of the document through which it came.
    reference: Origin,
}

#[derive(Clone)]
struct Sources<'a> {
    library: &'a dyn Library,
    list: Vec<Source>,
    findings: Vec<Finding>,
    /// Where the structure is wrong: a rule says nothing about these places.
    broken: Vec<Origin>,
    /// The document is not TOML.
    is_unreadable: bool,
}

impl<'a> Sources<'a> {
    fn new(library: &'a dyn Library) -> Self {
        Self {
            library,
            list: Vec::new(),
            findings: Vec::new(),
            broken: Vec::new(),
            is_unreadable: false,
        }
    }

    fn say(
        &mut self,
        origin: &Origin,
        severity: Severity,
        message: String,
        remedy: impl Into<Remedy>,
    ) {
        let (path, line, message) = match self.list.get(origin.source) {
            Some(source) if origin.source > 0 => {
                let at = if origin.path.is_empty() { "document" } else { &origin.path };
                let message = format!("{}, line {}, {at}: {message}", source.name, origin.line);
                (source.reference.path.clone(), source.reference.line, message)
            }
            _ => (origin.path.clone(), origin.line, message),
        };
        let Remedy { text: remedy, suggestion } = remedy.into();
        // In the document it would be a value of `extends`.
        let suggestion = suggestion.filter(|_| origin.source == 0);
        let finding = Finding { path, line, message, remedy, severity, suggestion };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Reports a wrong structure.
    fn wrong(&mut self, wrong: Wrong) {
        self.say(&wrong.origin, Severity::Error, wrong.message, wrong.remedy);
        self.broken.push(wrong.origin);
    }

    fn read_document(&mut self, text: &str) {
        let start = Origin { source: 0, line: 1, path: String::new() };
        self.add(String::new(), text, start);
        let entries = self.list[0].extends.clone();
        for entry in &entries {
            self.extend(0, entry, &entry.origin, &mut Vec::new());
        }
    }

    /// Reads a text as a new source, and returns its index.
    fn add(&mut self, name: String, text: &str, reference: Origin) -> usize {
        let index = self.list.len();
        let mut reader = Reader::new(index, text);
        let start = Origin { source: index, line: 1, path: String::new() };
        let tree = reader.read(&DOCUMENT);
        self.is_unreadable |= index == 0 && tree.is_none();
        let mut tree = tree.unwrap_or(Node {
            origin: start,
            replaced: Vec::new(),
            value: Value::Table(BTreeMap::new()),
        });
        let mut extends = Vec::new();
        let mut remove = None;
        if let Value::Table(fields) = &mut tree.value {
            if let Some(Value::List(entries)) = fields.remove("extends").map(|node| node.value) {
                extends = entries;
            }
            remove = fields.remove("remove");
            if index > 0 {
                OWN.iter().for_each(|name| drop(fields.remove(*name)));
            }
        }
        let wrong = reader.wrong;
        let ancestors = BTreeSet::new();
        self.list.push(Source { name, tree, extends, remove, ancestors, reference });
        wrong.into_iter().for_each(|wrong| self.wrong(wrong));
        index
    }

    /// Adds the fragment that an entry of `extends` names, and everything that it extends.
    fn extend(&mut self, by: usize, entry: &Node, reference: &Origin, stack: &mut Vec<String>) {
        let Some(name) = entry.text().map(str::to_owned) else { return };
        let index = match self.list.iter().position(|source| source.name == name) {
            Some(_) if stack.contains(&name) => {
                let message = format!("extends itself: {} -> {name}", stack.join(" -> "));
                self.say(&entry.origin, Severity::Error, message, "remove one of them");
                return;
            }
            Some(known) => known,
            None if self.list.len() > SOURCES_MAX => {
                let message = format!("more than {SOURCES_MAX} fragments");
                self.say(&entry.origin, Severity::Error, message, "extend fewer");
                return;
            }
            None => match self.library.find(&name) {
                Some(fragment) => {
                    let index = self.add(name.clone(), &fragment.text, reference.clone());
                    stack.push(name);
                    let entries = self.list[index].extends.clone();
                    for entry in &entries {
                        self.extend(index, entry, reference, stack);
                    }
                    stack.pop();
                    index
                }
                None => {
                    self.unknown(entry, &name);
                    return;
                }
            },
        };
        let inherited = self.list[index].ancestors.clone();
        let ancestors = &mut self.list[by].ancestors;
        ancestors.extend(inherited);
        ancestors.insert(index);
    }

    fn unknown(&mut self, entry: &Node, name: &str) {
        let names = self.library.names();
        let (message, remedy) = match self.library.missing(name) {
            Some(missing) => (missing.message, missing.remedy),
            None => ("no such fragment".to_owned(), None),
        };
        let near = || nearest(name, names.iter().map(String::as_str));
        let remedy = remedy
            .map(Remedy::from)
            .or_else(|| near().map(Remedy::value))
            .unwrap_or_else(|| "list the fragments with `fleeti profile library`".into());
        self.say(&entry.origin, Severity::Error, message, remedy);
    }

    /// The order of merging: what is extended before what extends it, and the document last.
    fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        self.visit(0, &mut order);
        order
    }

    fn visit(&self, index: usize, order: &mut Vec<usize>) {
        for entry in &self.list[index].extends {
            let named = entry.text().and_then(|name| {
                self.list.iter().position(|source| source.name == name).filter(|at| *at > 0)
            });
            // A cycle was reported; it must not be followed.
            if let Some(at) = named.filter(|at| self.list[index].ancestors.contains(at))
                && !self.list[at].ancestors.contains(&index)
                && !order.contains(&at)
            {
                self.visit(at, order);
            }
        }
        if !order.contains(&index) {
            order.push(index);
        }
    }

    fn merged(&mut self, order: &[usize]) -> Node {
        let origin = Origin { source: 0, line: 1, path: String::new() };
        let mut tree = Node { origin, replaced: Vec::new(), value: Value::Table(BTreeMap::new()) };
        let mut conflicts = Vec::new();
        let ancestors: Vec<_> = self.list.iter().map(|source| source.ancestors.clone()).collect();
        let is_descendant = |of: usize, above: usize| of == above || ancestors[of].contains(&above);
        for index in order {
            if let Some(removed) = self.list[*index].remove.take() {
                self.remove(&mut tree, &removed, &PROFILE, "");
            }
            let own = self.list[*index].tree.clone();
            merge::merge(&mut tree, own, &Place::root(&is_descendant), &mut conflicts);
        }
        self.report(conflicts);
        tree
    }

    fn report(&mut self, conflicts: Vec<Conflict>) {
        for Conflict { path, first, second } in conflicts {
            let name = |origin: &Origin, list: &[Source]| {
                format!("{} (line {})", list[origin.source].name, origin.line)
            };
            let (first, named) = (name(&first, &self.list), name(&second, &self.list));
            let message = format!("{path} differs between {first} and {named}; the second is used");
            let remedy = format!("set {path} in this profile");
            let reference = self.list[second.source].reference.clone();
            self.say(&reference, Severity::Warning, message, remedy);
        }
    }

    /// Removes entries of lists and maps from what was merged so far.
    fn remove(&mut self, tree: &mut Node, removed: &Node, shape: &Shape, pattern: &str) {
        let Value::Table(wanted) = &removed.value else { return };
        for (name, node) in wanted {
            let Some(inner) = shape.field(name) else { continue };
            let below = path::field(pattern, name);
            let Value::Table(fields) = &mut tree.value else { return };
            match (&node.value, fields.get_mut(name)) {
                (Value::Table(_), Some(field)) => self.remove(field, node, inner, &below),
                (Value::List(entries), field) => {
                    let missing = entries.iter().filter(|entry| {
                        let Some(text) = entry.text() else { return false };
                        !field.as_ref().is_some_and(|field| has_entry(field, &below, text))
                    });
                    let missing: Vec<_> = missing.map(|entry| entry.origin.clone()).collect();
                    if let Some(field) = field {
                        let texts: Vec<_> = entries.iter().filter_map(Node::text).collect();
                        drop_entries(field, &below, &texts);
                    }
                    for origin in missing {
                        let message = format!("is not in the inherited {below}");
                        self.say(&origin, Severity::Error, message, "remove the line");
                    }
                }
                _ => {}
            }
        }
    }

    fn finish(
        mut self,
        packages: &dyn Fn(&Profile) -> SuiteFindings,
    ) -> Result<Resolved, Vec<Finding>> {
        if self.is_unreadable {
            return Err(self.findings);
        }
        let order = self.order();
        let mut tree = self.merged(&order);
        self.complete(&mut tree, &PROFILE);
        self.names(&mut tree);
        let mut value = tree.value.to_json();
        if let Some(table) = value.as_object_mut() {
            table.remove("remove");
        }
        let profile = match serde_json::from_value::<Profile>(value) {
            Ok(profile) => Some(profile),
            Err(e) => {
                let start = Origin { source: 0, line: 1, path: String::new() };
                let message = e.to_string();
                self.say(&start, Severity::Error, message, "correct the value");
                None
            }
        };
        if let Some(profile) = &profile {
            self.check(&tree, profile, packages(profile));
        }
        let mut findings = self.findings;
        findings.sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
        match profile.filter(|_| findings.iter().all(|f| f.severity == Severity::Warning)) {
            Some(profile) => {
                let names: Vec<_> = self.list.into_iter().map(|source| source.name).collect();
                let extends = order.iter().filter(|i| **i > 0).map(|i| names[*i].clone()).collect();
                Ok(Resolved { profile, warnings: findings, extends, tree, names })
            }
            None => Err(findings),
        }
    }

    /// Reports what the rules and the packages of the suite say. About one place the rules say more.
    fn check(&mut self, tree: &Node, profile: &Profile, found: SuiteFindings) {
        let broken = rules::broken(profile);
        let is_said: BTreeSet<_> = broken.iter().map(|rule| rule.path.clone()).collect();
        let doubtful = rules::doubtful(profile);
        let doubtful = doubtful.into_iter().filter(|rule| !found.settled.contains(&rule.path));
        let is_new = |finding: &FieldError| !is_said.contains(&finding.path);
        let error = |rule: FieldError| (Severity::Error, rule);
        let warning = |rule: FieldError| (Severity::Warning, rule);
        let all = broken
            .into_iter()
            .map(error)
            .chain(doubtful.map(warning))
            .chain(found.errors.into_iter().filter(is_new).map(error))
            .chain(found.warnings.into_iter().filter(is_new).map(warning));
        for (severity, finding) in all {
            self.rule(tree, severity, finding);
        }
    }

    /// Reports a broken rule where its value came from, unless that place is already reported.
    fn rule(&mut self, tree: &Node, severity: Severity, broken: FieldError) {
        let FieldError { path, message, remedy, suggestion } = broken;
        let segments = segments(&path);
        let (node, rest) = tree.locate(&segments);
        let mut origin = node.origin.clone();
        origin.path = path::join(&origin.path, rest);
        let is_at_or_below = |known: &Origin| {
            known.source == origin.source
                && !known.path.is_empty()
                && origin
                    .path
                    .strip_prefix(known.path.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !self.broken.iter().any(is_at_or_below) {
            self.say(&origin, severity, message, Remedy { text: remedy, suggestion });
        }
    }

    /// Reports required fields that no source has, and gives them harmless values.
    fn complete(&mut self, node: &mut Node, shape: &Shape) {
        let origin = node.origin.clone();
        match (shape, &mut node.value) {
            (Shape::List(item), Value::List(items)) => {
                items.iter_mut().for_each(|node| self.complete(node, item));
            }
            (Shape::Map(item), Value::Table(entries)) => {
                entries.values_mut().for_each(|node| self.complete(node, item));
            }
            (Shape::Table(fields), Value::Table(said)) => {
                for field in fields {
                    if let Some(node) = said.get_mut(&field.name) {
                        self.complete(node, &field.shape);
                    } else if field.required {
                        let mut origin = origin.clone();
                        origin.path = path::field(&origin.path, &field.name);
                        let remedy = format!("add {} = {}", field.name, field.shape.noun()).into();
                        let message = "is missing".to_owned();
                        self.wrong(Wrong { origin: origin.clone(), message, remedy });
                        let value = harmless(&field.shape);
                        said.insert(
                            field.name.clone(),
                            Node { origin, replaced: Vec::new(), value },
                        );
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks the fields that are types of their own in the model, before a profile exists.
    fn names(&mut self, tree: &mut Node) {
        let Value::Table(fields) = &mut tree.value else { return };
        let line = |text: &str| text.parse::<Line>().map(drop).map_err(|e| e.to_string());
        let architecture =
            |text: &str| text.parse::<Architecture>().map(drop).map_err(|e| e.to_string());
        type Check<'a> = &'a dyn Fn(&str) -> Result<(), String>;
        let checks: [(&str, Check<'_>, &str, &str); 2] = [
            ("name", &line, "choose a short name such as kiosk", "x"),
            ("architecture", &architecture, "write \"x86_64\"", "x86_64"),
        ];
        for (name, is_valid, remedy, harmless) in checks {
            let Some(node) = fields.get_mut(name) else { continue };
            if let Err(message) = is_valid(node.text().unwrap_or_default()) {
                let origin = node.origin.clone();
                node.value = Value::Text(harmless.to_owned());
                if !self.broken.contains(&origin) {
                    self.wrong(Wrong { origin, message, remedy: remedy.into() });
                }
            }
        }
    }
}

fn is_entry(node: &Node, pattern: &str, text: &str) -> bool {
    match merge::key_field(pattern) {
        Some(field) => merge::key(node, field) == Some(text),
        None => node.text() == Some(text),
    }
}

fn has_entry(field: &Node, pattern: &str, text: &str) -> bool {
    match &field.value {
        Value::List(items) => items.iter().any(|node| is_entry(node, pattern, text)),
        Value::Table(entries) => entries.contains_key(text),
        _ => false,
    }
}

fn drop_entries(field: &mut Node, pattern: &str, texts: &[&str]) {
    match &mut field.value {
        Value::List(items) => {
            items.retain(|node| !texts.iter().any(|text| is_entry(node, pattern, text)));
        }
        Value::Table(entries) => entries.retain(|name, _| !texts.contains(&name.as_str())),
        _ => {}
    }
}
