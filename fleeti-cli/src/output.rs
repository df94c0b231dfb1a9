//! What people and scripts see: data on stdout, errors with `hint:` on stderr.
//!
//! Much of what a command says was written by somebody else: a server's answer, a device's text, a
//! build record, a file name. INVARIANT: nothing is printed but by this module, and every line of
//! text goes through [`Foreign`] on its way, so that no text can move the cursor or begin a line of
//! its own. `cargo xtask tidy` refuses prints elsewhere.

use clap::ValueEnum;
use fleeti_core::foreign::{self, Foreign};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 4096;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Text for people, line by line. A line feed within a line is shown as `\n`: only this type ends
/// lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<String>);

impl Lines {
    /// These lines, and then the others.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.0.extend(more.into().0);
        self
    }
    /// A document of several lines, such as a program's log: its line feeds end lines.
    pub fn of_document(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }
    /// As it is printed, every line harmless, and after the first one behind `indent`.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Failure {
    /// An error with what to do about it.
    pub fn new(error: impl Display, hint: Option<impl Into<String>>) -> Self {
        Self { error: error.to_string(), details: vec![], hint: hint.map(Into::into) }
    }
    /// An error that speaks for itself.
    pub fn plain(error: impl Display) -> Self {
        Self::new(error, None::<String>)
    }
    /// The lines that explain it. They are indented, so that none of them looks like an error or a
    /// hint of ours.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Lines>) -> Self {
        self.details.extend(details.into().0);
        self
    }
    /// An error whose text ends with lines of another program's log.
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

/// Where a command writes.
pub struct Output {
    format: Format,
}

impl Output {
    /// Writes in this format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }
    /// The data of a command: JSON, or what `text` makes of it.
    pub fn data<T: Serialize, L: Into<Lines>>(&self, value: &T, text: impl FnOnce(&T) -> L) {
        match self.format {
            Format::Text => println!("{}", text(value).into().shown("")),
            Format::Json => self.document(value),
        }
    }
    /// Data whose only form is JSON.
    #[allow(clippy::unused_self, reason = "whoever prints has an output")]
    pub fn document<T: Serialize>(&self, value: &T) {
        println!("{}", foreign::json(&serde_json::to_string_pretty(value).unwrap_or_default()));
    }
    /// Something for people beside the data, on stderr.
    #[allow(clippy::unused_self, reason = "whoever prints has an output")]
    pub fn note(&self, lines: impl Into<Lines>) {
        eprintln!("{}", lines.into().shown(""));
    }
    /// An error, and the exit code that goes with it.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        match self.format {
            Format::Text => eprintln!("{}", failure.shown()),
            Format::Json => {
                eprintln!("{}", foreign::json(&serde_json::to_string(failure).unwrap_or_default()))
            }
        }
        ExitCode::FAILURE
    }
}

/// A question to whoever sits at the terminal; the answer is typed behind it.
pub fn ask(question: impl Into<Lines>) {
    eprint!("{}", question.into().shown(""));
}

/// What is going on, on stderr while a command waits; nothing where that is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Without an end that is known.
    pub fn endless() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
    /// Of so many `what`.
    pub fn of(length: usize, what: &str) -> Self {
        let bar = ProgressBar::new(length as u64);
        if let Ok(style) = ProgressStyle::with_template(&format!(
            "[{{elapsed}}] {{bar:30}} {{pos}}/{{len}} {what}  {{msg}}"
        )) {
            bar.set_style(style);
        }
        Self(bar)
    }
    /// Shows a line.
    pub fn say(&self, line: &str) {
        self.0.set_message(Foreign::log(line).to_string());
    }
    /// So many are done.
    pub fn reached(&self, position: usize) {
        self.0.set_position(position as u64);
    }
    /// One more is done.
    pub fn one_more(&self) {
        self.0.inc(1);
    }
    /// Takes it off the screen.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A line for each of them, or what to do where there is none.
pub fn rows<T>(list: &[T], empty: &str, row: impl Fn(&T) -> String) -> Lines {
    if list.is_empty() { empty.into() } else { list.iter().map(row).collect::<Vec<_>>().into() }
}

/// A moment for people, in UTC; Unix seconds.
pub fn when(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map_or_else(|| at_s.to_string(), |t| t.to_string())
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let power = (n.max(1).ilog2() / 10).min(3);
    let whole = n >> (10 * power);
    let tenth = if power == 0 { 0 } else { ((n >> (10 * (power - 1))) & 1023) * 10 / 1024 };
    if power == 0 { format!("{n} B") } else { format!("{whole}.{tenth} {}", UNITS[power as usize]) }
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
