//! Compares another party's build with one's own.
//!
//! [`Own`] is made on this machine from the caller's own profile, lock, agent and trust directory.
//! Nothing that the other party recorded decides what is built. Everything that boots is then
//! compared byte for byte: the root file system and its dm-verity tree, the headers and every
//! section of the UKI, the boot loader, the partitions of the disk, and every field of `build.json`
//! and of the manifest. A release may differ only by what its keys add: signatures and `.pcrsig`.

use crate::build::{self, Request};
use crate::cache::Cache;
use crate::disk;
use crate::error::{BuildError, io};
use crate::file::{open_plain, read_at_most, sha256_file};
use crate::lock::Lock;
use crate::pieces::{Difference, first_difference, of_binaries, of_bytes};
use crate::record::BuildRecord;
use crate::runner::{RunError, Runner};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Size of the blocks that are compared, bytes.
const CHUNK: usize = 1 << 20;

/// The caller's own build.
#[derive(Debug)]
pub struct Own {
    /// Directory of the build.
    pub directory: PathBuf,
    /// Record of the build; trustworthy, because the caller just made it.
    pub record: BuildRecord,
    /// The caller's `openpgp.gpg`, which verifies the signature of `SHA256SUMS`.
    pub openpgp: Vec<u8>,
    /// Names of the steps that Nix ran for this build. Nix had the others in its store.
    built: Vec<String>,
    /// Temporary directory, removed when the value is dropped.
    _folder: Option<tempfile::TempDir>,
}

/// Result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Differences that must not exist.
    pub differences: Vec<Difference>,
    /// Differences that are permitted between machines, for example the version of Nix.
    pub remarks: Vec<Difference>,
}

