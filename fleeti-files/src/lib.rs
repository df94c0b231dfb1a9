//! Files that survive a power cut. After it, a file has its old content or its new content, and
//! never a part of it.
//!
//! | function | for |
//! |---|---|
//! | [`write_durably`] | the content of a file that may exist |
//! | [`create_durably`] | a file that must not exist yet |
//! | [`rename_durably`] | a file or folder whose content is on the disk already |
//! | [`sync`] | a file or folder that was written in another way |
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("checkpoint");
//! fleeti_files::write_durably(&path, b"older", fleeti_files::PRIVATE)?;
//! fleeti_files::write_durably(&path, b"newer", fleeti_files::PRIVATE)?;
//! assert_eq!(std::fs::read(&path)?, b"newer");
//! # std::io::Result::Ok(())
//! ```

#![warn(missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that every user may read. The umask of the process can narrow it.
pub const PUBLIC: u32 = 0o644;

/// Writes a file. It is first written under another name in the same folder (`.NAME.new`), which
/// replaces what an interrupted write has left there. Two writers of one file must not run at the
/// same time.
///
/// # Errors
/// I/O, also if the folder does not exist. The file then has its old content.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = beside(path)?;
    // On FAT, the entry on disk may still lead to the clusters of the old file after the rename.
    // They are not freed while it is open.
    let _old = File::open(path);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let written = write_new(&new, bytes, mode).and_then(|()| rename_durably(&new, path));
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written
}

/// Creates a file.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`], or other I/O. A file that was written in part is removed.
pub fn create_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let written = write_new(path, bytes, mode).and_then(|()| sync(folder_of(path)));
    if written.as_ref().is_err_and(|e| e.kind() != ErrorKind::AlreadyExists) {
        fs::remove_file(path).ok();
    }
    written
}

/// Renames a file or a folder within its file system. What is in it must be on the disk already.
///
/// # Errors
/// I/O.
pub fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)?;
    sync(folder_of(to))?;
    // On FAT, the new entry leads to the content only after this. The folder is synced first, so
    // that no two entries lead to it.
    sync(to)
}

/// Waits until a file, or the entries of a folder, are on the disk.
///
/// # Errors
/// I/O.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{} has no file name", path.display()))
    })?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    Ok(path.with_file_name(new))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_written_file_has_its_content_and_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for content in ["1", "", "a longer content"] {
            write_durably(&path, content.as_bytes(), PRIVATE).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(mode_of(&path), 0o600);
        }
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn what_an_interrupted_write_left_is_replaced_and_a_link_there_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("a"), folder.path().join(".a.new"));
        fs::write(&new, "a part").unwrap();
        write_durably(&path, b"1", PRIVATE).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "untouched").unwrap();
        symlink(&other, &new).unwrap();
        write_durably(&path, b"2", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_durably(&path, b"old", PRIVATE).unwrap();
        // A folder under the temporary name cannot be removed as a file.
        fs::create_dir(folder.path().join(".a.new")).unwrap();
        write_durably(&path, b"new", PRIVATE).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_durably(&folder.path().join("none/a"), b"x", PRIVATE).unwrap_err();
        write_durably(Path::new("/"), b"x", PRIVATE).unwrap_err();
    }

    #[test]
    fn a_file_that_exists_is_not_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        create_durably(&path, b"1", PRIVATE).unwrap();
        let error = create_durably(&path, b"2", PRIVATE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }

    #[test]
    fn files_and_folders_are_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/f"), "x").unwrap();
        rename_durably(&at("a"), &at("b")).unwrap();
        rename_durably(&at("b/f"), &at("b/g")).unwrap();
        assert_eq!(fs::read(at("b/g")).unwrap(), b"x");
        rename_durably(&at("none"), &at("b")).unwrap_err();
    }
}
