//! A profile while it is made: its sections, where each entry comes from, and notes.

use crate::note::{Area, Note, Outcome};
use fleeti_core::foreign;
use fleeti_core::profile::Profile;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of notes; a foreign system must not fill the memory or the screen.
const NOTES_MAX: usize = 4000;
/// Maximum size of all texts of units, drop-ins, files and keys together, as a document has them,
/// bytes. With everything else, the document stays below [`fleeti_core::profile::TEXT_MAX`].
const TEXTS_MAX: usize = 512 << 10;
/// Size of an entry in a document without its text and its path, with its comment, bytes.
const ENTRY: usize = 256;

/// A profile while it is made.
pub(crate) struct Draft {
    pub(crate) profile: Profile,
    /// Where an entry comes from, by list and key, for example `users ops`.
    pub(crate) origins: BTreeMap<String, String>,
    pub(crate) notes: Vec<Note>,
    /// Paths that a section of the profile has taken or has spoken about.
    pub(crate) handled: BTreeSet<String>,
    /// What is left of [`TEXTS_MAX`].
    texts_left: usize,
}

impl Draft {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            origins: BTreeMap::new(),
            notes: Vec::new(),
            handled: BTreeSet::new(),
            texts_left: TEXTS_MAX,
        }
    }

    pub(crate) fn origin(&mut self, list: &str, key: &str, from: impl Into<String>) {
        self.origins.insert(format!("{list} {key}"), from.into());
    }

    pub(crate) fn handle(&mut self, path: &str) {
        self.handled.insert(path.to_owned());
    }

    /// Whether there is room for the text of a unit, a drop-in or a file. The room is then taken.
    pub(crate) fn has_room(&mut self, path: &str, text: &str) -> bool {
        self.takes(path.len() + ENTRY + written(text))
    }

    /// As `has_room`, for a text that is one of many of an entry, such as a key.
    pub(crate) fn has_room_for_key(&mut self, key: &str) -> bool {
        self.takes(written(key))
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.texts_left.checked_sub(bytes);
        self.texts_left = left.unwrap_or(self.texts_left);
        left.is_some()
    }

    pub(crate) fn taken(&mut self, area: Area, subject: &str, why: &str, next: &str) {
        let (subject, why, next) = (subject.to_owned(), why.to_owned(), next.to_owned());
        self.note(Note { area, outcome: Outcome::Taken, subject, why, next });
    }

    pub(crate) fn not_taken(&mut self, area: Area, subject: &str, why: &str, next: &str) {
        let (subject, why, next) = (subject.to_owned(), why.to_owned(), next.to_owned());
        self.note(Note { area, outcome: Outcome::NotTaken, subject, why, next });
    }

    /// Notes that a file is not readable; root can read it.
    pub(crate) fn not_readable(&mut self, area: Area, path: &str) {
        self.not_taken(area, path, "is not readable", "run the command as root");
    }

    pub(crate) fn replaced(&mut self, area: Area, subject: &str, why: &str) {
        let (subject, why, next) = (subject.to_owned(), why.to_owned(), String::new());
        self.note(Note { area, outcome: Outcome::Replaced, subject, why, next });
    }

    fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds a package unless the profile has it.
    pub(crate) fn install(&mut self, package: &str) {
        let packages = &mut self.profile.software.packages;
        if !packages.iter().any(|p| p == package) {
            packages.push(package.to_owned());
        }
    }

    #[cfg(test)]
    pub(crate) fn installs(&self, package: &str) -> bool {
        self.profile.software.packages.iter().any(|p| p == package)
    }
}

/// The size of a text in a document, with all that may be escaped, bytes.
fn written(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| b"\"\\\n\r\t".contains(byte)).count();
    foreign::toml(text).len() + escaped
}

/// Why a text was not taken for which there was no room.
pub(crate) fn no_room() -> String {
    format!("the texts of a profile have at most {TEXTS_MAX} bytes in total")
}

/// A number with its noun.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Names in a sentence, the first ones of a long list only.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let all: Vec<_> = names.into_iter().collect();
    let shown = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// An empty draft, for tests.
#[cfg(test)]
pub(crate) fn made() -> Draft {
    let text = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\n";
    Draft::new(fleeti_core::profile::check(text).unwrap())
}