impl Own {
    /// Builds from the caller's inputs. Ignores `request.out`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn make(
        request: &Request,
        cache: &Cache,
        line: &mut dyn FnMut(&str),
    ) -> Result<Self, BuildError> {
        Self::make_with(request, cache, build::nix, line)
    }

    /// As [`Own::make`], with the runner that `runner` makes for the directory of the build.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn make_with<R: Runner>(
        request: &Request,
        cache: &Cache,
        runner: impl FnOnce(&Path) -> R,
        line: &mut dyn FnMut(&str),
    ) -> Result<Self, BuildError> {
        std::fs::create_dir_all(cache.root()).map_err(io(cache.root()))?;
        let folder = tempfile::Builder::new()
            .prefix("own-")
            .tempdir_in(cache.root())
            .map_err(io(cache.root()))?;
        let request = Request { out: folder.path().to_owned(), ..request.clone() };
        let mut built = Vec::new();
        let record = build::run_with(&request, cache, runner, &mut |text| {
            built.extend(
                text.strip_prefix("building '")
                    .and_then(|rest| rest.split('\'').next())
                    .map(str::to_owned),
            );
            line(text);
        })?;
        let keyring = request.trust.join("openpgp.gpg");
        let openpgp = std::fs::read(&keyring).map_err(io(&keyring))?;
        Ok(Self {
            directory: folder.path().to_owned(),
            record,
            openpgp,
            built,
            _folder: Some(folder),
        })
    }

    /// A build that the caller made before.
    ///
    /// # Errors
    /// [`BuildError`] if the directory has no record.
    pub fn at(directory: &Path, openpgp: Vec<u8>) -> Result<Self, BuildError> {
        let record = BuildRecord::read(directory)?;
        Ok(Self { directory: directory.to_owned(), record, openpgp, built: vec![], _folder: None })
    }

    /// Builds the steps again that Nix already had in its store, and compares the outputs.
    ///
    /// # Errors
    /// [`BuildError::Run`] if a step fails.
    pub fn rebuild(&self, line: &mut dyn FnMut(&str)) -> Result<Vec<Difference>, BuildError> {
        self.rebuild_with(&build::nix(&self.directory), line)
    }

    /// As [`Own::rebuild`], with this runner.
    ///
    /// # Errors
    /// [`BuildError::Run`] if a step fails.
    pub fn rebuild_with(
        &self,
        runner: &dyn Runner,
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<Difference>, BuildError> {
        let mut differences = Vec::new();
        for (name, step) in &self.record.derivations {
            if self.built.iter().any(|path| Path::new(path) == step.derivation) {
                continue;
            }
            line(&format!("rebuilding {name}"));
            match runner.realise(std::slice::from_ref(&step.derivation), true, line) {
                Ok(_) => {}
                Err(RunError::Failed { tail, .. }) if tail.contains("may not be deterministic") => {
                    let detail = rebuilt_difference(&step.output).unwrap_or(tail);
                    differences.push(Difference::new(&format!("step {name}"), None, detail));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(differences)
    }
}

/// Nix keeps the different output beside the first one, with `.check` at the end of its name.
fn rebuilt_difference(output: &Path) -> Option<String> {
    let other = PathBuf::from(format!("{}.check", output.display()));
    let mut names: Vec<_> = std::fs::read_dir(output).map_or_else(
        |_| vec![PathBuf::new()],
        |entries| entries.flatten().map(|e| e.file_name().into()).collect(),
    );
    names.sort();
    names.iter().find_map(|name| {
        let (one, two) = (output.join(name), other.join(name));
        let (one, two) = if name.as_os_str().is_empty() {
            (output.to_owned(), other.clone())
        } else {
            (one, two)
        };
        let at =
            first_difference(File::open(&one).ok()?, File::open(&two).ok()?, u64::MAX).ok()??;
        Some(format!("{} is not reproducible: first differs at byte {at}", one.display()))
    })
}

/// Compares another party's build directory with one's own build.
///
/// # Errors
/// I/O errors of one's own build. Files of the other build that cannot be read are differences.
pub fn with_build(own: &Own, directory: &Path) -> Result<Comparison, BuildError> {
    let mut found = Comparison::default();
    match BuildRecord::read(directory) {
        Ok(record) => records(&own.record, &record, &mut found),
        Err(e) => found.differences.push(Difference::new("build.json", None, e.to_string())),
    }
    for name in own.record.files.keys() {
        let (mine, theirs) = (own.directory.join(name), directory.join(name));
        match name.as_str() {
            binary if binary.ends_with(".efi") => {
                let mine = std::fs::read(&mine).map_err(io(&mine))?;
                match read_plain(&theirs, mine.len() as u64 * 2 + (1 << 20)) {
                    Ok(theirs) => found.differences.extend(of_binaries(binary, &mine, &theirs)),
                    Err(e) => found.differences.push(Difference::new(binary, None, e)),
                }
            }
            image if image.ends_with(".raw") => {
                found.differences.extend(disks(image, &mine, &theirs)?)
            }
            file => found.differences.extend(files(file, &mine, &theirs)?),
        }
    }
    match Lock::read(&directory.join("lock.json")) {
        Ok(lock) if lock.digest() == own.record.inputs.lock_digest => {}
        Ok(lock) => {
            let detail = format!(
                "has SHA-256 {}, your lock has {}",
                lock.digest(),
                own.record.inputs.lock_digest
            );
            found.differences.push(Difference::new("lock.json", None, detail));
        }
        Err(e) => found.differences.push(Difference::new("lock.json", None, e.to_string())),
    }
    Ok(found)
}

/// Compares the record of another party's build with one's own build: every field, and by the
/// digests every byte of every file.
///
/// # Errors
/// I/O errors of one's own build.
pub fn with_record(own: &Own, record: &BuildRecord) -> Result<Comparison, BuildError> {
    let mut found = Comparison::default();
    records(&own.record, record, &mut found);
    // One's own record counts only if the files beside it match it.
    found.differences.extend(changed_files(own)?);
    Ok(found)
}

/// Compares the records of two builds, field by field.
pub fn records(own: &BuildRecord, other: &BuildRecord, found: &mut Comparison) {
    let fields = fields_of("build.json", own, other);
    // The tools may differ between machines; what was built must not.
    let (remarks, differences): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|d| d.part.as_deref() == Some("nix_version"));
    found.differences.extend(differences);
    found.remarks.extend(remarks);
}

/// Files of one's own build that no longer match its record.
///
/// # Errors
/// I/O errors.
pub fn changed_files(own: &Own) -> Result<Vec<Difference>, BuildError> {
    let mut differences = Vec::new();
    for (name, file) in &own.record.files {
        let path = own.directory.join(name);
        let found = sha256_file(&path).map_err(io(&path))?;
        if found != file.sha256 {
            differences.push(Difference::new(
                name.as_str(),
                None,
                format!("of your own build has SHA-256 {found}, its record has {}", file.sha256),
            ));
        }
    }
    Ok(differences)
}

/// Compares every field of two documents.
pub(crate) fn fields_of<T: serde::Serialize>(file: &str, own: &T, other: &T) -> Vec<Difference> {
    let flat = |document: &T| {
        let mut fields = BTreeMap::new();
        flatten(&serde_json::to_value(document).unwrap_or_default(), String::new(), &mut fields);
        fields
    };
    let (own, other) = (flat(own), flat(other));
    let mut differences = Vec::new();
    for (path, value) in &own {
        match other.get(path) {
            Some(said) if said == value => {}
            Some(said) => differences.push(Difference::new(
                file,
                Some(path),
                format!("is {said}, your build has {value}"),
            )),
            None => differences.push(Difference::new(
                file,
                Some(path),
                format!("is missing, your build has {value}"),
            )),
        }
    }
    let more = other.iter().filter(|(path, _)| !own.contains_key(*path));
    differences.extend(more.map(|(path, said)| {
        Difference::new(file, Some(path), format!("is {said}, your build has no such field"))
    }));
    differences
}

fn flatten(value: &Value, at: String, fields: &mut BTreeMap<String, String>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| flatten(value, below(name), fields))
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                // Artifacts are compared by their paths, because their order does not matter.
                let name = value["path"].as_str().map_or_else(|| i.to_string(), str::to_owned);
                flatten(value, format!("{at}[{name}]"), fields);
            }
        }
        Value::String(text) => drop(fields.insert(at, text.clone())),
        other => drop(fields.insert(at, other.to_string())),
    }
}

