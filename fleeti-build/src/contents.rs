//! Every file of an image, as its build lists them in `contents.json`.

mod difference;

pub use difference::{
    AccountChange, Difference, FileChange, PackageChange, State, UnitChange, UnitState,
};

use crate::error::{BuildError, io};
use crate::file::read_at_most;
use crate::lock::Lock;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file in a directory of a build.
pub const FILE: &str = "contents.json";
/// Largest list that is read, bytes: about 300,000 files.
const CONTENTS_MAX: u64 = 64 << 20;
/// What belongs to no package: files of the profile, of Fleeti, and those that scripts made.
pub const NO_PACKAGE: &str = "(no package)";

/// The root file system of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Ids of users, by name.
    #[serde(deserialize_with = "strict::unique")]
    pub users: BTreeMap<String, u32>,
    /// Ids of groups, by name.
    #[serde(deserialize_with = "strict::unique")]
    pub groups: BTreeMap<String, u32>,
    /// Every path, sorted by its parts.
    pub files: Vec<Entry>,
}

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Absolute path.
    pub path: String,
    /// Kind of the file.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Id of the owner.
    pub uid: u32,
    /// Id of the group.
    pub gid: u32,
    /// Bytes of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest of a regular file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The package that brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}

/// What a package adds to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Name of the package, or [`NO_PACKAGE`].
    pub package: String,
    /// Number of files and links.
    pub files: usize,
    /// Bytes of the files, not compressed.
    pub bytes: u64,
}

impl Entry {
    /// Whether it runs with the rights of its owner or group.
    #[must_use]
    pub fn is_setuid(&self) -> bool {
        self.kind == Kind::File && self.mode & 0o6000 != 0
    }
}

impl Contents {
    /// Reads the list of a build.
    ///
    /// # Errors
    /// [`BuildError::Io`]; [`BuildError::Malformed`].
    pub fn read(build: &Path) -> Result<Self, BuildError> {
        let path = build.join(FILE);
        let text = read_at_most(&path, CONTENTS_MAX).map_err(io(&path))?;
        strict::from_slice(&text).map_err(|source| BuildError::Malformed { path, source })
    }

    /// The share of each package, largest first.
    #[must_use]
    pub fn by_package(&self) -> Vec<Share> {
        let mut found: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for entry in self.files.iter().filter(|entry| entry.kind != Kind::Directory) {
            let share = found.entry(entry.package.as_deref().unwrap_or(NO_PACKAGE)).or_default();
            *share = (share.0 + 1, share.1 + entry.size.unwrap_or_default());
        }
        let mut shares: Vec<_> = found
            .into_iter()
            .map(|(package, (files, bytes))| Share { package: package.to_owned(), files, bytes })
            .collect();
        shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.package.cmp(&b.package)));
        shares
    }

    /// Programs that run with the rights of their owner or group.
    pub fn setuid(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|entry| entry.is_setuid())
    }
}

/// Compares two builds: packages, units, users, groups, files and size.
///
/// # Errors
/// As [`Contents::read`]; [`BuildError::Lock`] for a directory without a valid `lock.json`.
pub fn compare(before: &Path, after: &Path) -> Result<Difference, BuildError> {
    let side = |build: &Path| -> Result<difference::Side, BuildError> {
        let lock = Lock::read(&build.join("lock.json"))?;
        let image = build.join("root.erofs");
        let size = std::fs::metadata(&image).map_err(io(&image))?.len();
        Ok(difference::Side::new(Contents::read(build)?, &lock, size))
    };
    Ok(difference::between(&side(before)?, &side(after)?))
}
