//! From a profile to the directory of a build: unsigned parts, log and `build.json`.

use crate::base::debian::{Debian, agent_digest};
use crate::base::{Base, BaseError, Inputs};
use crate::cache::Cache;
use crate::lock::{Lock, LockError, sha256_file};
use crate::overlay::{Overlay, OverlayError, Trust};
use crate::runner::{Nix, RunError, Runner, tee};
use fleeti_core::canonical::{CanonicalError, is_sha256_hex};
use fleeti_core::id::{Architecture, ReleaseName, Version};
use fleeti_core::manifest::{Manifest, ReferenceValues};
use fleeti_core::profile::{Profile, Revision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The profile.
    pub profile: Profile,
    /// Number of its revision.
    pub revision: u32,
    /// The version within the line.
    pub version: Version,
    /// Nothing older may follow; the version itself by default.
    pub minimum_version: Option<Version>,
    /// Folder of the public halves (`fleeti pki init`).
    pub trust: PathBuf,
    /// The lock; resolved into the cache when there is none.
    pub lock: Option<PathBuf>,
    /// The agent's program.
    pub agent: PathBuf,
    /// Where the build goes.
    pub out: PathBuf,
}

/// Largest `build.json`, bytes.
pub const RECORD_MAX: u64 = 1 << 20;

/// `build.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// 1.
    pub schema: u32,
    /// What was built.
    pub release: ReleaseName,
    /// For what.
    pub architecture: Architecture,
    /// Nothing older may follow.
    pub minimum_version: Version,
    /// What went in.
    pub inputs: RecordedInputs,
    /// By step: the derivation and its output.
    pub derivations: BTreeMap<String, Step>,
    /// As in `2.8.0`.
    pub nix_version: String,
    /// dm-verity root hash.
    pub root_hash: String,
    /// PCR 11 by phase, and what measures it.
    pub reference_values: ReferenceValues,
    /// Files of this directory.
    pub files: BTreeMap<String, FileRecord>,
}

/// What went into a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedInputs {
    /// Number of the profile's revision.
    pub revision: u32,
    /// SHA-256 of its canonical JSON.
    pub revision_digest: String,
    /// SHA-256 of the lock's canonical JSON.
    pub lock_digest: String,
    /// SHA-256 of the agent.
    pub agent_digest: String,
}

/// One derivation and its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Path of the derivation.
    pub derivation: PathBuf,
    /// Path of its output.
    pub output: PathBuf,
}

/// A file of the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The packages.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Nix.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The profile's files or the trust folder.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The profile.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory is no build.
    #[error("{path} is not a build record: {source}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What should be a digest is none.
    #[error("{path}: {what:?} is no SHA-256 in hexadecimal")]
    NoDigest {
        /// Which file.
        path: PathBuf,
        /// Which field.
        what: String,
    },
    /// The lock is for other packages than the profile asks for.
    #[error("the lock {0} is for other packages than the profile names")]
    StaleLock(PathBuf),
}

impl BuildError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lock(LockError::Gone(_)) | Self::Base(BaseError::Lock(LockError::Gone(_))) | Self::StaleLock(_) => {
                Some("resolve a new lock with `fleeti build lock --refresh PROFILE`")
            }
            Self::Lock(LockError::Program { .. }) => Some("check the package names, and that the mirror can be reached"),
            Self::Run(RunError::Start { .. }) | Self::Base(BaseError::Run(RunError::Start { .. })) => {
                Some("install Nix (`apt-get install nix-bin`)")
            }
            _ => None,
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    |source| BuildError::Io { path, source }
}

/// The lock of a profile: the file that is named, or one in the cache, resolved when it is missing,
/// for other packages, or to be refreshed.
///
/// # Errors
/// [`BuildError::Lock`]; [`BuildError::StaleLock`] for a named file that no longer fits.
pub fn lock_for(cache: &Cache, revision: &Revision, named: Option<&Path>, refresh: bool) -> Result<Lock, BuildError> {
    let requested = Debian.packages(revision);
    if let Some(path) = named
        && !refresh
    {
        let lock = Lock::read(path)?;
        return if lock.requested == requested { Ok(lock) } else { Err(BuildError::StaleLock(path.to_owned())) };
    }
    let default = cache.root().join("locks").join(format!("{}.json", revision.profile.name));
    let path = named.unwrap_or(&default);
    if !refresh && path.exists() {
        let lock = Lock::read(path)?;
        if lock.requested == requested {
            return Ok(lock);
        }
    }
    let lock = Lock::resolve(cache, &requested)?;
    lock.write(path)?;
    Ok(lock)
}

