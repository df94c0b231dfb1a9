//! Display text that several kinds of page share, ready for the templates.

pub use fleeti_control::clock::instant;

use fleeti_core::update::RollbackReason;

/// A label with a tone: `good`, `warn`, `bad`, `busy` or none.
pub struct Badge {
    pub tone: &'static str,
    pub text: String,
}

impl Badge {
    pub fn new(tone: &'static str, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// A `time` element. A script in the browser shows it as relative time and keeps it current.
pub fn time(s: u64) -> String {
    let at = instant(s);
    format!("<time datetime=\"{at}\" title=\"{at}\" data-relative>{at}</time>")
}

/// The date in UTC, without the time of day.
pub fn day(s: u64) -> String {
    instant(s).split('T').next().unwrap_or_default().to_owned()
}

/// Escapes a value for HTML. Text from a device is never markup.
pub fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html)
        .map_or_else(|_| String::new(), |t| t.to_string())
}

/// A row of a description list: a term and its value.
pub type Fact = (&'static str, String);

/// Why a version was rolled back: the reason in words, and the evidence.
pub fn reason(reason: &RollbackReason) -> (&'static str, &str) {
    match reason {
        RollbackReason::Verity { evidence } => {
            ("a block of its root file system failed verification (dm-verity)", evidence)
        }
        RollbackReason::Health { evidence } => ("a health check failed", evidence),
        RollbackReason::ServerUnreachable { evidence } => {
            ("it did not reach the server, but the previous version did", evidence)
        }
        RollbackReason::BootRefused { evidence } => ("it did not boot", evidence),
    }
}

/// A file with its digest.
pub struct FileRow {
    pub path: String,
    pub size: String,
    pub sha256: String,
}

/// A pattern of HTML that matches this text and no other.
pub fn exactly(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && !"@ _-".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A text as a value in the query of a path.
pub fn query_value(text: &str) -> String {
    use std::fmt::Write as _;
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(value, "%{byte:02X}").ok();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_words_that_people_use() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(day(86_400), "1970-01-02");
    }

    #[test]
    fn a_pattern_matches_only_its_text() {
        assert_eq!(exactly("dev-1@2.0"), "dev-1@2\\.0");
        assert_eq!(exactly("a|b"), "a\\|b");
    }
}
