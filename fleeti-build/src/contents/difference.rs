//! What differs between two images, in terms of what an administrator knows.

use super::{Contents, Entry, Kind};
use crate::lock::Lock;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Folders of units.
const UNITS: [&str; 2] = ["/etc/systemd/system/", "/usr/lib/systemd/system/"];

/// One of the two images.
pub(super) struct Side {
    packages: BTreeMap<String, String>,
    sizes: BTreeMap<String, u64>,
    files: BTreeMap<String, Entry>,
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    size: u64,
}

impl Side {
    /// `size` is that of the compressed file system, bytes.
    pub(super) fn new(contents: Contents, lock: &Lock, size: u64) -> Self {
        let packages = ["device", "kernel"]
            .iter()
            .filter_map(|set| lock.sets.get(*set))
            .flatten()
            .map(|package| (package.name.to_string(), package.version.to_string()))
            .collect();
        let sizes = contents.by_package().into_iter().map(|s| (s.package, s.bytes)).collect();
        let files = contents.files.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        Self { packages, sizes, files, users: contents.users, groups: contents.groups, size }
    }

    /// The unit of each name: its text, drop-ins included, and whether something starts it.
    fn units(&self) -> BTreeMap<&str, Unit<'_>> {
        let mut units: BTreeMap<&str, Unit<'_>> = BTreeMap::new();
        for (path, entry) in &self.files {
            let Some(below) = UNITS.iter().find_map(|folder| path.strip_prefix(folder)) else {
                continue;
            };
            match below.split_once('/') {
                None if entry.kind != Kind::Directory && !is_folder_of_unit(below) => {
                    let unit = units.entry(below).or_default();
                    // Sorted by path: a unit in /etc comes before that of a package.
                    unit.file.get_or_insert(entry);
                    unit.parts.push(entry);
                }
                Some((folder, name)) => {
                    if let Some(unit) = folder.strip_suffix(".d") {
                        units.entry(unit).or_default().parts.push(entry);
                    } else if is_folder_of_unit(folder) {
                        units.entry(name).or_default().is_enabled = true;
                    }
                }
                None => {}
            }
        }
        let files: BTreeMap<&str, &Entry> =
            units.iter().filter_map(|(name, unit)| Some((*name, unit.file?))).collect();
        for (name, unit) in units.iter_mut().filter(|(_, unit)| unit.file.is_none()) {
            unit.file = template(name).and_then(|of| files.get(of.as_str()).copied());
        }
        units
    }
}

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
fn template(name: &str) -> Option<String> {
    let (stem, rest) = name.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

/// A unit of an image.
#[derive(Default)]
struct Unit<'a> {
    /// What systemd reads first: the unit itself, or the template of an instance.
    file: Option<&'a Entry>,
    parts: Vec<&'a Entry>,
    is_enabled: bool,
}

fn is_folder_of_unit(name: &str) -> bool {
    [".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end))
}

/// What differs between two images. What is the same in both is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Packages, by name.
    pub packages: Vec<PackageChange>,
    /// Units, by name.
    pub units: Vec<UnitChange>,
    /// Users, by name.
    pub users: Vec<AccountChange>,
    /// Groups, by name.
    pub groups: Vec<AccountChange>,
    /// Files and links, by path. Directories are listed only if they are in both.
    pub files: Vec<FileChange>,
    /// Size of the compressed root file systems, bytes.
    pub size_before: u64,
    /// As `size_before`.
    pub size_after: u64,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

impl State {
    fn of<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> Option<Self> {
        match (before, after) {
            (None, Some(_)) => Some(Self::Added),
            (Some(_), None) => Some(Self::Removed),
            (Some(before), Some(after)) if before != after => Some(Self::Changed),
            _ => None,
        }
    }
}

/// A package with another version, or in one image only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Name of the package.
    pub name: String,
    /// Its version in the first image.
    pub before: Option<String>,
    /// Its version in the second image.
    pub after: Option<String>,
    /// By how much its files became larger, bytes, not compressed.
    pub bytes: i64,
}

/// A unit that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitChange {
    /// Name of the unit.
    pub name: String,
    /// In the first image.
    pub before: UnitState,
    /// In the second image.
    pub after: UnitState,
    /// Whether its text or its drop-ins differ.
    pub text_changed: bool,
}

/// What an image does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitState {
    /// The image does not have it.
    Absent,
    /// Nothing starts it by itself.
    Disabled,
    /// Another unit starts it.
    Enabled,
    /// It is a link to `/dev/null`.
    Masked,
}

/// A user or group that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountChange {
    /// Its name.
    pub name: String,
    /// Its id in the first image.
    pub before: Option<u32>,
    /// Its id in the second image.
    pub after: Option<u32>,
}

