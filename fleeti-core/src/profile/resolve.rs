//! Resolves a document: reads it and the fragments that it extends, merges them, and checks the
//! result.

use super::document::{Node, Origin, Reader, Value, Wrong, harmless};
use super::finding::{Finding, Severity, nearest};
use super::library::{Builtin, Library};
use super::merge::{self, Conflict, OWN, Place};
use super::path::{self, Segment, segments};
use super::shape::{DOCUMENT, PROFILE, Shape};
use super::{Profile, TEXT_MAX, rules};
use crate::id::{Architecture, Line};
use std::collections::{BTreeMap, BTreeSet};

/// Largest number of fragments that a profile extends, directly and indirectly.
const SOURCES_MAX: usize = 64;
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
    if text.len() > TEXT_MAX {
        return Err(vec![Finding {
            path: String::new(),
            line: 1,
            message: format!("{} bytes, expected at most {TEXT_MAX}", text.len()),
            remedy: format!("keep a profile below {TEXT_MAX} bytes"),
            severity: Severity::Error,
        }]);
    }
    let mut sources = Sources {
        library,
        list: Vec::new(),
        findings: Vec::new(),
        broken: Vec::new(),
        is_unreadable: false,
    };
    sources.read_document(text);
    sources.finish()
}

/// A document or a fragment.
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

struct Sources<'a> {
    library: &'a dyn Library,
    list: Vec<Source>,
    findings: Vec<Finding>,
    /// Where the structure is wrong: a rule says nothing about these places.
    broken: Vec<Origin>,
    /// The document is not TOML.
    is_unreadable: bool,
}

