//! Numbers of the users and groups that packages make.
//!
//! Files on the data partition of a device belong to numbers, so a name must keep its number in
//! every image of a line. A number follows from the name alone (`nix/debian/ids.py`), unless two
//! names want the same one: then the one that a lock fixes keeps it.

use crate::package::WrongForm;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Least number of a user or group of a package.
const LEAST: u32 = 101;
/// Greatest number of a user or group of a package. Fleeti's own user has the next one.
const GREATEST: u32 = 989;

/// Number by name of a user, a group, or a user and its group. INVARIANT: each name has the form of
/// useradd(8) and at most 32 characters; each number is 101 to 989 and that of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u32>", into = "BTreeMap<String, u32>")]
pub struct Ids(BTreeMap<String, u32>);

/// Names whose number would change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Shifted(pub Vec<Shift>);

/// A name whose number would change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {before} in the lock and {after} in the build")]
pub struct Shift {
    /// Name of the user or group.
    pub name: String,
    /// Number in the lock.
    pub before: u32,
    /// Number in the build.
    pub after: u32,
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    starts && name.len() <= 32 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

impl TryFrom<BTreeMap<String, u32>> for Ids {
    type Error = WrongForm;
    fn try_from(numbers: BTreeMap<String, u32>) -> Result<Self, WrongForm> {
        let mut names: HashMap<u32, &str> = HashMap::new();
        for (name, number) in &numbers {
            if !is_name(name) {
                return Err(WrongForm::new(name, "a name of a user or group"));
            }
            if !(LEAST..=GREATEST).contains(number) {
                let text = format!("{name}: {number}");
                return Err(WrongForm::new(&text, "a number of a user or group (101 to 989)"));
            }
            if let Some(other) = names.insert(*number, name) {
                let text = format!("{other}, {name}: {number}");
                return Err(WrongForm::new(&text, "a number of one name"));
            }
        }
        Ok(Self(numbers))
    }
}

impl From<Ids> for BTreeMap<String, u32> {
    fn from(ids: Ids) -> Self {
        ids.0
    }
}

impl Ids {
    /// Whether no number is fixed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// These numbers and those of another build of the line. A name that this build does not have
    /// keeps its number.
    ///
    /// # Errors
    /// [`Shifted`] with each name that has another number there.
    pub fn and(mut self, build: &Self) -> Result<Self, Shifted> {
        let mut shifts = Vec::new();
        for (name, after) in &build.0 {
            match self.0.insert(name.clone(), *after) {
                Some(before) if before != *after => {
                    shifts.push(Shift { name: name.clone(), before, after: *after });
                }
                _ => {}
            }
        }
        if shifts.is_empty() { Ok(self) } else { Err(Shifted(shifts)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Result<Ids, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_number_that_two_names_have_or_that_is_not_free_is_refused() {
        assert!(ids(r#"{"www": 101, "postgres": 989}"#).is_ok());
        for (text, word) in [
            (r#"{"a": 200, "b": 200}"#, "one name"),
            (r#"{"fleeti": 990}"#, "101 to 989"),
            (r#"{"root": 0}"#, "101 to 989"),
            (r#"{"a:b": 200}"#, "name of a user"),
            (r#"{"": 200}"#, "name of a user"),
        ] {
            let error = ids(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_numbers_that_the_base_fixes_are_those_of_one_name_each() {
        let fixed = ids(include_str!("../nix/debian/ids.json")).unwrap();
        // A number that was used must never change.
        assert_eq!((fixed.get("_chrony"), fixed.get("messagebus")), (Some(101), Some(143)));
    }

    #[test]
    fn a_name_keeps_its_number_and_a_shift_is_named() {
        let lock = ids(r#"{"postgres": 200, "gone": 201}"#).unwrap();
        let kept = lock.clone().and(&ids(r#"{"postgres": 200, "redis": 300}"#).unwrap()).unwrap();
        assert_eq!(kept, ids(r#"{"postgres": 200, "gone": 201, "redis": 300}"#).unwrap());
        let error = lock.and(&ids(r#"{"postgres": 400}"#).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "postgres is 200 in the lock and 400 in the build");
    }
}
