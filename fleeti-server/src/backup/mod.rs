//! Backups of a server: one tar file that [`write`](write::write) makes beside the running server,
//! and that [`restore`](restore::restore) unpacks into an empty data folder.
//!
//! What is in it is a list of what is known, not everything that is found: a backup never contains
//! the keys or the passphrase of the signing service, which has its own.

pub mod manifest;
pub mod restore;
pub mod write;

pub use manifest::{Entry, FORMAT, MANIFEST, Manifest, Omitted};

use std::path::{Component, Path};

/// The database in a backup and, by default, in the data folder.
pub const DATABASE: &str = "fleeti.db";
/// Exists while a restore is incomplete. No server starts on such a folder.
pub const INCOMPLETE: &str = "restore-incomplete";
/// Single files of the data folder.
const FILES: [&str; 2] = ["admin.token", "accounts.key"];
/// Folders that are small and always in a backup.
const FOLDERS: [&str; 3] = ["pki/public", "pki/tpm-manufacturers", "pki/admin"];
/// Folders with artifacts.
const ARTIFACTS: [&str; 2] = ["releases", "builds"];
/// Without artifacts, larger files of these folders are left out, bytes. Manifests, locks and
/// records of builds are smaller.
const SMALL_MAX: u64 = 1 << 20;

/// Whether a path is one that a backup may contain: nothing in it leads elsewhere.
fn is_known(path: &str) -> bool {
    let path = Path::new(path);
    let is_plain = path.components().all(
        |part| matches!(part, Component::Normal(name) if !name.to_string_lossy().starts_with('.')),
    );
    let is_below = |folder: &&str| path.starts_with(folder) && path != Path::new(folder);
    let is_file = path == Path::new(DATABASE) || FILES.iter().any(|file| path == Path::new(file));
    is_plain && (is_file || FOLDERS.iter().chain(&ARTIFACTS).any(is_below))
}

#[cfg(test)]
mod tests;