impl Sources<'_> {
    fn say(&mut self, origin: &Origin, severity: Severity, message: String, remedy: String) {
        let (path, line, message) = match self.list.get(origin.source) {
            Some(source) if origin.source > 0 => {
                let at = if origin.path.is_empty() { "document" } else { &origin.path };
                let message = format!("{}, line {}, {at}: {message}", source.name, origin.line);
                (source.reference.path.clone(), source.reference.line, message)
            }
            _ => (origin.path.clone(), origin.line, message),
        };
        let finding = Finding { path, line, message, remedy, severity };
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
                self.say(&entry.origin, Severity::Error, message, "remove one of them".to_owned());
                return;
            }
            Some(known) => known,
            None if self.list.len() > SOURCES_MAX => {
                let message = format!("more than {SOURCES_MAX} fragments");
                self.say(&entry.origin, Severity::Error, message, "extend fewer".to_owned());
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
            .or_else(|| near().map(|near| format!("did you mean {near}?")))
            .unwrap_or_else(|| "list the fragments with `fleeti profile library`".to_owned());
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
                        self.say(&origin, Severity::Error, message, "remove the line".to_owned());
                    }
                }
                _ => {}
            }
        }
    }

    fn finish(mut self) -> Result<Resolved, Vec<Finding>> {
        if self.is_unreadable {
            return Err(self.findings);
        }
        let order = self.order();
        let mut tree = self.merged(&order);
        self.complete(&mut tree, &PROFILE);
        self.names(&mut tree);
        let mut value = tree.value.to_toml();
        if let Some(table) = value.as_table_mut() {
            table.remove("remove");
        }
        let profile = match value.try_into::<Profile>() {
            Ok(profile) => Some(profile),
            Err(e) => {
                let start = Origin { source: 0, line: 1, path: String::new() };
                let message = e.message().to_owned();
                self.say(&start, Severity::Error, message, "correct the value".to_owned());
                None
            }
        };
        if let Some(profile) = &profile {
            let rules = rules::broken(profile).into_iter().map(|rule| (Severity::Error, rule));
            let warnings = rules::doubtful(profile).into_iter().map(|r| (Severity::Warning, r));
            for (severity, (path, message, remedy)) in rules.chain(warnings) {
                self.rule(&tree, severity, &path, message, remedy);
            }
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

    /// Reports a broken rule where its value came from, unless that place is already reported.
    fn rule(&mut self, tree: &Node, severity: Severity, at: &str, message: String, remedy: String) {
        let segments = segments(at);
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
            self.say(&origin, severity, message, remedy);
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
                        let remedy = format!("add {} = {}", field.name, field.shape.noun());
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
                    self.wrong(Wrong { origin, message, remedy: remedy.to_owned() });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Fragment, Kind};
    use std::borrow::Cow;

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    fn paths(text: &str) -> Vec<(String, usize)> {
        check(text).unwrap_err().into_iter().map(|f| (f.path, f.line)).collect()
    }

    #[test]
    fn a_list_is_no_table() {
        for list in [
            "release_log = [true, 3]",
            "users = [[\"a\", []]]",
            "files = [[\"/a\", \"x\"]]",
            "health_checks = [[\"a\"]]",
        ] {
            assert!(check(&format!("{GOOD}{list}\n")).is_err(), "{list}");
        }
    }

    #[test]
    fn the_smallest_profile_passes() {
        assert_eq!(check(GOOD).unwrap().identity.hostname, "{id}");
    }

    #[test]
    fn all_errors_come_at_once_with_their_lines() {
        let text = "schema = 2\nname = \"Kiosk\"\narchitecture = \"x86_64\"\nsoftware.packages = [\"bash\", 3]\ncolour = \"red\"\n\n[[users]]\nshell = \"zsh\"\n";
        let found = paths(text);
        for want in [
            ("schema", 1),
            ("name", 2),
            ("software.packages[1]", 4),
            ("colour", 5),
            ("users[0].name", 7),
            ("users[0].shell", 8),
        ] {
            assert!(found.contains(&(want.0.to_owned(), want.1)), "{want:?} in {found:?}");
        }
    }

    #[test]
    fn aarch64_is_refused_with_the_reason() {
        let findings = check(&GOOD.replace("x86_64", "aarch64")).unwrap_err();
        assert_eq!(findings[0].path, "architecture");
        assert!(
            findings[0].message.contains("no base builds aarch64 yet"),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert_eq!(paths("schema = 1\nname = \n"), [(String::new(), 2)]);
    }

    #[test]
    fn every_rule_has_a_line_and_a_remedy() {
        let text = format!(
            "{GOOD}identity.hostname = \"a b\"\nkernel.arguments = [\"init=/bin/sh\", \"a b\"]\nsoftware.packages = [\"Bash\", \"jq\", \"jq\"]\n\
             [[users]]\nname = \"root\"\npassword_hash = \"hunter2\"\nssh_keys = [\"ssh-rsa\"]\nshell = \"bash\"\n\
             [[services]]\nname = \"x\"\n[[files]]\npath = \"/etc/../root\"\ncontent = \"\"\nmode = \"4755\"\n\
             [[health_checks]]\nname = \"h\"\ncommand = []\ntimeout_s = 0\n[release_log]\nage_days_max = 0\n\
             [server_contact]\ndeadline_s = 5\n"
        );
        let findings = check(&text).unwrap_err();
        let found: Vec<_> = findings.iter().map(|f| f.path.as_str()).collect();
        for want in [
            "identity.hostname",
            "kernel.arguments[0]",
            "kernel.arguments[1]",
            "software.packages[0]",
            "software.packages[2]",
            "users[0].name",
            "users[0].password_hash",
            "users[0].ssh_keys[0]",
            "users[0].shell",
            "services[0].name",
            "files[0].path",
            "files[0].mode",
            "health_checks[0].command",
            "health_checks[0].timeout_s",
            "release_log.age_days_max",
            "server_contact.deadline_s",
        ] {
            assert!(found.contains(&want), "{want} in {found:?}");
        }
        assert!(findings.iter().all(|f| f.line > 3 && !f.remedy.is_empty()));
    }

    #[test]
    fn secrets_are_not_repeated_in_findings() {
        let text = format!("{GOOD}[[users]]\nname = \"ops\"\npassword_hash = \"hunter2\"\n");
        assert!(check(&text).unwrap_err().iter().all(|f| !f.to_string().contains("hunter2")));
    }

    /// Fragments that a test writes.
    struct Shelf(&'static [(&'static str, &'static str)]);

    impl Library for Shelf {
        fn find(&self, name: &str) -> Option<Fragment> {
            let (name, text) = self.0.iter().find(|(known, _)| *known == name)?;
            let (name, text) = (Cow::Borrowed(*name), Cow::Borrowed(*text));
            Some(Fragment { name, kind: Kind::Profile, text })
        }
        fn names(&self) -> Vec<String> {
            self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
        }
    }

    const SHELF: Shelf = Shelf(&[
        (
            "base",
            "software.packages = [\"jq\", \"curl\"]\nidentity.locale = \"de_DE.UTF-8\"\n\
             [[users]]\nname = \"ops\"\nshell = \"/bin/sh\"\ngroups = [\"adm\"]\n",
        ),
        (
            "site",
            "extends = [\"base\"]\nsoftware.packages = [\"curl\", \"less\"]\n\
             identity.locale = \"fr_FR.UTF-8\"\n[kernel.sysctl]\n\"vm.swappiness\" = \"1\"\n",
        ),
        ("other", "identity.locale = \"it_IT.UTF-8\"\nidentity.keyboard = \"it\"\n"),
        ("loop", "extends = [\"pool\"]\n"),
        ("pool", "extends = [\"loop\"]\n"),
        ("wrong", "\n\nidentity.hostname = \"a b\"\n"),
        ("broken", "\ncolour = 1\n"),
    ]);

    fn with(more: &str) -> Result<Resolved, Vec<Finding>> {
        resolve(&format!("{GOOD}{more}"), &SHELF)
    }

    #[test]
    fn lists_are_joined_entries_with_a_key_are_merged_and_plain_values_replaced() {
        let resolved = with(
            "extends = [\"site\"]\nsoftware.packages = [\"htop\"]\n\
             [[users]]\nname = \"ops\"\nshell = \"/bin/bash\"\ngroups = [\"video\"]\n",
        )
        .unwrap();
        let profile = &resolved.profile;
        assert_eq!(profile.software.packages, ["jq", "curl", "less", "htop"]);
        assert_eq!(profile.identity.locale, "fr_FR.UTF-8", "site extends base");
        assert_eq!(profile.users.len(), 1);
        assert_eq!(profile.users[0].shell, "/bin/bash");
        assert_eq!(profile.users[0].groups, ["adm", "video"]);
        assert_eq!(profile.kernel.sysctl["vm.swappiness"], "1");
        assert_eq!(resolved.extends, ["base", "site"]);
        assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
    }

    #[test]
    fn a_common_ancestor_does_not_undo_what_an_earlier_fragment_changed() {
        let resolved = with("extends = [\"site\", \"base\"]\n").unwrap();
        assert_eq!(resolved.profile.identity.locale, "fr_FR.UTF-8");
        assert!(resolved.warnings.is_empty());
    }

    #[test]
    fn fragments_that_differ_are_reported_with_both_places_until_the_profile_decides() {
        let resolved = with("extends = [\"site\", \"other\"]\n").unwrap();
        assert_eq!(resolved.profile.identity.locale, "it_IT.UTF-8", "the later one");
        let [conflict] = resolved.warnings.as_slice() else { panic!("{:?}", resolved.warnings) };
        assert_eq!((conflict.path.as_str(), conflict.line), ("extends[1]", 4));
        for part in ["identity.locale", "site (line 3)", "other (line 1)"] {
            assert!(conflict.message.contains(part), "{part} in {}", conflict.message);
        }
        let decided = "extends = [\"site\", \"other\"]\nidentity.locale = \"it_IT.UTF-8\"\n";
        assert!(with(decided).unwrap().warnings.is_empty());
    }

    #[test]
    fn what_is_inherited_can_be_removed_and_a_wrong_name_is_found() {
        let resolved = with(
            "extends = [\"site\"]\nremove.software.packages = [\"jq\"]\n\
             remove.users = [\"ops\"]\nremove.kernel.sysctl = [\"vm.swappiness\"]\n",
        )
        .unwrap();
        assert_eq!(resolved.profile.software.packages, ["curl", "less"]);
        assert!(resolved.profile.users.is_empty() && resolved.profile.kernel.sysctl.is_empty());
        let findings =
            with("extends = [\"site\"]\nremove.software.packages = [\"jql\"]\n").unwrap_err();
        assert_eq!(findings[0].path, "remove.software.packages[0]");
    }

    #[test]
    fn an_error_in_a_fragment_names_the_fragment_and_the_line_that_extends_it() {
        for (name, at) in [("wrong", "wrong, line 3"), ("broken", "broken, line 2")] {
            let findings = with(&format!("extends = [\"{name}\"]\n")).unwrap_err();
            assert_eq!((findings[0].path.as_str(), findings[0].line), ("extends[0]", 4));
            assert!(findings[0].message.contains(at), "{}", findings[0].message);
        }
    }

    #[test]
    fn a_fragment_that_does_not_exist_or_extends_itself_is_refused() {
        let findings = with("extends = [\"sit\"]\n").unwrap_err();
        assert_eq!(findings[0].remedy, "did you mean site?");
        let findings = with("extends = [\"loop\"]\n").unwrap_err();
        assert!(findings[0].message.contains("loop -> pool -> loop"), "{}", findings[0].message);
    }

    #[test]
    fn every_value_says_where_it_came_from() {
        let resolved =
            with("extends = [\"site\"]\n[[users]]\nname = \"ops\"\nshell = \"/bin/bash\"\n")
                .unwrap();
        let said = |at: &str| -> Vec<(Option<String>, usize, String, bool)> {
            let steps = resolved.why(at).unwrap();
            steps.into_iter().map(|s| (s.source, s.line, s.value, s.is_replaced)).collect()
        };
        assert_eq!(
            said("users[ops].shell"),
            [
                (Some("base".to_owned()), 5, "\"/bin/sh\"".to_owned(), true),
                (None, 7, "\"/bin/bash\"".to_owned(), false)
            ]
        );
        assert_eq!(said("identity.locale").len(), 2);
        assert_eq!(said("kernel.sysctl[\"vm.swappiness\"]")[0].0.as_deref(), Some("site"));
        assert_eq!(said("software.packages").len(), 3);
        assert!(said("identity.keyboard").is_empty(), "it has its default");
        assert!(resolved.why("identity.colour").is_err());
    }

    #[test]
    fn a_wrong_choice_and_a_number_out_of_range_are_found_with_near_matches() {
        let findings = with(
            "kernel.flavour = \"generics\"\npackages = [\"jq\"]\n\
             [[network.vlans]]\nname = \"v\"\nid = 5000\n",
        )
        .unwrap_err();
        let remedy = |path: &str| {
            findings.iter().find(|f| f.path == path).map(|f| f.remedy.clone()).unwrap_or_default()
        };
        assert_eq!(remedy("kernel.flavour"), "did you mean \"generic\"?");
        assert_eq!(remedy("network.vlans[0].id"), "use 1 to 4094");
        assert!(findings.iter().any(|f| f.path == "packages"), "{findings:?}");
    }

    #[test]
    fn a_resolved_profile_resolves_to_itself() {
        let text = format!("{GOOD}extends = [\"template/web-server\", \"baseline/strict\"]\n");
        let profile = check(&text).unwrap();
        let again = check(&toml::to_string(&profile).unwrap()).unwrap();
        assert_eq!(again, profile);
        let resolved = resolve(&text, &Builtin).unwrap();
        assert_eq!(check(&resolved.to_toml().unwrap()).unwrap(), profile);
    }
}
