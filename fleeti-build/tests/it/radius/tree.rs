//! What a built image has, read from its files and from nothing that knows the profile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: char,
    pub mode: u32,
    /// Owner and group by name: a number can belong to another name in another tree.
    pub owner: (String, String),
    /// Content of a file, or where a link leads.
    pub text: String,
}

/// Everything that is compared of an image.
#[derive(Debug, Default)]
pub struct Built {
    pub entries: BTreeMap<String, Entry>,
    pub command_line: String,
    pub packages: BTreeSet<String>,
    /// Digests of what PCRs measure, by their number.
    pub measured: BTreeMap<u8, String>,
}

type Raw = BTreeMap<String, (char, u32, u32, u32, String)>;

/// A tree that `trees.py` listed.
pub fn listed(path: &Path) -> BTreeMap<String, Entry> {
    of_raw(serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

/// Folders whose files are text that is compared line by line.
const TEXTS: &[&str] = &[
    "etc/",
    "usr/lib/systemd/",
    "usr/lib/fleeti/",
    "usr/lib/sysctl.d/",
    "usr/lib/modprobe.d/",
    "usr/lib/modules-load.d/",
    "usr/lib/tmpfiles.d/",
];

/// The tree of an unpacked image.
pub fn unpacked(root: &Path) -> BTreeMap<String, Entry> {
    let mut raw = Raw::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let found = fs::symlink_metadata(&path).unwrap();
            let (kind, text) = if found.is_symlink() {
                ('l', fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else if found.is_dir() {
                folders.push(path);
                ('d', String::new())
            } else if TEXTS.iter().any(|folder| name.starts_with(folder)) {
                ('f', String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())
            } else {
                ('f', fleeti_build::file::sha256_file(&path).unwrap())
            };
            raw.insert(name, (kind, found.mode() & 0o7777, found.uid(), found.gid(), text));
        }
    }
    of_raw(raw)
}

fn of_raw(raw: Raw) -> BTreeMap<String, Entry> {
    let names = |table: &str| -> BTreeMap<u32, String> {
        let rows = raw.get(table).map(|entry| entry.4.as_str()).unwrap_or_default();
        let row = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            Some((fields.get(2)?.parse().ok()?, (*fields.first()?).to_owned()))
        };
        rows.lines().filter_map(row).collect()
    };
    let (users, groups) = (names("etc/passwd"), names("etc/group"));
    let name = |names: &BTreeMap<u32, String>, number: u32| {
        names.get(&number).cloned().unwrap_or_else(|| number.to_string())
    };
    raw.iter()
        .map(|(path, (kind, mode, uid, gid, text))| {
            let owner = (name(&users, *uid), name(&groups, *gid));
            (path.clone(), Entry { kind: *kind, mode: *mode, owner, text: text.clone() })
        })
        .collect()
}

impl Built {
    pub fn text(&self, path: &str) -> &str {
        self.entries.get(path).map(|entry| entry.text.as_str()).unwrap_or_default()
    }

    /// Paths in a folder that end in a suffix: name without both, and text.
    pub fn each(&self, folder: &str, suffix: &str) -> Vec<(&str, &str)> {
        self.entries
            .iter()
            .filter_map(|(path, entry)| {
                let name = path.strip_prefix(folder)?.strip_suffix(suffix)?;
                let is_there = entry.kind != 'd' && !name.contains('/');
                is_there.then_some((name, entry.text.as_str()))
            })
            .collect()
    }
}
