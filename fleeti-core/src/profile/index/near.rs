//! The known name that is nearest to each of several names, in one pass over the known ones.

use super::super::finding::{edits_max, nearest};

/// Names for which a near one is looked for.
pub(super) struct Near {
    wanted: Vec<Wanted>,
}

struct Wanted {
    name: String,
    /// Which characters it has.
    characters: u64,
    /// Known names that may be near.
    candidates: Vec<String>,
}

/// Largest number of names for which a near one is looked for: each costs time, and an author who
/// sees the first ones corrects the others as well.
const NEAR_MAX: usize = 8;
/// Largest number of known names that are compared with one.
const CANDIDATES_MAX: usize = 4096;

impl Near {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let wanted = |name: &str| Wanted {
            name: name.to_owned(),
            characters: characters(name),
            candidates: Vec::new(),
        };
        Self { wanted: names.into_iter().take(NEAR_MAX).map(wanted).collect() }
    }

    /// Looks at a known name.
    pub(super) fn offer(&mut self, known: &str) {
        let of_known = characters(known);
        for wanted in &mut self.wanted {
            // Each edit changes the length by one at most, and adds and removes one character at
            // most.
            let most = edits_max(&wanted.name, known);
            let differing = (of_known ^ wanted.characters).count_ones() as usize;
            if known.len().abs_diff(wanted.name.len()) <= most
                && differing <= 2 * most
                && wanted.candidates.len() < CANDIDATES_MAX
            {
                wanted.candidates.push(known.to_owned());
            }
        }
    }

    /// The nearest known name.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let wanted = self.wanted.iter().find(|wanted| wanted.name == name)?;
        nearest(name, wanted.candidates.iter().map(String::as_str))
    }
}

/// A bit for each character, without regard to case.
fn characters(name: &str) -> u64 {
    name.bytes().fold(0, |bits, byte| bits | 1 << (byte.to_ascii_lowercase() % 64))
}
