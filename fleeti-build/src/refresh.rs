//! What a refreshed lock changes, in terms that a person reads: packages that go up or down, that
//! are new or gone, sizes, and the security entries of changelogs.

use crate::cache::Cache;
use crate::lock::{IN_IMAGE, Lock, LockError, fetch_all};
use crate::package::Package;
use fleeti_core::package_version::compare;
use fleeti_core::profile::Software;
use fleeti_core::size::bytes;
use fleeti_core::wire::package::PackageQuery;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// Largest changelog that is read, bytes.
const CHANGELOG_MAX: u64 = 8 << 20;
/// Largest number of entries of a changelog that are shown.
const ENTRIES_MAX: usize = 64;

/// What a refreshed lock changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// SHA-256 of the refreshed lock.
    pub digest: String,
    /// Packages with a newer version.
    pub up: Vec<Moved>,
    /// Packages with an older version.
    pub down: Vec<Moved>,
    /// Packages that were not there.
    pub new: Vec<Listed>,
    /// Packages that are no longer there.
    pub gone: Vec<Listed>,
    /// Size of all .deb files of the image before, bytes.
    pub size_before: u64,
    /// Size of all .deb files of the image now, bytes.
    pub size_after: u64,
}

/// A package with another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Name of the package.
    pub name: String,
    /// Version in the earlier lock.
    pub before: String,
    /// Version in the refreshed lock.
    pub after: String,
    /// Where it comes from now.
    pub origin: String,
    /// Whether it is in the image; otherwise only the build uses it.
    pub in_image: bool,
    /// Entries of its changelog since, as far as they are of security.
    pub security: Vec<Entry>,
}

/// A package that is new or gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub origin: String,
    /// Whether it is in the image; otherwise only the build uses it.
    pub in_image: bool,
}

/// An entry of a changelog (deb-changelog(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The version that it is of.
    pub version: String,
    /// For example `high`.
    pub urgency: String,
    /// CVE numbers that it names.
    pub cves: Vec<String>,
}

impl Changes {
    /// Whether every package keeps its version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && self.new.is_empty() && self.gone.is_empty()
    }

    /// The changes, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_empty() {
            lines.push("  no package changes".to_owned());
        }
        for (title, list) in [("up", &self.up), ("down", &self.down)] {
            lines.extend(list.iter().flat_map(|moved| moved_lines(title, moved)));
        }
        for (title, list) in [("new", &self.new), ("gone", &self.gone)] {
            lines.extend(list.iter().map(|listed| listed_line(title, listed)));
        }
        let sign = if self.size_after < self.size_before { "-" } else { "+" };
        let by = bytes(self.size_after.abs_diff(self.size_before));
        lines.push(format!("  size of the packages: {} ({sign}{by})", bytes(self.size_after)));
        lines
    }
}

fn of(in_image: bool) -> &'static str {
    if in_image { "" } else { ", of the build only" }
}

fn moved_lines(title: &str, moved: &Moved) -> Vec<String> {
    let Moved { name, before, after, origin, in_image, security } = moved;
    let head = format!("  {title:<5}{name} {before} -> {after} ({origin}{})", of(*in_image));
    let entries = security.iter().map(|entry| {
        let cves =
            if entry.cves.is_empty() { "no CVE named".to_owned() } else { entry.cves.join(", ") };
        format!("         security {}, urgency {}: {cves}", entry.version, entry.urgency)
    });
    std::iter::once(head).chain(entries).collect()
}

fn listed_line(title: &str, listed: &Listed) -> String {
    let Listed { name, version, origin, in_image } = listed;
    format!("  {title:<5}{name} {version} ({origin}{})", of(*in_image))
}

/// A package of a lock, by name.
struct Entered<'a> {
    package: &'a Package,
    in_image: bool,
}

