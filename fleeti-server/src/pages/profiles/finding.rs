//! What is wrong in a profile, as the editor shows it.

use fleeti_core::profile::{Finding, Severity};

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

/// The near match that a remedy proposes. One for an unknown field is not a value.
fn fix(finding: &Finding) -> Option<String> {
    if finding.path.is_empty() || finding.message == "unknown field" {
        return None;
    }
    let near = finding.remedy.strip_prefix("did you mean ")?.strip_suffix('?')?.trim_matches('"');
    (!near.is_empty() && !near.contains([' ', '\n'])).then(|| near.to_owned())
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
        let finding = |message: &str, remedy: &str| Finding {
            path: "services[0].state".into(),
            line: 1,
            message: message.into(),
            remedy: remedy.into(),
            severity: Severity::Error,
        };
        let fixed = |message: &str, remedy: &str| fix(&finding(message, remedy));
        assert_eq!(fixed("no such group", "did you mean sudo?").as_deref(), Some("sudo"));
        assert_eq!(fixed("is wrong", "did you mean \"masked\"?").as_deref(), Some("masked"));
        assert_eq!(fixed("unknown field", "did you mean packages?"), None);
        assert_eq!(fixed("is wrong", "use one of a, b"), None);
    }

    #[test]
    fn a_finding_leads_to_the_nearest_element() {
        let exists = |path: &str| path == "software.packages";
        assert_eq!(anchor("software.packages[1]", exists), "software.packages");
        assert_eq!(anchor("remove.users", exists), "");
    }
}