/// Reads a file of another party, if it has at most `max` bytes.
pub(crate) fn read_plain(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    read_at_most(path, max).map_err(|e| format!("cannot be read: {e}"))
}

/// Compares two files of any size.
pub(crate) fn files(
    name: &str,
    own: &Path,
    other: &Path,
) -> Result<Option<Difference>, BuildError> {
    let mine = File::open(own).map_err(io(own))?;
    let length = mine.metadata().map_err(io(own))?.len();
    let theirs = match open_plain(other) {
        Ok(file) => file,
        Err(e) => return Ok(Some(Difference::new(name, None, format!("cannot be read: {e}")))),
    };
    let Some(at) = first_difference(mine, theirs, u64::MAX).map_err(io(other))? else {
        return Ok(None);
    };
    let (mine, theirs) =
        (sha256_file(own).map_err(io(own))?, sha256_file(other).map_err(io(other))?);
    let detail = format!(
        "first differs at byte {at} (your file has {length} bytes); SHA-256 is {theirs}, yours is {mine}"
    );
    Ok(Some(Difference::new(name, None, detail)))
}

/// Compares two disks, partition by partition.
fn disks(name: &str, own: &Path, other: &Path) -> Result<Vec<Difference>, BuildError> {
    let mut mine = File::open(own).map_err(io(own))?;
    let mut theirs = match open_plain(other) {
        Ok(file) => file,
        Err(e) => return Ok(vec![Difference::new(name, None, format!("cannot be read: {e}"))]),
    };
    let (length, found) =
        (mine.metadata().map_err(io(own))?.len(), theirs.metadata().map_err(io(other))?.len());
    if length != found {
        return Ok(vec![Difference::new(
            name,
            None,
            format!("has {found} bytes, your disk has {length}"),
        )]);
    }
    let pieces = disk::pieces(&mut mine, length).map_err(io(own))?;
    let mut differences = Vec::new();
    for piece in pieces {
        let (mine, theirs) = (
            disk::part(&mut mine, &piece).map_err(io(own))?,
            disk::part(&mut theirs, &piece).map_err(io(other))?,
        );
        if let Some(at) =
            first_difference(mine, theirs, piece.end - piece.start).map_err(io(other))?
        {
            differences.push(Difference::new(
                name,
                Some(&piece.name),
                format!(
                    "first differs at byte {at} of this part, {} of the disk",
                    piece.start + at
                ),
            ));
        }
    }
    if !differences.is_empty() {
        let (mine, theirs) =
            (sha256_file(own).map_err(io(own))?, sha256_file(other).map_err(io(other))?);
        differences.push(Difference::new(
            name,
            None,
            format!("SHA-256 is {theirs}, your disk has {mine}"),
        ));
    }
    Ok(differences)
}

/// Compares a small file with its expected content.
pub(crate) fn small(name: &str, wanted: &[u8], path: &Path) -> Option<Difference> {
    match read_plain(path, wanted.len() as u64 + CHUNK as u64) {
        Ok(found) => of_bytes(name, None, wanted, &found),
        Err(e) => Some(Difference::new(name, None, e)),
    }
}