fn by_name(lock: &Lock) -> BTreeMap<&str, Entered<'_>> {
    let mut found = BTreeMap::new();
    for (set, packages) in &lock.sets {
        for package in packages {
            let in_image = IN_IMAGE.contains(&set.as_str());
            let known = found.entry(&*package.name).or_insert(Entered { package, in_image });
            if in_image {
                *known = Entered { package, in_image };
            }
        }
    }
    found
}

fn size(lock: &Lock) -> u64 {
    by_name(lock).values().filter(|entered| entered.in_image).map(|e| e.package.size).sum()
}

fn origin(package: &Package) -> String {
    package.origin.as_deref().unwrap_or("debian trixie main").to_owned()
}

/// Compares two locks, without changelogs.
#[must_use]
pub fn changes(before: &Lock, after: &Lock) -> Changes {
    let (old, new) = (by_name(before), by_name(after));
    let listed = |entered: &Entered<'_>| Listed {
        name: entered.package.name.to_string(),
        version: entered.package.version.to_string(),
        origin: origin(entered.package),
        in_image: entered.in_image,
    };
    let mut changes = Changes {
        digest: after.digest(),
        size_before: size(before),
        size_after: size(after),
        ..Changes::default()
    };
    for (name, now) in &new {
        let Some(then) = old.get(name) else {
            changes.new.push(listed(now));
            continue;
        };
        let moved = || Moved {
            name: (*name).to_owned(),
            before: then.package.version.to_string(),
            after: now.package.version.to_string(),
            origin: origin(now.package),
            in_image: now.in_image,
            security: Vec::new(),
        };
        match compare(&then.package.version, &now.package.version) {
            Ordering::Less => changes.up.push(moved()),
            Ordering::Greater => changes.down.push(moved()),
            Ordering::Equal => {}
        }
    }
    changes
        .gone
        .extend(old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(_, e)| listed(e)));
    changes
}

/// What a lock does not have as it was asked for, in words.
#[must_use]
pub fn missed(lock: &Lock, wanted: &[PackageQuery]) -> Vec<String> {
    let packages = by_name(lock);
    let missing = |query: &PackageQuery| match packages.get(query.name()) {
        None => Some(format!("{query} is not in it")),
        Some(found) if query.is_fitting(&found.package.version) => None,
        Some(found) => Some(format!("{query}, and it has {}", found.package.version)),
    };
    wanted.iter().filter_map(missing).collect()
}

/// Adds the security entries of the changelogs that newer packages of the image have. Downloads
/// those packages.
///
/// # Errors
/// [`LockError`] if a package cannot be downloaded.
pub fn add_security(
    changes: &mut Changes,
    lock: &Lock,
    cache: &Cache,
    software: &Software,
) -> Result<(), LockError> {
    let packages = by_name(lock);
    let of = |moved: &Moved| packages.get(moved.name.as_str()).map(|entered| entered.package);
    let wanted: Vec<_> = changes.up.iter().filter(|moved| moved.in_image).filter_map(of).collect();
    fetch_all(&wanted, cache, software, |_, _| {})?;
    for moved in changes.up.iter_mut().filter(|moved| moved.in_image) {
        if let Some(package) = of(moved) {
            let text = changelog(&cache.package(&package.sha256), &moved.name).unwrap_or_default();
            moved.security = security(&text, &moved.before, moved.origin.contains("-security "));
        }
    }
    Ok(())
}

