//! Errors in a profile, and where they are in its text.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// An error in a profile: where it is, what is wrong, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Path of the field, for example `users[1].ssh_keys[0]`; empty for the whole document.
    pub path: String,
    /// Line in the text; 1 for the first.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "document" } else { &self.path };
        write!(f, "line {}: {path}: {}\n  hint: {}", self.line, self.message, self.remedy)
    }
}

/// The position of each path in the text.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    pub(super) offsets: HashMap<String, usize>,
}

impl Lines<'_> {
    pub(super) fn remember(&mut self, path: &str, offset: usize) {
        self.offsets.insert(path.to_owned(), offset);
    }
    /// Makes a finding. A path that is not in the text (a default) gets the line of its parent.
    pub(super) fn finding(&self, path: &str, message: String, remedy: String) -> Finding {
        let mut at = path;
        let offset = loop {
            if let Some(offset) = self.offsets.get(at) {
                break *offset;
            }
            match at.rfind(['.', '[']) {
                Some(cut) => at = &at[..cut],
                None => break 0,
            }
        };
        let line = 1 + self.text.as_bytes()[..offset.min(self.text.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        Finding { path: path.to_owned(), line, message, remedy }
    }
}
