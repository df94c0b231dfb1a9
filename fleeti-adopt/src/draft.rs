//! A profile while it is made: its sections, where each entry comes from, and notes.

use crate::note::{Area, Note, Outcome};
use fleeti_core::profile::Profile;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of notes; a foreign system must not fill the memory or the screen.
const NOTES_MAX: usize = 4000;

/// A profile while it is made.
pub(crate) struct Draft {
    pub(crate) profile: Profile,
    /// Where an entry comes from, by list and key, for example `users ops`.
    pub(crate) origins: BTreeMap<String, String>,
    pub(crate) notes: Vec<Note>,
    /// Paths that a section of the profile has taken or has spoken about.
    pub(crate) handled: BTreeSet<String>,
}

impl Draft {
    pub(crate) fn new(profile: Profile) -> Self {
        Self { profile, origins: BTreeMap::new(), notes: Vec::new(), handled: BTreeSet::new() }
    }

    pub(crate) fn origin(&mut self, list: &str, key: &str, from: impl Into<String>) {
        self.origins.insert(format!("{list} {key}"), from.into());
    }

    pub(crate) fn handle(&mut self, path: &str) {
        self.handled.insert(path.to_owned());
    }

    pub(crate) fn taken(&mut self, area: Area, subject: &str, why: &str, next: &str) {
        let (subject, why, next) = (subject.to_owned(), why.to_owned(), next.to_owned());
        self.note(Note { area, outcome: Outcome::Taken, subject, why, next });
    }

    pub(crate) fn not_taken(&mut self, area: Area, subject: &str, why: &str, next: &str) {
        let (subject, why, next) = (subject.to_owned(), why.to_owned(), next.to_owned());
        self.note(Note { area, outcome: Outcome::NotTaken, subject, why, next });
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