/// A file or link that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Absolute path.
    pub path: String,
    /// What became of it.
    pub state: State,
    /// What differs of a changed one: `kind`, `content`, `mode`, `owner`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// The package that brings it; that of the second image if both have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Whether it runs with the rights of its owner or group, in the second image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub setuid: bool,
}

impl Difference {
    /// Whether the images are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { packages, units, users, groups, files, size_before, size_after } = self;
        packages.is_empty()
            && units.is_empty()
            && users.is_empty()
            && groups.is_empty()
            && files.is_empty()
            && size_before == size_after
    }
}

pub(super) fn between(before: &Side, after: &Side) -> Difference {
    Difference {
        packages: packages(before, after),
        units: units(before, after),
        users: accounts(&before.users, &after.users),
        groups: accounts(&before.groups, &after.groups),
        files: files(before, after),
        size_before: before.size,
        size_after: after.size,
    }
}

/// The keys of two maps, each once, sorted.
fn keys<'a, V>(
    before: &'a BTreeMap<String, V>,
    after: &'a BTreeMap<String, V>,
) -> BTreeSet<&'a String> {
    before.keys().chain(after.keys()).collect()
}

fn packages(before: &Side, after: &Side) -> Vec<PackageChange> {
    let size = |side: &Side, name: &str| {
        i64::try_from(side.sizes.get(name).copied().unwrap_or_default()).unwrap_or(i64::MAX)
    };
    keys(&before.packages, &after.packages)
        .into_iter()
        .filter(|name| before.packages.get(*name) != after.packages.get(*name))
        .map(|name| PackageChange {
            name: name.clone(),
            before: before.packages.get(name).cloned(),
            after: after.packages.get(name).cloned(),
            bytes: size(after, name).saturating_sub(size(before, name)),
        })
        .collect()
}

fn accounts(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> Vec<AccountChange> {
    keys(before, after)
        .into_iter()
        .map(|name| AccountChange {
            name: name.clone(),
            before: before.get(name).copied(),
            after: after.get(name).copied(),
        })
        .filter(|change| change.before != change.after)
        .collect()
}

fn units(before: &Side, after: &Side) -> Vec<UnitChange> {
    let (old, new) = (before.units(), after.units());
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let texts = |unit: Option<&Unit<'_>>| -> Vec<(String, Option<String>, Option<String>)> {
        let part = |e: &&Entry| (e.path.clone(), e.sha256.clone(), e.target.clone());
        unit.map(|unit| unit.parts.iter().map(part).collect()).unwrap_or_default()
    };
    names
        .into_iter()
        .map(|name| UnitChange {
            name: name.to_owned(),
            before: state_of(old.get(name)),
            after: state_of(new.get(name)),
            text_changed: texts(old.get(name)) != texts(new.get(name)),
        })
        .filter(|change| {
            let is_there = change.after != UnitState::Absent;
            change.before != change.after || (is_there && change.text_changed)
        })
        .collect()
}

fn state_of(unit: Option<&Unit<'_>>) -> UnitState {
    match unit.and_then(|unit| Some((unit.file?, unit.is_enabled))) {
        None => UnitState::Absent,
        Some((file, _)) if file.target.as_deref() == Some("/dev/null") => UnitState::Masked,
        Some((_, true)) => UnitState::Enabled,
        Some((_, false)) => UnitState::Disabled,
    }
}

fn files(before: &Side, after: &Side) -> Vec<FileChange> {
    keys(&before.files, &after.files)
        .into_iter()
        .filter_map(|path| {
            let (old, new) = (before.files.get(path), after.files.get(path));
            let entry = new.or(old)?;
            let state = State::of(old, new)?;
            let what = old.zip(new).map(|(old, new)| differing(old, new)).unwrap_or_default();
            let only_moved = state == State::Changed && what.is_empty();
            if only_moved || (entry.kind == Kind::Directory && state != State::Changed) {
                return None;
            }
            Some(FileChange {
                path: path.clone(),
                state,
                what,
                package: entry.package.clone(),
                setuid: new.is_some_and(Entry::is_setuid),
            })
        })
        .collect()
}

