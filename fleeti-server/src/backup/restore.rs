//! Restores a backup into an empty data folder.
//!
//! The file is read twice: first everything in it is verified, then unpacked and verified again. The
//! server makes up for what is newer than the backup when it starts:
//! [`fleeti_control::restored`].

use super::write::Digesting;
use super::{DATABASE, Entry, FORMAT, INCOMPLETE, MANIFEST, Manifest, is_known};
use anyhow::{Context, Result, bail, ensure};
use fleeti_control::restored::Restored;
use fleeti_core::strict;
use fleeti_store::beside;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Largest list of a backup, bytes.
const MANIFEST_MAX: u64 = 256 << 20;

/// Restores a backup. As root, the files belong to the owner of the data folder.
///
/// # Errors
/// When the folder is not empty, or the backup is damaged, incomplete, of a newer version, or
/// contains what no backup contains. Before the whole backup is verified nothing is written.
pub fn restore(from: &Path, data: &Path, now_s: u64) -> Result<Manifest> {
    ensure!(
        is_empty(data)?,
        "{} is not empty; hint: move what is in it away, or name another folder",
        data.display()
    );
    let manifest = verify(from).with_context(|| from.display().to_string())?;
    DirBuilder::new().recursive(true).mode(0o710).create(data)?;
    let owner = fs::metadata(data)?;
    let own = |path: &Path| match rustix::process::geteuid().is_root() {
        true => chown(path, Some(owner.uid()), Some(owner.gid())),
        false => Ok(()),
    };
    let mark = data.join(INCOMPLETE);
    fleeti_files::create_durably(&mark, b"", fleeti_files::PRIVATE)?;
    unpack_all(from, data, &manifest, &own)?;
    // Without a database as well: it is restored by other means, from the same time.
    let restored = Restored { made_s: manifest.made_s, restored_s: now_s };
    own(&restored.write(data)?)?;
    fs::remove_file(&mark)?;
    fleeti_files::sync(data)?;
    Ok(manifest)
}

/// Unpacks a backup that was verified, and verifies it again: it may have changed since.
pub(super) fn unpack_all(
    from: &Path,
    data: &Path,
    manifest: &Manifest,
    own: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<()> {
    let mut verified = manifest.files.iter();
    each(from, |path, reader| {
        if path != MANIFEST {
            let unpacked = unpack(data, path, reader, own)?;
            ensure!(verified.next() == Some(&unpacked), "{path} is not what was verified");
        }
        Ok(())
    })?;
    ensure!(verified.next().is_none(), "{} became shorter meanwhile", from.display());
    Ok(())
}

fn is_empty(data: &Path) -> Result<bool> {
    match fs::read_dir(data) {
        // The package makes an empty folder `pki`. No link: what is unpacked would leave the folder.
        Ok(mut entries) => Ok(entries.all(|entry| {
            entry.is_ok_and(|entry| {
                entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && fs::read_dir(entry.path()).is_ok_and(|mut below| below.next().is_none())
            })
        })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e).with_context(|| data.display().to_string()),
    }
}

/// Refuses a folder whose restore was interrupted.
///
/// # Errors
/// Says what to do.
pub fn check_complete(data: &Path) -> Result<()> {
    ensure!(
        !data.join(INCOMPLETE).exists(),
        "a restore into {} was interrupted; hint: empty the folder and repeat `fleeti-server restore`",
        data.display()
    );
    Ok(())
}

/// Verifies a whole backup.
pub(super) fn verify(from: &Path) -> Result<Manifest> {
    let (mut found, mut manifest) = (Vec::new(), None);
    let mut names = HashSet::new();
    each(from, |path, reader| {
        ensure!(manifest.is_none(), "{path} follows the list at the end");
        if path == MANIFEST {
            let mut list = Vec::new();
            reader.take(MANIFEST_MAX).read_to_end(&mut list)?;
            manifest = Some(read(&list)?);
        } else {
            ensure!(is_known(path), "{path:?} does not belong in a backup");
            ensure!(names.insert(path.to_owned()), "it contains {path} twice");
            found.push(copy(path, reader, &mut io::sink())?);
        }
        Ok(())
    })?;
    let manifest =
        manifest.context("the list at its end is missing: it was not written completely")?;
    for (number, entry) in manifest.files.iter().enumerate() {
        match found.get(number) {
            None => bail!("{} is missing", entry.path),
            Some(other) if other != entry => {
                bail!("{} is damaged: it is not the file that the list describes", other.path)
            }
            Some(_) => {}
        }
    }
    ensure!(found.len() == manifest.files.len(), "it contains files that its list lacks");
    let has_database = found.iter().any(|entry| entry.path == DATABASE);
    ensure!(has_database == manifest.migration.is_some(), "its list contradicts its database");
    Ok(manifest)
}

fn read(list: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = strict::from_slice(list).context(MANIFEST)?;
    ensure!(
        manifest.format == FORMAT,
        "its format is {}, this program reads {FORMAT}",
        manifest.format
    );
    let known = beside::newest_migration();
    if let Some(migration) = manifest.migration.filter(|migration| *migration > known) {
        bail!(
            "its database has migration {migration}, this program knows {known}; hint: restore with fleeti-server {} or newer",
            manifest.version
        );
    }
    Ok(manifest)
}

/// Calls a function for each file of a backup.
fn each(from: &Path, mut act: impl FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(256 << 10, File::open(from)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .ok()
            .context("the name of a file is not UTF-8")?;
        ensure!(entry.header().entry_type().is_file(), "{path:?} is no regular file");
        act(&path, &mut entry)?;
    }
    Ok(())
}

/// Copies a file, and returns what was copied.
fn copy(path: &str, reader: &mut dyn Read, to: &mut dyn Write) -> Result<Entry> {
    let mut reader = Digesting { from: reader, sha256: Sha256::new(), read: 0 };
    io::copy(&mut reader, to)?;
    let sha256 = hex::encode(reader.sha256.finalize());
    Ok(Entry { path: path.into(), bytes: reader.read, sha256 })
}

/// Writes one file, and the folders above it.
fn unpack(
    data: &Path,
    path: &str,
    reader: &mut dyn Read,
    own: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<Entry> {
    ensure!(is_known(path), "{path:?} does not belong in a backup");
    let to: PathBuf = data.join(path);
    let above: Vec<_> = Path::new(path).ancestors().skip(1).collect();
    for folder in above.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        let folder = data.join(folder);
        if !folder.exists() {
            DirBuilder::new().mode(0o750).create(&folder)?;
            own(&folder)?;
        }
    }
    let mode = if path.starts_with("releases/") { 0o640 } else { fleeti_files::PRIVATE };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&to)
        .with_context(|| to.display().to_string())?;
    let entry = copy(path, reader, &mut file)?;
    file.sync_all()?;
    own(&to)?;
    fleeti_files::sync(to.parent().unwrap_or(data))?;
    Ok(entry)
}
