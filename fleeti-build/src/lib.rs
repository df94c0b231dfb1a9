//! From a profile to an image: lock, Nix, signed release, personalised disk.
//!
//! ```
//! use fleeti_build::build::{BuildRecord, stages};
//! // What a build's log shows is going on, for whoever watches it.
//! assert_eq!(stages("resolving packages\nevaluating\n"), ["resolving packages", "evaluating"]);
//! // A directory that is no build says so.
//! let error = BuildRecord::read(std::path::Path::new("/nonexistent")).unwrap_err();
//! assert!(error.to_string().contains("/nonexistent/build.json"));
//! ```
//!
//! Code map: [`lock`] and [`cache`] (which packages, exactly) · [`base`] (the seam between bases and the
//! Debian base) · [`overlay`] (what a profile adds to a base, as files) · [`runner`] (the one trait that
//! touches Nix) · [`build`] (from a profile to a build) · [`record`]
//! (what a build says of itself) · [`compare`] and [`compare_release`] (somebody else's build or release beside one's own) ·
//! [`release`] (signing and the release
//! directory) · [`disk`] (Authenticode and the ESP of one device's disk).

#![warn(missing_docs)]

pub mod base;
pub mod build;
pub mod cache;
pub mod compare;
pub mod compare_release;
pub mod disk;
mod fetch;
pub mod lock;
pub mod overlay;
pub mod package;
pub mod pieces;
pub mod record;

pub mod release;
pub mod runner;

use std::io::Write;
use std::path::Path;

/// Writes a file so that a crash leaves the old content or the new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
