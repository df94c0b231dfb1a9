//! Copies a release to a folder of another user, who may replace anything in it at any time. So
//! every name is resolved below an open folder, no link is followed, and no existing file is
//! opened.

use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat};
use std::fs::{File, read_dir};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Mode for the owner and the group of both users.
const FOLDER: u32 = 0o770;
const FILE: u32 = 0o660;

fn open_folder(at: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Copies a folder with its files and folders to a new name in `outbox`.
///
/// # Errors
/// If the name exists, or on I/O errors.
pub fn put(from: &Path, outbox: &Path, name: &str) -> io::Result<()> {
    let folder = open_folder(rustix::fs::CWD, outbox)?;
    copy(from, &folder, Path::new(name))
}

fn copy(from: &Path, into: &OwnedFd, name: &Path) -> io::Result<()> {
    mkdirat(into, name, Mode::from_raw_mode(FOLDER))?;
    let folder = open_folder(into, name)?;
    // The umask of the process may have narrowed the mode.
    fchmod(&folder, Mode::from_raw_mode(FOLDER))?;
    for entry in read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &folder, Path::new(&name))?;
            continue;
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, Path::new(&name), flags, Mode::from_raw_mode(FILE))?;
        fchmod(&file, Mode::from_raw_mode(FILE))?;
        let mut file = File::from(file);
        io::copy(&mut File::open(entry.path())?, &mut file)?;
        file.sync_all()?;
    }
    Ok(rustix::fs::fsync(&folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_release_arrives_whole_and_for_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let (from, outbox) = (dir.path().join("from"), dir.path().join("outbox"));
        fs::create_dir_all(from.join("raw")).unwrap();
        fs::create_dir(&outbox).unwrap();
        fs::write(from.join("raw/a"), "content").unwrap();
        put(&from, &outbox, "signing-a").unwrap();
        assert_eq!(fs::read_to_string(outbox.join("signing-a/raw/a")).unwrap(), "content");
        let mode =
            |name: &str| fs::metadata(outbox.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("signing-a"), mode("signing-a/raw"), mode("signing-a/raw/a")),
            (0o770, 0o770, 0o660)
        );
        assert!(put(&from, &outbox, "signing-a").is_err(), "nothing is written over");
    }

    /// The owner of the outbox puts links there that lead to the signing service's own files.
    #[test]
    fn no_link_in_the_outbox_leads_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let (from, outbox, secret) =
            (dir.path().join("from"), dir.path().join("outbox"), dir.path().join("secret"));
        for folder in [&from, &outbox, &secret] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(from.join("policy.toml"), "approvals = 0").unwrap();
        symlink(&secret, outbox.join("signing-a")).unwrap();
        assert!(put(&from, &outbox, "signing-a").is_err());
        symlink(&secret, dir.path().join("link")).unwrap();
        assert!(put(&from, &dir.path().join("link"), "signing-b").is_err());
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
    }
}
