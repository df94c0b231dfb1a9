//! What is wrong in a profile, as the editor shows it.

use fleeti_core::profile::{Finding, Severity, Suggestion};

/// A finding, ready for display.
#[derive(Clone)]
pub struct Answer {
    pub path: String,
    pub line: usize,
    pub message: String,
    pub remedy: String,
    /// The profile can be saved nevertheless.
    pub is_warning: bool,
    /// Id of the nearest element.
    pub anchor: String,
    /// A value that the author probably meant.
    pub fix: Option<String>,
}

impl From<&Finding> for Answer {
    fn from(finding: &Finding) -> Self {
        Self {
            path: finding.path.clone(),
            line: finding.line,
            message: finding.message.clone(),
            remedy: finding.remedy.clone(),
            is_warning: finding.severity == Severity::Warning,
            anchor: finding.path.clone(),
            fix: fix(finding),
        }
    }
}

/// The value that the author probably meant. The name of a field is not a value.
fn fix(finding: &Finding) -> Option<String> {
    match &finding.suggestion {
        Some(Suggestion::Value(near)) if !finding.path.is_empty() => Some(near.clone()),
        _ => None,
    }
}

/// The nearest path of which there is an element.
pub fn anchor(path: &str, exists: impl Fn(&str) -> bool) -> String {
    let mut at = path;
    while !at.is_empty() && !exists(at) {
        at = at.rfind(['.', '[']).map_or("", |end| &at[..end]);
    }
    at.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_match_is_a_value_that_can_be_used() {
        let fixed = |path: &str, suggestion: Option<Suggestion>| {
            fix(&Finding {
                path: path.into(),
                line: 1,
                message: "is wrong".into(),
                remedy: "did you mean masked?".into(),
                severity: Severity::Error,
                suggestion,
            })
        };
        let value = || Some(Suggestion::Value("masked".into()));
        assert_eq!(fixed("services[0].state", value()).as_deref(), Some("masked"));
        assert_eq!(fixed("", value()), None, "there is no field to set");
        assert_eq!(fixed("colour", Some(Suggestion::Name("color".into()))), None);
        assert_eq!(fixed("services[0].state", None), None, "the text of a remedy is not read");
    }

    #[test]
    fn a_finding_leads_to_the_nearest_element() {
        let exists = |path: &str| path == "software.packages";
        assert_eq!(anchor("software.packages[1]", exists), "software.packages");
        assert_eq!(anchor("remove.users", exists), "");
    }
}
