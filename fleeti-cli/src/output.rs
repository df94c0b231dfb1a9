//! What people and scripts see: data on stdout, errors with `hint:` on stderr.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Display;
use std::process::ExitCode;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// An error that a person can act on.
#[derive(Debug, Serialize)]
pub struct Failure {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Failure {
    /// An error with what to do about it.
    pub fn new(error: impl Display, hint: Option<impl Into<String>>) -> Self {
        Self { error: error.to_string(), hint: hint.map(Into::into) }
    }
    /// An error that speaks for itself.
    pub fn plain(error: impl Display) -> Self {
        Self { error: error.to_string(), hint: None }
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
    pub fn data<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Text => println!("{}", text(value)),
            Format::Json => println!("{}", serde_json::to_string_pretty(value).unwrap_or_default()),
        }
    }
    /// An error, and the exit code that goes with it.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        match self.format {
            Format::Text => {
                eprintln!("error: {}", failure.error);
                if let Some(hint) = &failure.hint {
                    eprintln!("hint: {hint}");
                }
            }
            Format::Json => eprintln!("{}", serde_json::to_string(failure).unwrap_or_default()),
        }
        ExitCode::FAILURE
    }
}

/// A line for each of them, or what to do where there is none.
pub fn rows<T>(list: &[T], empty: &str, row: impl Fn(&T) -> String) -> String {
    if list.is_empty() { empty.to_owned() } else { list.iter().map(row).collect::<Vec<_>>().join("\n") }
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