/// Builds an image. Lines of the log go to `line` and to `build.log`.
///
/// # Errors
/// [`BuildError`]; its [`BuildError::hint`] says what to do.
pub fn run(request: &Request, cache: &Cache, line: &mut dyn FnMut(&str)) -> Result<BuildRecord, BuildError> {
    fs::create_dir_all(&request.out).map_err(io(&request.out))?;
    let out = fs::canonicalize(&request.out).map_err(io(&request.out))?;
    let log_path = out.join("build.log");
    // Appended, so that whoever follows the log of a build that is taken up again stays where it was.
    let mut log = fs::File::options().create(true).append(true).open(&log_path).map_err(io(&log_path))?;
    let is_new = log.metadata().map_err(io(&log_path))?.len() == 0;
    let mut line = tee(&mut log, line);
    if !is_new {
        line("taken up again");
    }

    let revision = Revision::new(request.revision, request.profile.clone())?;
    line("resolving packages");
    let lock = lock_for(cache, &revision, request.lock.as_deref(), false)?;
    let release = ReleaseName { line: revision.profile.name.clone(), version: request.version.clone() };
    let minimum_version = request.minimum_version.clone().unwrap_or_else(|| request.version.clone());
    let trust = Trust::read(&request.trust)?;
    let overlay = Overlay::new(&revision.profile, &release, &minimum_version, &trust)?;
    let pcr_pem = trust.pcr_pem().to_owned();
    let inputs = Inputs { release, overlay, agent: request.agent.clone(), pcr_pem, minimum_version, lock, revision };
    let runner = Nix::new(out.join("nix"));
    let parts = Debian.build(&inputs, cache, &runner, &mut line)?;

    line("collecting");
    let mut files = BTreeMap::new();
    for (name, source) in [
        ("root.erofs", &parts.root),
        ("root.verity", &parts.verity),
        ("uki.efi", &parts.uki),
        ("systemd-boot.efi", &parts.systemd_boot),
        ("disk.raw", &parts.disk),
    ] {
        let target = out.join(name);
        copy_sparse(source, &target)?;
        let size = fs::metadata(&target).map_err(io(&target))?.len();
        files.insert(name.to_owned(), FileRecord { size, sha256: sha256_file(&target).map_err(io(&target))? });
    }
    let lock_path = out.join("lock.json");
    inputs.lock.write(&lock_path)?;
    let record = BuildRecord {
        schema: 1,
        release: inputs.release,
        architecture: inputs.revision.profile.architecture,
        minimum_version: inputs.minimum_version,
        inputs: RecordedInputs {
            revision: inputs.revision.number,
            revision_digest: inputs.revision.digest,
            lock_digest: inputs.lock.digest(),
            agent_digest: agent_digest(&inputs.agent)?,
        },
        derivations: parts.derivations.into_iter().map(|(name, (derivation, output))| (name, Step { derivation, output })).collect(),
        nix_version: runner.version()?,
        root_hash: parts.root_hash,
        reference_values: ReferenceValues { systemd_version: parts.systemd_version, pcr11: parts.pcr11, pcr9: None, pcr12: None },
        files,
    };
    let path = out.join("build.json");
    let text = serde_json::to_vec_pretty(&record).map_err(|source| BuildError::Malformed { path: path.clone(), source })?;
    crate::write_atomically(&path, &text).map_err(io(&path))?;
    Ok(record)
}

