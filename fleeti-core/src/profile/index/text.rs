//! The text of an index: where it is kept, its first line, and its other lines.

use std::fmt;
use std::ops::Range;

/// First field of an index.
const FORMAT: &str = "fleeti-suite-index 3";
/// Largest index, bytes.
pub const INDEX_MAX: u64 = 64 << 20;
/// Longest line, bytes.
pub(super) const LINE_MAX: usize = 64 << 10;
/// Longest name of a package, unit, program, user or group, bytes.
pub(super) const NAME_MAX: usize = 512;
/// Largest number of names in the dependencies of a package; the largest one of Debian 12 has 332.
const DEPENDS_MAX: usize = 1024;
/// Bytes that are read at once.
const STEP: u64 = 64 << 10;

/// Where the text of an index is kept: in memory or in a file.
pub trait IndexText: fmt::Debug + Send + Sync {
    /// Size, bytes.
    fn size(&self) -> u64;
    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// Why they could not be read.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String>;
}

impl IndexText for String {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
        let start = usize::try_from(at).map_err(|e| e.to_string())?;
        let bytes = self.as_bytes().get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or("beyond the end of the text")?);
        Ok(())
    }
}

/// Why a text is not an index, or an index cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The first line is missing or of another version.
    #[error("is not an index of a suite, or one of another version; make it again")]
    Head,
    /// The text is too large.
    #[error("{0} bytes, expected at most {INDEX_MAX}")]
    TooLarge(u64),
    /// A line is malformed.
    #[error("line {line} {problem}; make the index again")]
    Line {
        /// Number of the line; 1 for the first.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The text could not be read.
    #[error("could not be read: {0}")]
    Unreadable(String),
}

/// The first line of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexHead {
    /// The suite.
    pub suite: String,
    /// SHA-256 of the signed list of the suite (`InRelease`) from which the index was made,
    /// hexadecimal.
    pub snapshot: String,
    /// Whether the index has the units and programs of every package. The lists of contents of a
    /// suite can be missing.
    pub has_contents: bool,
}

impl IndexHead {
    /// The head as a line.
    pub(super) fn to_line(&self) -> String {
        let contents = if self.has_contents { "contents" } else { "packages" };
        format!("{FORMAT}\t{}\t{}\t{contents}\n", plain(&self.suite), plain(&self.snapshot))
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (format, suite, snapshot) = (fields.next()?, fields.next()?, fields.next()?);
        let has_contents = match (fields.next()?, fields.next()) {
            ("contents", None) => true,
            ("packages", None) => false,
            _ => return None,
        };
        let is_suite = (1..=64).contains(&suite.len()) && !suite.chars().any(char::is_control);
        let is_digest = snapshot.len() == 64 && snapshot.bytes().all(|b| b.is_ascii_hexdigit());
        (format == FORMAT && is_suite && is_digest).then(|| Self {
            suite: suite.to_owned(),
            snapshot: snapshot.to_owned(),
            has_contents,
        })
    }
}

/// A text without characters that would end a field or a line.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The first two fields of a line.
pub(super) fn key(line: &str) -> (&str, &str) {
    let mut fields = line.split('\t');
    (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
}

/// What is wrong with a line, by itself.
pub(super) fn problem(line: &str) -> Option<&'static str> {
    let (kind, name) = key(line);
    let fields = line.split('\t').count();
    let is_time = || line.split('\t').nth(3).is_some_and(|at| at.parse::<u64>().is_ok());
    let is_size = || line.split('\t').nth(3).is_some_and(|kib| kib.parse::<u64>().is_ok());
    if line.chars().any(|c| c.is_control() && c != '\t') {
        Some("has a control character")
    } else if !(1..=NAME_MAX).contains(&name.len()) {
        Some("has no name, or a long one")
    } else if kind == "P" && (fields != 8 || !is_size()) {
        Some("is not a package")
    } else if kind == "P" && dependencies(line) > DEPENDS_MAX {
        Some("has too many dependencies")
    } else if kind == "S" && (fields != 4 || !is_time()) {
        Some("is not a version of the security suite")
    } else if !["P", "S"].contains(&kind)
        && (fields != 3 || !["A", "B", "E", "G", "U", "V"].contains(&kind))
    {
        Some("is of no known kind")
    } else {
        None
    }
}

/// Number of names in the dependencies of a package, with alternatives.
fn dependencies(line: &str) -> usize {
    line.split('\t').nth(6).map_or(0, |depends| depends.split([',', '|']).count())
}

/// Lines of a part of a text.
pub(super) struct Lines<'a> {
    text: &'a dyn IndexText,
    /// What was read, and not yet returned from `start` on.
    bytes: Vec<u8>,
    start: usize,
    /// What is to be read.
    rest: Range<u64>,
}

/// A line, and its offset in the text.
pub(super) struct Line<'a> {
    pub(super) at: u64,
    pub(super) text: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a dyn IndexText, part: Range<u64>) -> Self {
        Self { text, bytes: Vec::new(), start: 0, rest: part }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`], also for a line that is too long, has no end, or is not UTF-8.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, IndexError> {
        let length = loop {
            let unread = &self.bytes[self.start..];
            let length = unread.iter().position(|byte| *byte == b'\n');
            if length.unwrap_or(unread.len()) > LINE_MAX {
                return Err(IndexError::Unreadable("a line is too long".to_owned()));
            }
            if let Some(length) = length {
                break length;
            }
            if self.rest.is_empty() {
                return match unread {
                    [] => Ok(None),
                    _ => Err(IndexError::Unreadable("the last line has no end".to_owned())),
                };
            }
            self.fill()?;
        };
        let start = self.start;
        self.start += length + 1;
        let bytes = &self.bytes[start..start + length];
        let text = str::from_utf8(bytes).map_err(|e| IndexError::Unreadable(e.to_string()))?;
        Ok(Some(Line { at: self.rest.start - (self.bytes.len() - start) as u64, text }))
    }

    fn fill(&mut self) -> Result<(), IndexError> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let more = STEP.min(self.rest.end - self.rest.start);
        let known = self.bytes.len();
        self.bytes.resize(known + usize::try_from(more).unwrap_or_default(), 0);
        self.text
            .read(self.rest.start, &mut self.bytes[known..])
            .map_err(IndexError::Unreadable)?;
        self.rest.start += more;
        Ok(())
    }
}