/// The changelog of a package; `None` if the .deb has none, or another package has it.
fn changelog(deb: &Path, name: &str) -> Option<String> {
    let mut unpacked = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let paths = ["changelog.Debian.gz", "changelog.gz"]
        .map(|file| format!("./usr/share/doc/{name}/{file}"));
    let mut member = Command::new("tar")
        .args(["--extract", "--to-stdout", "--file", "-", "--"])
        .args(&paths)
        .stdin(unpacked.stdout.take()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut plain = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(member.stdout.take()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut bytes = Vec::new();
    let read = plain.stdout.take().map(|out| out.take(CHANGELOG_MAX).read_to_end(&mut bytes));
    for child in [&mut plain, &mut member, &mut unpacked] {
        // A limit leaves them writing to a pipe that is closed: they end by themselves. tar fails
        // if a package has one of the two files only.
        child.wait().ok()?;
    }
    read?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Entries that are newer than a version, and of security: they name a CVE, have a high urgency, or
/// were made for a security suite.
fn security(changelog: &str, before: &str, is_of_security: bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut is_security = Vec::new();
    for line in changelog.lines() {
        if let Some(head) = head(line) {
            if compare(&head.entry.version, before).is_le() || entries.len() == ENTRIES_MAX {
                break;
            }
            is_security.push(head.is_security);
            entries.push(head.entry);
        } else if let Some(entry) = entries.last_mut() {
            entry.cves.extend(cves(line));
        }
    }
    for entry in &mut entries {
        let found: BTreeSet<_> = entry.cves.drain(..).collect();
        entry.cves.extend(found);
    }
    let first_of_suite = |i: usize| is_of_security && i == 0;
    entries
        .into_iter()
        .zip(is_security)
        .enumerate()
        .filter(|(i, (entry, is))| *is || !entry.cves.is_empty() || first_of_suite(*i))
        .map(|(_, (entry, _))| entry)
        .collect()
}

struct Head {
    entry: Entry,
    is_security: bool,
}

/// Parses `openssl (3.5.7-1~deb13u3) trixie-security; urgency=high`.
fn head(line: &str) -> Option<Head> {
    let (_, rest) = line.split_once(" (").filter(|_| !line.starts_with([' ', '\t']))?;
    let (version, rest) = rest.split_once(") ")?;
    let (suites, fields) = rest.split_once(';')?;
    let urgency = fields.split(',').find_map(|f| f.trim().strip_prefix("urgency="))?;
    let word: String = urgency.chars().take_while(char::is_ascii_alphabetic).collect();
    let urgency = word.to_ascii_lowercase();
    let is_urgent = ["high", "critical", "emergency"].contains(&urgency.as_str());
    let is_security = is_urgent || suites.contains("-security");
    Some(Head {
        entry: Entry { version: version.to_owned(), urgency, cves: Vec::new() },
        is_security,
    })
}

/// CVE numbers in a line.
fn cves(line: &str) -> impl Iterator<Item = String> {
    line.split("CVE-").skip(1).filter_map(|rest| {
        let (year, rest) = rest.split_once('-')?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
        (is_year && (4..=8).contains(&number.len())).then(|| format!("CVE-{year}-{number}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(sets: &[(&str, &[(&str, &str)])]) -> Lock {
        let package = |(name, version): &(&str, &str)| {
            serde_json::json!({"name": name, "version": version, "sha256": "a".repeat(64), "size": 10,
                "path": "pool/x.deb", "origin": "debian trixie-security main"})
        };
        let sets: serde_json::Map<_, _> = sets
            .iter()
            .map(|(set, all)| {
                ((*set).to_owned(), all.iter().map(package).collect::<Vec<_>>().into())
            })
            .collect();
        let text = serde_json::json!({"suite": "trixie", "architecture": "amd64", "requested": {}, "sets": sets});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_lock_is_compared_by_name_in_the_order_of_versions() {
        let before = lock(&[
            ("device", &[("aa", "1.9"), ("bb", "2"), ("cc", "1"), ("dd", "1")]),
            ("tools", &[("aa", "1.9"), ("tool", "1")]),
        ]);
        let after = lock(&[
            ("device", &[("aa", "1.10"), ("bb", "1:1"), ("dd", "1~rc1"), ("ee", "1")]),
            ("tools", &[("aa", "1.10"), ("tool", "2")]),
        ]);
        let found = changes(&before, &after);
        let up: Vec<_> = found.up.iter().map(|m| (m.name.as_str(), m.in_image)).collect();
        assert_eq!(up, [("aa", true), ("bb", true), ("tool", false)]);
        assert_eq!(found.down[0].name, "dd");
        assert_eq!((found.new[0].name.as_str(), found.gone[0].name.as_str()), ("ee", "cc"));
        assert_eq!((found.size_before, found.size_after), (40, 40));
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn a_fix_that_the_lock_does_not_have_is_named() {
        let lock = lock(&[("device", &[("openssl", "3.5.1-1+deb13u2"), ("zlib1g", "1.3")])]);
        let of = |texts: &[&str]| {
            let wanted: Vec<PackageQuery> =
                texts.iter().map(|text| text.parse().unwrap()).collect();
            missed(&lock, &wanted)
        };
        assert!(of(&["openssl>=3.5.1-1+deb13u2", "zlib1g", "openssl>3.5.1-1"]).is_empty());
        assert_eq!(
            of(&["openssl>=3.5.1-1+deb13u3", "curl"]),
            ["openssl>=3.5.1-1+deb13u3, and it has 3.5.1-1+deb13u2", "curl is not in it"]
        );
    }

    #[test]
    fn security_entries_are_those_since_the_earlier_version() {
        let text = "openssl (3.5.7-1~deb13u3) trixie-security; urgency=medium\n\n  * Fix CVE-2026-12345 and\n    \
                    CVE-2026-12345, CVE-2026-1234.\n\n -- A <a@b>  Mon, 01 Jan 2026 00:00:00 +0000\n\n\
                    openssl (3.5.7-1~deb13u2) trixie; urgency=medium\n\n  * Other (not CVE-x-1).\n\n -- A <a@b>  x\n\n\
                    openssl (3.5.7-1) unstable; urgency=HIGH (security)\n\n  * Big.\n\n -- A <a@b>  x\n\n\
                    openssl (3.5.6-1) unstable; urgency=high\n\n  * CVE-2020-0001\n";
        let found = security(text, "3.5.6-1", false);
        let found: Vec<_> =
            found.iter().map(|e| (e.version.as_str(), e.urgency.as_str(), e.cves.len())).collect();
        assert_eq!(found, [("3.5.7-1~deb13u3", "medium", 2), ("3.5.7-1", "high", 0)]);
        assert_eq!(security(text, "9", true), []);
        assert_eq!(security("no changelog (really)\n", "1", true), []);
    }

    #[test]
    fn changes_are_told_by_name_version_origin_and_security_entry() {
        let moved = |name: &str, before: &str, after: &str| Moved {
            name: name.into(),
            before: before.into(),
            after: after.into(),
            origin: "debian trixie-security main".into(),
            in_image: true,
            security: Vec::new(),
        };
        let mut up = moved("openssl", "3.5.6-1", "3.5.7-1");
        let cves = vec!["CVE-2026-1234".to_owned()];
        up.security = vec![Entry { version: "3.5.7-1".into(), urgency: "high".into(), cves }];
        let listed = Listed {
            name: "zz".into(),
            version: "1".into(),
            origin: "vendor stable main".into(),
            in_image: false,
        };
        let found = Changes {
            digest: "d".into(),
            up: vec![up],
            down: vec![moved("bb", "2", "1")],
            new: vec![listed.clone()],
            gone: vec![listed],
            size_before: 4096,
            size_after: 1024,
        };
        assert_eq!(
            found.lines(),
            [
                "  up   openssl 3.5.6-1 -> 3.5.7-1 (debian trixie-security main)",
                "         security 3.5.7-1, urgency high: CVE-2026-1234",
                "  down bb 2 -> 1 (debian trixie-security main)",
                "  new  zz 1 (vendor stable main, of the build only)",
                "  gone zz 1 (vendor stable main, of the build only)",
                "  size of the packages: 1.0 KiB (-3.0 KiB)",
            ]
        );
        assert!(Changes::default().lines()[0].contains("no package changes"));
    }
}
