//! The output of commands: data on stdout, errors with `hint:` on stderr.
//!
//! Much of the output comes from other parties: a server's response, a device's text, a build
//! record, a file name. INVARIANT: only this module prints, and it escapes every line with
//! [`Foreign`], so that no text can move the cursor or begin a line of its own. `cargo xtask tidy`
//! rejects prints elsewhere.

use clap::ValueEnum;
use fleeti_core::foreign::{self, Foreign};
use fleeti_core::profile::Finding;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

/// Maximum characters of a line; the rest is cut.
const LINE_CHARS_MAX: usize = 4096;

/// Output format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON document.
    Json,
}

/// Lines of text for people. A line feed within a line is shown as `\n`: only this type ends lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<String>);

impl Lines {
    /// Appends more lines.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.0.extend(more.into().0);
        self
    }
    /// The lines of a document, such as a program's log.
    pub fn of_document(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }
    /// The printed text: each line escaped, and each after the first one indented.
    fn shown(&self, indent: &str) -> String {
        let lines = self.0.iter().map(|line| Foreign::new(line, LINE_CHARS_MAX).to_string());
        lines.collect::<Vec<_>>().join(&format!("\n{indent}"))
    }
}

impl From<String> for Lines {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}
impl From<&str> for Lines {
    fn from(line: &str) -> Self {
        Self(vec![line.to_owned()])
    }
}
impl From<Vec<String>> for Lines {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

/// An error that a person can act on.
#[derive(Debug, Serialize)]
pub struct Failure {
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// The same as in `details`, for programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    code: u8,
}

impl Failure {
    /// An error, with a hint what to do.
    pub fn new(error: impl Display, hint: Option<impl Into<String>>) -> Self {
        let hint = hint.map(Into::into);
        Self { error: error.to_string(), details: vec![], findings: vec![], hint, code: 1 }
    }
    /// An error without a hint.
    pub fn plain(error: impl Display) -> Self {
        Self::new(error, None::<String>)
    }
    /// Adds lines that explain the error. They are indented, so that none of them looks like an
    /// error or a hint of this program.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Lines>) -> Self {
        self.details.extend(details.into().0);
        self
    }
    /// Sets the exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
    /// Adds what is wrong in a profile, which the details say to people.
    #[must_use]
    pub fn with_findings(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }
    /// An error whose text continues with the log of another program, from its second line on.
    pub fn with_log(error: impl Display, hint: Option<impl Into<String>>) -> Self {
        let text = error.to_string();
        let (first, log) = text.split_once('\n').unwrap_or((&text, ""));
        Self::new(first, hint).with_details(Lines::of_document(log))
    }
    fn shown(&self) -> String {
        let error =
            Lines::from(format!("error: {}", self.error)).and(self.details.clone()).shown("    ");
        match &self.hint {
            Some(hint) => format!("{error}\nhint: {}", Lines::from(hint.as_str()).shown("")),
            None => error,
        }
    }
}

/// Writes a command's output.
pub struct Output {
    format: Format,
}

impl Output {
    /// An output of this format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }
    /// Prints the data of a command as JSON or, by `text`, for people.
    pub fn data<T: Serialize, L: Into<Lines>>(&self, value: &T, text: impl FnOnce(&T) -> L) {
        match self.format {
            Format::Text => println!("{}", text(value).into().shown("")),
            Format::Json => self.document(value),
        }
    }
    /// Prints data that has no format but JSON.
    #[allow(clippy::unused_self, reason = "printing requires an output")]
    pub fn document<T: Serialize>(&self, value: &T) {
        println!("{}", foreign::json(&serde_json::to_string_pretty(value).unwrap_or_default()));
    }
    /// Prints the data of a command as JSON, or for people as this TOML document. It can be written
    /// to a file, so its backslashes are not escaped.
    pub fn toml<T: Serialize>(&self, value: &T, text: &str) {
        match self.format {
            Format::Text => println!("{}", foreign::toml(text.trim_end())),
            Format::Json => self.document(value),
        }
    }
    /// Prints a note for people on stderr.
    #[allow(clippy::unused_self, reason = "printing requires an output")]
    pub fn note(&self, lines: impl Into<Lines>) {
        eprintln!("{}", lines.into().shown(""));
    }
    /// Prints an error and returns its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        match self.format {
            Format::Text => eprintln!("{}", failure.shown()),
            Format::Json => {
                eprintln!("{}", foreign::json(&serde_json::to_string(failure).unwrap_or_default()))
            }
        }
        ExitCode::from(failure.code)
    }
}

/// Prints a question on stderr; the answer follows on the same line.
pub fn ask(question: impl Into<Lines>) {
    eprint!("{}", question.into().shown(""));
}

/// Progress of a command on stderr; prints nothing if stderr is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A spinner, for work of unknown length.
    pub fn endless() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
    /// A bar of `length` items, named `what`.
    pub fn of(length: usize, what: &str) -> Self {
        let bar = ProgressBar::new(length as u64);
        if let Ok(style) = ProgressStyle::with_template(&format!(
            "[{{elapsed}}] {{bar:30}} {{pos}}/{{len}} {what}  {{msg}}"
        )) {
            bar.set_style(style);
        }
        Self(bar)
    }
    /// Shows a message.
    pub fn say(&self, line: &str) {
        self.0.set_message(Foreign::log(line).to_string());
    }
    /// Sets the number of finished items.
    pub fn reached(&self, position: usize) {
        self.0.set_position(position as u64);
    }
    /// Adds one finished item.
    pub fn one_more(&self) {
        self.0.inc(1);
    }
    /// Removes it from the screen.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// One line for each item, or `empty` for an empty list.
pub fn rows<T>(list: &[T], empty: &str, row: impl Fn(&T) -> String) -> Lines {
    if list.is_empty() { empty.into() } else { list.iter().map(row).collect::<Vec<_>>().into() }
}

/// Formats Unix seconds as a UTC time.
pub fn when(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map_or_else(|| at_s.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "kiosk\u{1b}[2J\nerror: all is well\r\u{9b}1A\u{202e}";

    #[test]
    fn a_cell_cannot_begin_a_line_or_repaint_one() {
        let shown = rows(&[FOREIGN, "b"], "", |text| format!("{text:<4} x")).shown("");
        assert_eq!(shown.lines().count(), 2, "{shown:?}");
        assert!(!shown.contains(['\u{1b}', '\r', '\u{9b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn an_error_and_its_details_cannot_look_like_another_one() {
        let failure =
            Failure::with_log(format!("refused\n{FOREIGN}"), Some(FOREIGN)).with_details(FOREIGN);
        let shown = failure.shown();
        let at_the_margin: Vec<_> =
            shown.lines().filter(|line| !line.starts_with("    ")).collect();
        assert_eq!(at_the_margin.len(), 2, "{shown}");
        assert!(
            at_the_margin[0] == "error: refused"
                && at_the_margin[1].starts_with("hint: kiosk\\u{1b}"),
            "{shown}"
        );
        assert!(!shown.contains(['\u{1b}', '\r', '\u{9b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert!(Lines::from("x".repeat(100_000)).shown("").chars().count() <= LINE_CHARS_MAX + 1);
    }
}
