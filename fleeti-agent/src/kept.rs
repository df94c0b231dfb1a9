//! State files on the data partition. All are read here. A file that does not parse is set aside
//! and reported, and never stops the agent: a device that lost its state must still be reachable.
//!
//! State that a trust anchor of the image verifies (the root, the audit log's key) is named after
//! that anchor. An image with another anchor starts a file of its own, and the previous image finds
//! its file when the device rolls back.

use crate::write_durably;
use anyhow::{Context, Result};
use fleeti_core::strict;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Maximum size of a file, bytes.
pub const BYTES_MAX: u64 = 1 << 20;
/// Maximum length of a reason, characters.
const REASON_MAX: usize = 300;
/// Maximum number of reasons in one report.
const REASONS_MAX: usize = 16;

/// The content of a file, parsed by `parse`; `None` if there is no file, or an unusable one. That
/// one is set aside.
pub fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T>) -> Option<T> {
    match bytes(path).and_then(|bytes| bytes.map(|b| parse(&b)).transpose()) {
        Ok(found) => found,
        Err(e) => {
            set_aside(path, &format!("{e:#}"));
            None
        }
    }
}

fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= BYTES_MAX, "it has more than {BYTES_MAX} bytes");
    Ok(Some(bytes))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Renames a file to `NAME.broken` and stores the reason. An earlier file of that name is replaced.
pub fn set_aside(path: &Path, reason: &str) {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    tracing::error!("{}: {reason}; the file is set aside", path.display());
    let broken = beside(path, ".broken");
    // A folder in place of a file is set aside as well.
    fs::remove_file(&broken).or_else(|_| fs::remove_dir_all(&broken)).ok();
    if let Err(e) = fs::rename(path, &broken) {
        tracing::error!("{}: {e}", broken.display());
    }
    if let Err(e) = write_durably(&beside(path, ".why"), reason.as_bytes()) {
        tracing::error!("{}: {e}", path.display());
    }
}

/// Files in a folder that were set aside and are not reported yet, with reasons.
#[must_use]
pub fn unreported(folder: &Path) -> Vec<String> {
    reasons(folder)
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let reason = bytes(&path).ok().flatten().unwrap_or_default();
            format!(
                "{name} could not be used and was set aside: {}",
                String::from_utf8_lossy(&reason)
            )
        })
        .collect()
}

/// Marks the files in a folder as reported.
pub fn reported(folder: &Path) {
    for path in reasons(folder) {
        fs::remove_file(path).ok();
    }
}

fn reasons(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut paths: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "why")).take(REASONS_MAX).collect();
    paths.sort();
    paths
}

/// Parses JSON, for [`read`].
///
/// # Errors
/// If it is not JSON of this type.
pub fn json<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) -> Result<T> {
    strict::from_slice(bytes).context("not JSON of this type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Pair {
        a: u8,
        b: Option<u8>,
    }

    #[test]
    fn a_list_is_no_struct() {
        assert_eq!(json::<Pair>(b"{\"a\": 1, \"b\": null}").unwrap(), Pair { a: 1, b: None });
        for bad in ["[1, null]", "[{\"a\": 1}]", "{\"a\": 1, \"a\": 2}"] {
            assert!(json::<Pair>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_parse_is_set_aside_and_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("update.json");
        assert_eq!(read::<u8>(&path, json), None);
        assert!(unreported(dir.path()).is_empty(), "there was nothing");
        fs::write(&path, "7").unwrap();
        assert_eq!(read::<u8>(&path, json), Some(7));
        for bad in
            [&b"{\"a"[..], b"", &[0; 4096], &vec![b' '; usize::try_from(BYTES_MAX).unwrap() + 1]]
        {
            fs::write(&path, bad).unwrap();
            assert_eq!(read::<u8>(&path, json), None);
            assert_eq!(read::<u8>(&path, json), None, "it is gone the second time");
            let said = unreported(dir.path());
            assert!(
                said.len() == 1 && said[0].starts_with("update.json could not be used"),
                "{said:?}"
            );
            assert_eq!(fs::read(dir.path().join("update.json.broken")).unwrap(), bad);
            reported(dir.path());
            assert!(unreported(dir.path()).is_empty());
        }
        // A folder in its place.
        fs::create_dir_all(path.join("x")).unwrap();
        assert_eq!(read::<u8>(&path, json), None);
        write_durably(&path, b"8").unwrap();
        assert_eq!(read::<u8>(&path, json), Some(8));
    }
}
