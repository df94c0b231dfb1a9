//! Makes a backup while the server runs.
//!
//! The database first, then the files that it refers to: a published file never changes, so every
//! release in the copied database has its files as they are now. Only the clean-up of old builds can
//! remove some meanwhile; they are listed as left out.

use super::{ARTIFACTS, DATABASE, Entry, FILES, FOLDERS, FORMAT, MANIFEST, Manifest, Omitted};
use super::{SMALL_MAX, is_known};
use crate::config::Config;
use anyhow::{Context, Result, bail};
use fleeti_control::clock::instant;
use fleeti_control::doctor::LastBackup;
use fleeti_store::{Location, beside};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What to put into a backup.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The file, which must not exist, or a folder in which it gets a name by its time.
    pub to: PathBuf,
    /// Whether artifacts of releases and builds are in it.
    pub has_artifacts: bool,
    /// Whether the database is in it.
    pub has_database: bool,
}

/// Makes a backup. Its file has the mode 0600, and appears when it is complete and on the disk.
///
/// # Errors
/// When the database is PostgreSQL, the file exists, there is no room, or I/O fails. Then nothing is
/// left behind.
pub async fn write(config: &Config, wanted: &Wanted) -> Result<(LastBackup, Manifest)> {
    let made_s = config.clock.now_s();
    let to = target(&wanted.to, made_s)?;
    let temporary = Temporary::beside(&to)?;
    let mut manifest = Manifest {
        format: FORMAT,
        made_s,
        version: env!("CARGO_PKG_VERSION").into(),
        migration: None,
        files: vec![],
        omitted: vec![],
    };
    if wanted.has_database {
        let Location::Sqlite(database) = config.database() else {
            bail!(
                "the database is PostgreSQL, which makes its own backups; hint: pg_dump --format=custom NAME > fleeti.dump, and `fleeti-server backup --without-database` for the files"
            );
        };
        let copied = beside::copy(&database, &temporary.database)
            .await
            .with_context(|| database.display().to_string())?;
        manifest.migration = Some(copied.migration);
    }
    let files = files(&config.data, wanted.has_artifacts, &mut manifest.omitted)?;
    has_room(&temporary, &files)?;
    let sha256 = pack(config, &temporary, &files, &mut manifest)?;
    if to.exists() {
        bail!("{} exists; a backup never replaces another one", to.display());
    }
    fleeti_files::rename_durably(&temporary.archive, &to)?;
    let bytes = fs::metadata(&to)?.len();
    let made = LastBackup { made_s, path: to, bytes, sha256 };
    made.write(&config.data).context("backup.json")?;
    Ok((made, manifest))
}

/// The path of the backup.
fn target(to: &Path, made_s: u64) -> Result<PathBuf> {
    let to = if to.is_dir() {
        let at = instant(made_s).replace(':', "");
        to.join(format!("fleeti-{at}.tar"))
    } else {
        to.to_owned()
    };
    if to.exists() {
        bail!("{} exists; a backup never replaces another one", to.display());
    }
    Ok(to)
}

/// Files of a backup that is not complete. They are removed with this value.
struct Temporary {
    archive: PathBuf,
    database: PathBuf,
}

impl Temporary {
    /// Names beside the backup, where nothing is left of an interrupted one.
    fn beside(to: &Path) -> Result<Self> {
        let name = to.file_name().context("the backup has no file name")?.to_string_lossy();
        let folder = to.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("{} is no folder; hint: make it, or name another one", folder.display());
        }
        let beside = |end: &str| folder.join(format!(".{name}.{end}"));
        let temporary = Self { archive: beside("new"), database: beside("db") };
        temporary.remove();
        Ok(temporary)
    }
    fn remove(&self) {
        for path in [&self.archive, &self.database] {
            fs::remove_file(path).ok();
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A file for the backup.
struct Found {
    /// Path within the data folder.
    path: String,
    bytes: u64,
}

/// The files for a backup, and those that are left out.
fn files(data: &Path, has_artifacts: bool, omitted: &mut Vec<Omitted>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for name in FILES {
        if let Ok(metadata) = fs::metadata(data.join(name)) {
            found.push(Found { path: name.into(), bytes: metadata.len() });
        }
    }
    let folders = FOLDERS.iter().map(|f| (f, false)).chain(ARTIFACTS.iter().map(|f| (f, true)));
    for (folder, is_of_artifacts) in folders {
        let mut all = Vec::new();
        walk(data, &data.join(folder), &mut all, omitted)?;
        for file in all {
            if is_of_artifacts && !has_artifacts && file.bytes > SMALL_MAX {
                let why = "without artifacts".to_owned();
                omitted.push(Omitted { path: file.path, bytes: file.bytes, why });
            } else {
                found.push(file);
            }
        }
    }
    Ok(found)
}

/// The regular files below a folder, ordered by path. Names that begin with a dot are unfinished.
fn walk(
    data: &Path,
    folder: &Path,
    found: &mut Vec<Found>,
    omitted: &mut Vec<Omitted>,
) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut paths: Vec<_> = entries.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path)?;
        let Some(name) = path.strip_prefix(data)?.to_str().map(str::to_owned) else {
            bail!("{}: the name is not UTF-8", path.display());
        };
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        if metadata.is_dir() {
            walk(data, &path, found, omitted)?;
        } else if metadata.is_file() && is_known(&name) {
            found.push(Found { path: name, bytes: metadata.len() });
        } else {
            let why = "no regular file".to_owned();
            omitted.push(Omitted { path: name, bytes: 0, why });
        }
    }
    Ok(())
}

