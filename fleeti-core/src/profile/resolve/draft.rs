//! What an editor needs to know of a document: what it says itself, what it inherits and from
//! where, and what is wrong with it.

use super::{Resolved, Sources, too_long};
use crate::profile::document::{Node, Value};
use crate::profile::finding::Finding;
use crate::profile::library::Library;
use crate::profile::merge;
use crate::profile::path::{self, Segment, segments};
use crate::profile::shape::PROFILE;
use crate::profile::{Profile, SuiteFindings};
use std::collections::BTreeMap;

/// A document that somebody edits.
#[derive(Debug)]
pub struct Draft {
    /// What the document itself says, as JSON, with `extends` and `remove`; `None` if the text is
    /// not TOML.
    pub own: Option<serde_json::Value>,
    /// `own` is all that the text says: it has no unknown field and no value of a wrong type.
    pub is_whole: bool,
    /// What the document inherits, without what it removes.
    pub inherited: Inherited,
    /// Names of the fragments that it extends, directly and indirectly.
    pub extends: Vec<String>,
    /// Errors and warnings, ordered by line.
    pub findings: Vec<Finding>,
    /// The profile with everything that it inherits; `None` if there are errors.
    pub profile: Option<Profile>,
}

/// An inherited value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Name of the fragment that said it last.
    pub from: String,
    /// The value.
    pub value: InheritedValue,
}

/// What is inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InheritedValue {
    /// A text, a number or a flag.
    Plain(serde_json::Value),
    /// A list.
    List(Vec<Inherited>),
    /// A table.
    Table(BTreeMap<String, Inherited>),
}

impl Default for Inherited {
    fn default() -> Self {
        Self { from: String::new(), value: InheritedValue::Table(BTreeMap::new()) }
    }
}