fn differing(old: &Entry, new: &Entry) -> Vec<&'static str> {
    [
        ("kind", old.kind != new.kind),
        ("content", (&old.sha256, &old.target) != (&new.sha256, &new.target)),
        ("mode", old.mode != new.mode),
        ("owner", (old.uid, old.gid) != (new.uid, new.gid)),
    ]
    .into_iter()
    .filter_map(|(name, is_different)| is_different.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sha256: &str, package: Option<&str>) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: Some(100),
            sha256: Some(sha256.into()),
            target: None,
            package: package.map(str::to_owned),
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        let mut entry = file(path, "", None);
        (entry.kind, entry.size, entry.sha256) = (Kind::Link, None, None);
        entry.target = Some(target.into());
        entry
    }

    fn side(packages: &[(&str, &str)], users: &[(&str, u32)], files: Vec<Entry>) -> Side {
        let owned = |list: &[(&str, u32)]| list.iter().map(|(n, id)| ((*n).into(), *id)).collect();
        let contents = Contents { users: owned(users), groups: BTreeMap::new(), files };
        let lock: Lock = serde_json::from_value(serde_json::json!({
            "suite": "trixie", "architecture": "amd64", "requested": {},
            "sets": {"device": packages.iter().map(|(name, version)| serde_json::json!({
                "name": name, "version": version, "sha256": "0".repeat(64), "size": 1,
                "path": "pool/a.deb",
            })).collect::<Vec<_>>()},
        }))
        .unwrap();
        Side::new(contents, &lock, 1000)
    }

    #[test]
    fn two_equal_images_do_not_differ() {
        let make = || {
            side(&[("nginx", "1")], &[("root", 0)], vec![file("/usr/sbin/a", "1", Some("nginx"))])
        };
        assert!(between(&make(), &make()).is_empty());
    }

    #[test]
    fn a_package_its_files_and_its_size_are_named() {
        let before = side(&[("nginx", "1")], &[], vec![file("/usr/sbin/a", "1", Some("nginx"))]);
        let mut larger = file("/usr/sbin/a", "2", Some("nginx"));
        (larger.size, larger.mode) = (Some(250), 0o4755);
        let after = side(&[("nginx", "2"), ("less", "5")], &[("www", 33)], vec![larger]);
        let found = between(&before, &after);
        let packages: Vec<_> =
            found.packages.iter().map(|p| (p.name.as_str(), p.after.as_deref(), p.bytes)).collect();
        assert_eq!(packages, [("less", Some("5"), 0), ("nginx", Some("2"), 150)]);
        assert_eq!(found.users[0].after, Some(33));
        assert_eq!(found.files.len(), 1);
        assert!(found.files[0].setuid && found.files[0].what == ["content", "mode"]);
    }

    #[test]
    fn a_unit_is_enabled_by_a_link_masked_by_another_and_changed_by_a_drop_in() {
        let unit = |name: &str| file(&format!("/usr/lib/systemd/system/{name}"), "1", None);
        let wanted =
            |name: &str| link(&format!("/etc/systemd/system/multi-user.target.wants/{name}"), name);
        let before = side(
            &[],
            &[],
            vec![unit("a.service"), unit("b.service"), unit("c.service"), wanted("b.service")],
        );
        let after = side(
            &[],
            &[],
            vec![
                unit("a.service"),
                unit("b.service"),
                unit("c.service"),
                wanted("a.service"),
                link("/etc/systemd/system/b.service", "/dev/null"),
                file("/etc/systemd/system/c.service.d/10-x.conf", "2", None),
            ],
        );
        let found: Vec<_> = between(&before, &after)
            .units
            .into_iter()
            .map(|u| (u.name, u.before, u.after, u.text_changed))
            .collect();
        let expected = [
            ("a.service", UnitState::Disabled, UnitState::Enabled, false),
            ("b.service", UnitState::Enabled, UnitState::Masked, true),
            ("c.service", UnitState::Disabled, UnitState::Disabled, true),
        ];
        assert_eq!(found, expected.map(|(name, a, b, text)| (name.to_owned(), a, b, text)));
    }

    #[test]
    fn an_instance_is_its_template_and_a_masked_drop_in_masks_no_unit() {
        let unit = |name: &str| file(&format!("/usr/lib/systemd/system/{name}"), "1", None);
        let before = || vec![unit("getty@.service"), unit("a.service")];
        let mut after = before();
        after.extend([
            link("/etc/systemd/system/getty.target.wants/getty@tty2.service", "x"),
            link("/etc/systemd/system/a.service.d/10-x.conf", "/dev/null"),
            file("/etc/systemd/system/gone.service.d/10-x.conf", "2", None),
        ]);
        let found: Vec<_> = between(&side(&[], &[], before()), &side(&[], &[], after))
            .units
            .into_iter()
            .map(|u| (u.name, u.before, u.after))
            .collect();
        let expected = [
            ("a.service", UnitState::Disabled, UnitState::Disabled),
            ("getty@tty2.service", UnitState::Absent, UnitState::Enabled),
        ];
        assert_eq!(found, expected.map(|(name, a, b)| (name.to_owned(), a, b)));
    }

    #[test]
    fn a_file_that_another_package_brings_unchanged_is_no_difference() {
        let before = side(&[], &[], vec![file("/etc/a", "1", Some("a"))]);
        let after = side(&[], &[], vec![file("/etc/a", "1", Some("b"))]);
        assert_eq!(between(&before, &after).files, []);
    }
}
