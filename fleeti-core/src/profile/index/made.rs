//! Makes the text of an index.

use super::text::{IndexHead, LINE_MAX, key, plain, problem};
use std::collections::{BTreeMap, BTreeSet};

/// Packages by the name of what they bring.
type By = BTreeMap<String, BTreeSet<String>>;

/// Parts from which an index is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexParts {
    /// Packages by name.
    pub packages: BTreeMap<String, IndexedPackage>,
    /// Packages by program.
    pub programs: BTreeMap<String, BTreeSet<String>>,
    /// Packages by unit.
    pub units: BTreeMap<String, BTreeSet<String>>,
    /// Packages by what they provide.
    pub provided: BTreeMap<String, BTreeSet<String>>,
    /// Packages by user.
    pub users: BTreeMap<String, BTreeSet<String>>,
    /// Packages by group.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// Packages by unit that starts at boot where they are installed.
    pub enabled: BTreeMap<String, BTreeSet<String>>,
    /// What the security suite has, by package.
    pub security: BTreeMap<String, SecurityVersion>,
}

/// A version of the security suite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityVersion {
    /// The version.
    pub version: String,
    /// When it was first seen, Unix seconds.
    pub since_s: u64,
}

/// A package from which an index is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexedPackage {
    /// Version.
    pub version: String,
    /// Size on the disk, KiB.
    pub size_kib: u64,
    /// SHA-256 of the .deb file, hexadecimal; empty if it is not known.
    pub sha256: String,
    /// Dependencies, as in the index.
    pub depends: String,
    /// What it is, in a few words.
    pub summary: String,
    /// Whether everything is known that the package brings: it was installed once.
    pub is_learnt: bool,
}

/// What a package brings: its files, and what its installation made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    /// System units, with their aliases.
    pub units: BTreeSet<String>,
    /// Programs below `/usr/bin` and `/usr/sbin`, with alternatives.
    pub programs: BTreeSet<String>,
    /// Users that its installation creates.
    pub users: BTreeSet<String>,
    /// Groups that its installation creates.
    pub groups: BTreeSet<String>,
    /// Units that start at boot where it is installed.
    pub enabled: BTreeSet<String>,
}

impl IndexParts {
    /// Adds what a package brings.
    pub fn learn(&mut self, package: &str, brought: &Brought) {
        let Some(known) = self.packages.get_mut(package) else { return };
        known.is_learnt = true;
        for (map, names) in [
            (&mut self.units, &brought.units),
            (&mut self.programs, &brought.programs),
            (&mut self.users, &brought.users),
            (&mut self.groups, &brought.groups),
            (&mut self.enabled, &brought.enabled),
        ] {
            for name in names {
                map.entry(name.clone()).or_default().insert(package.to_owned());
            }
        }
    }

    /// The index as a text.
    #[must_use]
    pub fn to_text(&self, head: &IndexHead) -> String {
        let mut lines = Vec::new();
        for (kind, map) in [
            ('A', &self.users),
            ('B', &self.programs),
            ('E', &self.enabled),
            ('G', &self.groups),
            ('U', &self.units),
            ('V', &self.provided),
        ] {
            lines.extend(list(kind, map));
        }
        lines.extend(self.packages.iter().map(|(name, package)| {
            format!(
                "P\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                plain(name),
                plain(&package.version),
                package.size_kib,
                if package.sha256.is_empty() { "-".to_owned() } else { plain(&package.sha256) },
                if package.is_learnt { '+' } else { '-' },
                plain(&package.depends),
                plain(&package.summary)
            )
        }));
        lines.extend(self.security.iter().map(|(name, security)| {
            format!("S\t{}\t{}\t{}\n", plain(name), plain(&security.version), security.since_s)
        }));
        // What no reader accepts is left out, instead of an index that nobody can open.
        lines.retain(|line| {
            line.len() <= LINE_MAX && problem(line.trim_end_matches('\n')).is_none()
        });
        lines.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        lines.dedup_by(|a, b| key(a) == key(b));
        format!("{}{}", head.to_line(), lines.concat())
    }
}

fn list(kind: char, map: &By) -> impl Iterator<Item = String> {
    map.iter().map(move |(name, by)| {
        let by: Vec<_> = by.iter().map(|name| plain(name)).collect();
        format!("{kind}\t{}\t{}\n", plain(name), by.join(","))
    })
}
