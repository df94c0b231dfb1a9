//! What is wrong in a profile, and where it is in the text.

use crate::wire::problem::{FieldError, Suggestion};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether a finding makes a profile unusable.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The profile cannot be saved or built.
    #[default]
    Error,
    /// The author should look at it.
    Warning,
}

/// What is wrong in a profile: where it is, what it is, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// Path of the field in the document, for example `users[1].ssh_keys[0]`; empty for the whole
    /// document.
    pub path: String,
    /// Line in the text; 1 for the first.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub remedy: String,
    /// Whether it makes the profile unusable.
    #[serde(default)]
    pub severity: Severity,
    /// What the author probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
}

/// How to fix what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remedy {
    pub(super) text: String,
    pub(super) suggestion: Option<Suggestion>,
}

impl Remedy {
    /// The author meant another value.
    pub(super) fn value(near: &str) -> Self {
        let suggestion = Some(Suggestion::Value(near.to_owned()));
        Self { text: format!("did you mean {near}?"), suggestion }
    }

    /// The author meant another name of the field.
    pub(super) fn name(near: &str) -> Self {
        let suggestion = Some(Suggestion::Name(near.to_owned()));
        Self { text: format!("did you mean {near}?"), suggestion }
    }

    /// What is wrong with a field, with this remedy.
    pub(super) fn of(self, path: String, message: String) -> FieldError {
        FieldError { path, message, remedy: self.text, suggestion: self.suggestion }
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self { text, suggestion: None }
    }
}

impl From<&str> for Remedy {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "document" } else { &self.path };
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "line {}: {path}: {warning}{}\n  hint: {}", self.line, self.message, self.remedy)
    }
}

/// Longest text that can be a name with a typing error, bytes: comparing takes time with the product
/// of both lengths.
const NAMED_MAX: usize = 128;

/// Largest number of edits between a name with a typing error and a known name.
pub(super) fn edits_max(name: &str, known: &str) -> usize {
    (known.len().max(name.len()) / 3).max(1)
}

/// The known name that is nearest to a name with a typing error, if one is near. A text of more than
/// 128 bytes is near to none.
///
/// ```
/// use fleeti_core::profile::nearest;
/// assert_eq!(nearest("package", ["packages", "suites"]), Some("packages"));
/// assert_eq!(nearest("colour", ["packages", "suites"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAMED_MAX {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let length = name.chars().count();
    known
        .into_iter()
        // Each edit changes the length by one at most.
        .filter(|known| known.chars().count().abs_diff(length) <= edits_max(name, known))
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase()), known))
        .filter(|(distance, known)| *distance <= edits_max(name, known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_name_with_a_typing_error_finds_its_neighbour() {
        let known = ["packages", "suites", "components", "id"];
        for (typed, meant) in [
            ("packages_", Some("packages")),
            ("package", Some("packages")),
            ("Packages", Some("packages")),
            ("sutes", Some("suites")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn a_long_text_is_near_to_no_name() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("packages", [long.as_str(), "package"]), Some("package"));
        let most = "x".repeat(128);
        assert_eq!(nearest(&most[1..], [most.as_str()]), Some(most.as_str()));
    }
}