impl Inherited {
    /// The inherited field of a table.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match &self.value {
            InheritedValue::Table(fields) => fields.get(name),
            InheritedValue::Plain(_) | InheritedValue::List(_) => None,
        }
    }

    /// The inherited entries of a list.
    #[must_use]
    pub fn entries(&self) -> &[Self] {
        match &self.value {
            InheritedValue::List(entries) => entries,
            InheritedValue::Plain(_) | InheritedValue::Table(_) => &[],
        }
    }

    /// The text of a plain value.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            InheritedValue::Plain(value) => value.as_str(),
            InheritedValue::List(_) | InheritedValue::Table(_) => None,
        }
    }

    /// The entry of a list of tables with this key.
    #[must_use]
    pub fn entry(&self, field: &str, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.field(field).and_then(Self::text) == Some(key))
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            InheritedValue::Plain(value) => value.clone(),
            InheritedValue::List(entries) => entries.iter().map(Self::to_json).collect(),
            InheritedValue::Table(fields) => {
                let fields = fields.iter().map(|(name, field)| (name.clone(), field.to_json()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }

    fn of(node: Node, names: &[String]) -> Self {
        let from = names.get(node.origin.source).cloned().unwrap_or_default();
        let value = match node.value {
            Value::List(items) => {
                InheritedValue::List(items.into_iter().map(|item| Self::of(item, names)).collect())
            }
            Value::Table(fields) => InheritedValue::Table(
                fields.into_iter().map(|(name, node)| (name, Self::of(node, names))).collect(),
            ),
            plain => InheritedValue::Plain(plain.to_json()),
        };
        Self { from, value }
    }
}

/// How a list of a profile is merged with an inherited one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListRule {
    /// Entries with the same key are one entry. The field that is the key.
    Keyed(&'static str),
    /// The list is one value, and replaces the inherited one.
    Whole,
    /// The entries are appended to the inherited ones.
    Joined,
}

/// How the list at a path such as `services[0].drop_ins` is merged.
#[must_use]
pub fn list_rule(at: &str) -> ListRule {
    let mut pattern = String::new();
    for segment in segments(at) {
        match segment {
            Segment::Field(name) => pattern = path::field(&pattern, &name),
            Segment::Index(_) => pattern.push_str("[]"),
        }
    }
    match merge::key_field(&pattern) {
        Some(field) => ListRule::Keyed(field),
        None if merge::WHOLE.contains(&pattern.as_str()) => ListRule::Whole,
        None => ListRule::Joined,
    }
}

/// Reads a document for an editor: never fails, because an unfinished document is shown as well.
#[must_use]
pub fn draft(text: &str, library: &dyn Library) -> Draft {
    draft_with(text, library, &|_| SuiteFindings::default())
}

/// Reads a document for an editor, and checks it by the rules and by what `packages` finds.
#[must_use]
pub fn draft_with(
    text: &str,
    library: &dyn Library,
    packages: &dyn Fn(&Profile) -> SuiteFindings,
) -> Draft {
    let mut draft = Draft {
        own: None,
        is_whole: false,
        inherited: Inherited::default(),
        extends: Vec::new(),
        findings: Vec::new(),
        profile: None,
    };
    if let Some(finding) = too_long(text) {
        draft.findings.push(finding);
        return draft;
    }
    let mut sources = Sources::new(library);
    sources.read_document(text);
    if !sources.is_unreadable {
        draft.own = Some(own(&sources));
        draft.is_whole = sources.broken.iter().all(|origin| origin.source > 0);
        let order = sources.order();
        let names: Vec<_> = sources.list.iter().map(|source| source.name.clone()).collect();
        draft.extends = order.iter().filter(|i| **i > 0).map(|i| names[*i].clone()).collect();
        draft.inherited = Inherited::of(inherited(&sources, &order), &names);
    }
    match sources.finish(packages) {
        Ok(Resolved { profile, warnings, .. }) => {
            draft.profile = Some(profile);
            draft.findings = warnings;
        }
        Err(findings) => draft.findings = findings,
    }
    draft
}

/// What the document itself says.
fn own(sources: &Sources<'_>) -> serde_json::Value {
    let document = &sources.list[0];
    let mut own = document.tree.value.to_json();
    if !document.extends.is_empty() {
        own["extends"] = document.extends.iter().map(|entry| entry.value.to_json()).collect();
    }
    if let Some(removed) = &document.remove {
        own["remove"] = removed.value.to_json();
    }
    own
}

/// Everything but the document, merged. What is wrong with it is found when the document is.
fn inherited(sources: &Sources<'_>, order: &[usize]) -> Node {
    let mut copy = sources.clone();
    let fragments: Vec<_> = order.iter().copied().filter(|index| *index > 0).collect();
    let mut tree = copy.merged(&fragments);
    if let Some(removed) = copy.list[0].remove.take() {
        copy.remove(&mut tree, &removed, &PROFILE, "");
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Builtin;
    use serde_json::json;

    const TEXT: &str = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\nextends = [\"template/web-server\"]\nremove.software.packages = [\"strace\"]\n[[users]]\nname = \"ops\"\ngroups = [\"adm\"]\n";

    #[test]
    fn a_draft_keeps_its_own_values_apart_from_inherited_ones() {
        let draft = draft(TEXT, &Builtin);
        let own = draft.own.clone().unwrap();
        assert_eq!(own["users"], json!([{"name": "ops", "groups": ["adm"]}]));
        assert_eq!(own["extends"], json!(["template/web-server"]));
        assert_eq!(own["remove"], json!({"software": {"packages": ["strace"]}}));
        assert!(draft.is_whole && draft.profile.is_some(), "{draft:?}");
        let users = draft.inherited.field("users").unwrap();
        let comment = users.entry("name", "ops").unwrap().field("comment").unwrap();
        assert_eq!((comment.text(), comment.from.as_str()), (Some("Operators"), "users/operators"));
        let packages = draft.inherited.field("software").unwrap().field("packages").unwrap();
        let names: Vec<_> = packages.entries().iter().filter_map(Inherited::text).collect();
        assert!(names.contains(&"nginx") && !names.contains(&"strace"), "{names:?}");
        assert!(draft.extends.contains(&"baseline/standard".to_owned()));
    }

    #[test]
    fn an_unfinished_document_has_what_it_says_and_what_is_wrong() {
        let broken = draft("nonsense = 1\nname = \"web\"\n", &Builtin);
        assert_eq!(broken.own, Some(json!({"name": "web"})));
        assert!(!broken.is_whole && broken.profile.is_none());
        let unreadable = draft("name = ", &Builtin);
        assert!(unreadable.own.is_none() && unreadable.profile.is_none());
        let long = "#".repeat(crate::profile::TEXT_MAX + 1);
        assert!(draft(&long, &Builtin).profile.is_none());
    }

    #[test]
    fn the_rule_of_a_list_is_found_by_the_path_of_a_field() {
        assert_eq!(list_rule("services[3].drop_ins"), ListRule::Keyed("name"));
        assert_eq!(list_rule("network.firewall.rules[0].ports"), ListRule::Whole);
        assert_eq!(list_rule("software.packages"), ListRule::Joined);
    }
}