/// The stages that a build's log shows, in order of their beginning.
#[must_use]
pub fn stages(log: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in log.lines() {
        let name = match line {
            "resolving packages" | "evaluating" | "collecting" => line,
            _ if line.starts_with("fetching packages") => "fetching packages",
            // As in `building '/nix/store/<32 characters>-fleeti-root.drv'...`
            _ => match line.strip_prefix("building '/nix/store/").and_then(|l| l.get(33..)).and_then(|l| l.split(".drv'").next()) {
                Some(name) => name.strip_prefix("fleeti-").unwrap_or(name),
                None => continue,
            },
        };
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Opens a file to be read; no link is followed, and nothing that would wait is waited for.
pub(crate) fn open_plain(path: &Path) -> std::io::Result<fs::File> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = fs::File::options().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is no file")) }
}

/// Copies with holes: a disk image is mostly empty.
pub(crate) fn copy_sparse(source: &Path, target: &Path) -> Result<(), BuildError> {
    let _ = fs::remove_file(target);
    let status = Command::new("cp").args(["--reflink=auto", "--sparse=always"]).arg(source).arg(target).status().map_err(io(target))?;
    if !status.success() {
        return Err(BuildError::Io { path: target.to_owned(), source: std::io::Error::other("cp failed") });
    }
    let mut permissions = fs::metadata(target).map_err(io(target))?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(target, permissions).map_err(io(target))
}

impl BuildRecord {
    /// Whether a manifest is of this very build.
    #[must_use]
    pub fn made(&self, manifest: &Manifest) -> bool {
        self.release == manifest.release
            && self.root_hash == manifest.root_hash
            && self.inputs.revision_digest == manifest.revision_digest
            && self.inputs.lock_digest == manifest.lock_digest
    }

    /// Reads `build.json` of a directory.
    ///
    /// # Errors
    /// [`BuildError::Io`], [`BuildError::Malformed`].
    pub fn read(directory: &Path) -> Result<Self, BuildError> {
        Self::parse(directory, &Self::bytes(directory)?)
    }

    /// Reads the bytes of the `build.json` of a directory.
    ///
    /// # Errors
    /// [`BuildError::Malformed`].
    pub fn parse(directory: &Path, bytes: &[u8]) -> Result<Self, BuildError> {
        let path = directory.join("build.json");
        let record: Self = serde_json::from_slice(bytes).map_err(|source| BuildError::Malformed { path: path.clone(), source })?;
        record.check().map_err(|what| BuildError::NoDigest { path, what })?;
        Ok(record)
    }

    /// A record may be somebody else's: what people read as a digest is one, and nothing that repaints their screen.
    fn check(&self) -> Result<(), String> {
        let inputs = &self.inputs;
        let named = [
            ("revision_digest", &inputs.revision_digest),
            ("lock_digest", &inputs.lock_digest),
            ("agent_digest", &inputs.agent_digest),
            ("root_hash", &self.root_hash),
        ];
        let files = self.files.iter().map(|(name, file)| (name.as_str(), &file.sha256));
        match named.into_iter().chain(files).find(|(_, text)| !is_sha256_hex(text)) {
            Some((name, _)) => Err(name.to_owned()),
            None => Ok(()),
        }
    }

    /// The bytes of `build.json`, which are what people approve.
    ///
    /// # Errors
    /// [`BuildError::Io`], also for a record that is larger than [`RECORD_MAX`].
    pub fn bytes(directory: &Path) -> Result<Vec<u8>, BuildError> {
        let path = directory.join("build.json");
        let mut bytes = Vec::new();
        let file = open_plain(&path).map_err(io(&path))?;
        file.take(RECORD_MAX + 1).read_to_end(&mut bytes).map_err(io(&path))?;
        if bytes.len() as u64 > RECORD_MAX {
            let source = std::io::Error::other(format!("a build record has {RECORD_MAX} bytes at the most"));
            return Err(BuildError::Io { path, source });
        }
        Ok(bytes)
    }
}

/// What a rebuild showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Verification {
    /// Every step gave the same bytes, and the files are those of the record.
    Identical {
        /// Steps that were rebuilt.
        steps: Vec<String>,
    },
    /// A file of the directory is not the one of the record.
    FileChanged {
        /// Which.
        file: String,
    },
    /// A step gave other bytes.
    StepDiffers {
        /// Which.
        step: String,
        /// The first difference, as Nix or cmp words it.
        difference: String,
    },
}

/// Rebuilds every step of a build with `--check` and compares.
///
/// # Errors
/// [`BuildError`] when the record or a derivation is missing.
pub fn verify(directory: &Path, line: &mut dyn FnMut(&str)) -> Result<Verification, BuildError> {
    let record = BuildRecord::read(directory)?;
    for (name, file) in &record.files {
        let path = directory.join(name);
        if sha256_file(&path).map_err(io(&path))? != file.sha256 {
            return Ok(Verification::FileChanged { file: name.clone() });
        }
    }
    let runner = Nix::new(directory.join("nix"));
    for (name, step) in &record.derivations {
        line(&format!("rebuilding {name}"));
        match runner.realise(std::slice::from_ref(&step.derivation), true, line) {
            Ok(_) => {}
            Err(RunError::Failed { tail, .. }) if tail.contains("may not be deterministic") => {
                let difference = first_difference(&step.output).unwrap_or(tail);
                return Ok(Verification::StepDiffers { step: name.clone(), difference });
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Verification::Identical { steps: record.derivations.into_keys().collect() })
}

/// Nix keeps the other bytes beside the output, with `.check` at the end of the name.
fn first_difference(output: &Path) -> Option<String> {
    let other = PathBuf::from(format!("{}.check", output.display()));
    let text = Command::new("diff").arg("-rq").arg(output).arg(&other).output().ok()?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let first = text.lines().next()?.to_owned();
    let file = first.strip_prefix("Files ")?.split(" and ").next()?.to_owned();
    let relative = file.strip_prefix(&output.display().to_string())?.to_owned();
    let cmp = Command::new("cmp").arg(&file).arg(format!("{}{relative}", other.display())).output().ok()?;
    Some(String::from_utf8_lossy(&cmp.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::stages;

    #[test]
    fn the_stages_of_a_build_are_read_from_its_log() {
        let log = "resolving packages\nfetching packages 0/2\nfetching packages 2/2\nevaluating\nthese 2 derivations will be built:\n  \
            /nix/store/xzvvl89rza3sysvy13disbxzsrjn5b9g-fleeti-tools.drv\n\
            building '/nix/store/xzvvl89rza3sysvy13disbxzsrjn5b9g-fleeti-tools.drv'...\nbuilding '/nix/store/short'\n\
            building '/nix/store/j0fjyg1h1ip3y9vmnf479i81k958rsq7-fleeti-root-kiosk-1.drv'...\ncollecting\n";
        assert_eq!(stages(log), ["resolving packages", "fetching packages", "evaluating", "tools", "root-kiosk-1", "collecting"]);
    }
}