/// Refuses to begin what the disk cannot hold.
fn has_room(temporary: &Temporary, files: &[Found]) -> Result<()> {
    let folder = temporary.archive.parent().unwrap_or(Path::new("."));
    let room = rustix::fs::statvfs(folder)?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let database = fs::metadata(&temporary.database).map_or(0, |m| m.len());
    let needed = files.iter().map(|file| file.bytes + 1024).sum::<u64>() + database;
    if needed > free {
        bail!(
            "{}: the backup needs {} MiB, {} MiB are free; hint: --without-artifacts",
            folder.display(),
            needed >> 20,
            free >> 20
        );
    }
    Ok(())
}

/// Writes the tar file. Returns its SHA-256.
fn pack(
    config: &Config,
    temporary: &Temporary,
    files: &[Found],
    manifest: &mut Manifest,
) -> Result<String> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(fleeti_files::PRIVATE)
        .open(&temporary.archive)
        .with_context(|| temporary.archive.display().to_string())?;
    let writer = Hashing { to: BufWriter::with_capacity(256 << 10, file), sha256: Sha256::new() };
    let mut archive = tar::Builder::new(writer);
    for file in files {
        let path = config.data.join(&file.path);
        match File::open(&path) {
            Ok(opened) => manifest.files.push(append(&mut archive, &file.path, opened)?),
            // The clean-up of builds was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let why = "removed meanwhile".to_owned();
                manifest.omitted.push(Omitted { path: file.path.clone(), bytes: file.bytes, why });
            }
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        }
    }
    if manifest.migration.is_some() {
        let database = File::open(&temporary.database)?;
        manifest.files.push(append(&mut archive, DATABASE, database)?);
    }
    let list = serde_json::to_vec_pretty(&manifest)?;
    let mut header = header(list.len() as u64, manifest.made_s);
    archive.append_data(&mut header, MANIFEST, list.as_slice())?;
    let Hashing { mut to, sha256 } = archive.into_inner()?;
    to.flush()?;
    to.get_ref().sync_all()?;
    Ok(hex::encode(sha256.finalize()))
}

fn header(bytes: u64, at_s: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(fleeti_files::PRIVATE);
    header.set_mtime(at_s);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// Adds a file. It must not become shorter meanwhile; what is added to it is not taken.
fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, file: File) -> Result<Entry> {
    let metadata = file.metadata()?;
    let bytes = metadata.len();
    let at_s = u64::try_from(metadata.mtime()).unwrap_or_default();
    let mut reader = Digesting { from: file.take(bytes), sha256: Sha256::new(), read: 0 };
    archive.append_data(&mut header(bytes, at_s), path, &mut reader)?;
    if reader.read != bytes {
        bail!("{path} became shorter while it was copied; repeat the backup");
    }
    Ok(Entry { path: path.into(), bytes, sha256: hex::encode(reader.sha256.finalize()) })
}

/// A writer that computes the SHA-256 of what passes.
struct Hashing<W> {
    to: W,
    sha256: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A reader that computes the SHA-256 of what passes.
pub(super) struct Digesting<R> {
    pub(super) from: R,
    pub(super) sha256: Sha256,
    pub(super) read: u64,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.sha256.update(&into[..read]);
        self.read += read as u64;
        Ok(read)
    }
}
