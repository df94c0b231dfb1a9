//! The list at the end of a backup.

use serde::{Deserialize, Serialize};

/// Name of the list in the tar file. It is the last entry.
pub const MANIFEST: &str = "manifest.json";
/// Version of the format.
pub const FORMAT: u32 = 1;

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Time of the database in it, Unix seconds. It is older than all files.
    pub made_s: u64,
    /// Version of the program that made it.
    pub version: String,
    /// Number of the last migration of the database; absent without a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<i64>,
    /// Its files, in the order of the tar file.
    pub files: Vec<Entry>,
    /// Files that were left out.
    #[serde(default)]
    pub omitted: Vec<Omitted>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path within the data folder.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file that is not in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omitted {
    /// Path within the data folder.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Why.
    pub why: String,
}
