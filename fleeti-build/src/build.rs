//! Builds a profile into a directory with unsigned artifacts, the log and `build.json`.

use crate::base::debian::agent_digest;
use crate::base::{Inputs, Parts, check_compilers, maker};
use crate::cache::Cache;
use crate::contents::Contents;
pub use crate::error::BuildError;
use crate::error::io;
use crate::file::{sha256_file, write_with_folder};
use crate::ids::Ids;
use crate::lock::{Lock, LockError, sources_digest};
use crate::overlay::{Overlay, Trust};
use crate::provenance;
pub use crate::record::{BuildRecord, FileRecord, RECORD_MAX, RecordedInputs};
use crate::refresh::{Moved, add_security, changes, missed};
use crate::resolve;
use crate::runner::{Nix, Runner, tee};
use crate::sbom;
use crate::step::ArtifactName;
pub use crate::step::Step;
use crate::suite;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::manifest::ReferenceValues;
use fleeti_core::profile::{Profile, Revision, broken_rules};
use fleeti_core::strict;
use fleeti_core::wire::package::PackageQuery;
use fleeti_core::wire::problem::FieldError;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A request for a build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The profile.
    pub profile: Profile,
    /// Number of the profile revision.
    pub revision: u32,
    /// The version to build, within the line of the profile.
    pub version: Version,
    /// Minimum version of the image; by default the version itself.
    pub minimum_version: Option<Version>,
    /// Directory of the public keys (`public` of `fleeti pki init`).
    pub trust: PathBuf,
    /// Path of the package lock; if absent, a lock in the cache is used.
    pub lock: Option<PathBuf>,
    /// Refresh the lock first, and write what changes to the log.
    pub refresh_lock: bool,
    /// Refresh these packages of the lock first, with what they need, and keep all others. The build fails
    /// if the lock then has none that fits.
    pub refresh_packages: Vec<PackageQuery>,
    /// Path of the agent binary.
    pub agent: PathBuf,
    /// Directory of the build.
    pub out: PathBuf,
}

/// What is wanted of the lock of a profile.
#[derive(Debug, Clone, Copy, Default)]
pub struct LockWanted<'a> {
    /// The file; by default one in the cache.
    pub path: Option<&'a Path>,
    /// Resolve again even if the lock is for this profile.
    pub refresh: bool,
    /// Refresh these packages, with what they need, and keep all others; all packages if empty.
    pub only: &'a [String],
    /// Whether packages and lists may be older than those of the earlier lock.
    pub allow_downgrade: bool,
}

/// A lock, and the one that it takes the place of.
#[derive(Debug)]
pub struct Resolved {
    /// The lock. It was not written.
    pub lock: Lock,
    /// The lock that was there.
    pub earlier: Option<Lock>,
    /// Its file.
    pub path: PathBuf,
}

/// The lock of a profile: the given file, or one in the cache. A lock in the cache is resolved if
/// it is missing, is for other packages or sources, or is to be refreshed.
///
/// # Errors
/// [`BuildError::Lock`]; [`BuildError::StaleLock`] for a given file that is for other packages;
/// [`BuildError::Shifted`] if the lock and earlier builds have other numbers for a name.
pub fn lock_for(
    cache: &Cache,
    revision: &Revision,
    named: Option<&Path>,
    refresh: bool,
) -> Result<Lock, BuildError> {
    let wanted = LockWanted { path: named, refresh, ..LockWanted::default() };
    lock_with_notes(cache, revision, &wanted, &mut |_| {})
}

/// As [`lock_for`]. Says on `line` what is left out.
fn lock_with_notes(
    cache: &Cache,
    revision: &Revision,
    wanted: &LockWanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Lock, BuildError> {
    if let Some(path) = wanted.path
        && !wanted.refresh
    {
        let lock = Lock::read(path)?;
        return if is_for(&lock, revision)? {
            Ok(lock)
        } else {
            Err(BuildError::StaleLock(path.to_owned()))
        };
    }
    written(refreshed(cache, revision, wanted, line)?)
}

/// Like [`lock_for`], but resolves and writes a given file that does not exist. Refuses fields that
/// the base does not honour, as [`run`] does.
///
/// # Errors
/// As [`lock_for`]; [`BuildError::Refused`].
pub fn lock_into(
    cache: &Cache,
    revision: &Revision,
    named: Option<&Path>,
    refresh: bool,
) -> Result<Lock, BuildError> {
    maker(&revision.profile)?;
    let is_missing = named.is_some_and(|path| !path.exists());
    lock_for(cache, revision, named, refresh || is_missing)
}

/// Resolves a lock and does not write it. Says on `line` what is left out.
///
/// # Errors
/// As [`lock_into`]; [`LockError::Downgrade`] for a refresh after which packages would be older.
pub fn refreshed(
    cache: &Cache,
    revision: &Revision,
    wanted: &LockWanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Resolved, BuildError> {
    maker(&revision.profile)?;
    let found = resolved(cache, revision, wanted, line)?;
    if let Some(earlier) = found.earlier.as_ref().filter(|_| !wanted.allow_downgrade) {
        let down = changes(earlier, &found.lock).down;
        if !down.is_empty() {
            let text = |m: &Moved| format!("{} {} -> {}", m.name, m.before, m.after);
            return Err(LockError::Downgrade(down.iter().map(text).collect()).into());
        }
    }
    Ok(found)
}

/// Writes a resolved lock to its file.
///
/// # Errors
/// [`BuildError::Lock`].
pub fn written(resolved: Resolved) -> Result<Lock, BuildError> {
    if resolved.earlier.as_ref() != Some(&resolved.lock) {
        resolved.lock.write(&resolved.path)?;
    }
    Ok(resolved.lock)
}

/// Refreshes a lock, writes it, and says on `line` what changes.
fn refreshed_into(
    cache: &Cache,
    revision: &Revision,
    (path, packages): (Option<&Path>, &[PackageQuery]),
    line: &mut dyn FnMut(&str),
) -> Result<Lock, BuildError> {
    // Without one, every package would be a new one.
    if !packages.is_empty() && !lock_path(cache, revision, path).exists() {
        return Err(BuildError::NothingToKeep(revision.profile.name.to_string()));
    }
    let only: Vec<_> = packages.iter().map(|package| package.name().to_owned()).collect();
    let wanted = LockWanted { path, refresh: true, only: &only, ..LockWanted::default() };
    let resolved = refreshed(cache, revision, &wanted, line)?;
    let missed = missed(&resolved.lock, packages);
    if !missed.is_empty() {
        return Err(BuildError::NotFixed(missed));
    }
    if let Some(earlier) = &resolved.earlier {
        let mut found = changes(earlier, &resolved.lock);
        add_security(&mut found, &resolved.lock, cache, &revision.profile.software)?;
        found.lines().iter().for_each(|text| line(text));
    }
    written(resolved)
}

/// Whether a lock is for the packages and the sources of a profile.
fn is_for(lock: &Lock, revision: &Revision) -> Result<bool, BuildError> {
    let sources = sources_digest(&revision.profile.software)?;
    let requested = maker(&revision.profile)?.packages(revision);
    Ok(lock.requested == requested && lock.sources == sources)
}

/// The file of a lock: the given one, or one in the cache.
fn lock_path(cache: &Cache, revision: &Revision, named: Option<&Path>) -> PathBuf {
    let default = || cache.root().join("locks").join(format!("{}.json", revision.profile.name));
    named.map_or_else(default, Path::to_owned)
}

fn resolved(
    cache: &Cache,
    revision: &Revision,
    wanted: &LockWanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Resolved, BuildError> {
    let path = lock_path(cache, revision, wanted.path);
    let earlier = if path.exists() { Some(Lock::read(&path)?) } else { None };
    if let Some(lock) = &earlier
        && !wanted.refresh
        && is_for(lock, revision)?
    {
        return Ok(Resolved { lock: lock.clone(), earlier, path });
    }
    // Users and groups keep their numbers along a line: those of the earlier lock, and those of
    // builds on this machine.
    let before = earlier.as_ref().map(|lock| lock.ids.clone()).unwrap_or_default();
    let ids = before.and(&known_ids(cache, revision)?)?;
    let maker = maker(&revision.profile)?;
    let from = resolve::Wanted {
        requested: &maker.packages(revision),
        software: &revision.profile.software,
        base: maker.own_packages(),
        earlier: earlier.as_ref(),
        only: wanted.only,
        allow_older: wanted.allow_downgrade,
    };
    let mut lock = resolve::resolve(cache, &from, line)?;
    lock.ids = ids;
    Ok(Resolved { lock, earlier, path })
}

/// Builds an image. Writes the lines of the log to `line` and to `build.log`.
///
/// # Errors
/// [`BuildError`]. [`BuildError::hint`] says what to do.
pub fn run(
    request: &Request,
    cache: &Cache,
    line: &mut dyn FnMut(&str),
) -> Result<BuildRecord, BuildError> {
    run_with(request, cache, nix, line)
}

/// The Nix of this machine, with the roots of its garbage collector in the directory of a build.
pub(crate) fn nix(out: &Path) -> Nix {
    Nix::new(out.join("nix"))
}

/// As [`run`], with the runner that `runner` makes for the directory of the build.
///
/// # Errors
/// As [`run`].
pub fn run_with<R: Runner>(
    request: &Request,
    cache: &Cache,
    runner: impl FnOnce(&Path) -> R,
    line: &mut dyn FnMut(&str),
) -> Result<BuildRecord, BuildError> {
    fs::create_dir_all(&request.out).map_err(io(&request.out))?;
    let out = fs::canonicalize(&request.out).map_err(io(&request.out))?;
    let log_path = out.join("build.log");
    // Append: a reader that follows the log keeps its position if the build is resumed.
    let mut log =
        fs::File::options().create(true).append(true).open(&log_path).map_err(io(&log_path))?;
    let is_new = log.metadata().map_err(io(&log_path))?.len() == 0;
    let mut line = tee(&mut log, line);
    if !is_new {
        line("resuming the build");
    }

    let inputs = inputs(request, cache, &mut line)?;
    let runner = runner(&out);
    let parts = maker(&inputs.revision.profile)?.build(&inputs, cache, &runner, &mut line)?;

    line("collecting");
    let files = collect(&parts, &out)?;
    learn(cache, &inputs.lock, &out, &mut line);
    remember_ids(cache, &inputs.revision, &out)?;
    inputs.lock.write(&out.join("lock.json"))?;
    let mut record = BuildRecord {
        schema: 1,
        release: inputs.release.clone(),
        architecture: inputs.revision.profile.architecture,
        minimum_version: inputs.minimum_version.clone(),
        inputs: RecordedInputs {
            revision: inputs.revision.number,
            revision_digest: inputs.revision.digest.clone(),
            lock_digest: inputs.lock.digest(),
            agent_digest: agent_digest(&inputs.agent)?,
        },
        derivations: parts.derivations,
        nix_version: runner.version()?,
        root_hash: parts.root_hash,
        reference_values: ReferenceValues {
            systemd_version: parts.systemd_version,
            pcr11: parts.pcr11,
            pcr9: None,
            pcr12: None,
        },
        files,
    };
    document(&inputs, &mut record, cache, &out)?;
    let path = out.join("build.json");
    let text = serde_json::to_vec_pretty(&record)
        .map_err(|source| BuildError::Malformed { path: path.clone(), source })?;
    write_with_folder(&path, &text).map_err(io(&path))?;
    Ok(record)
}

/// Writes the SBOM and the provenance of a build, and adds them to its record.
fn document(
    inputs: &Inputs,
    record: &mut BuildRecord,
    cache: &Cache,
    out: &Path,
) -> Result<(), BuildError> {
    let add = |record: &mut BuildRecord, name: &'static str, bytes: Vec<u8>| {
        let path = out.join(name);
        fleeti_files::write_durably(&path, &bytes, fleeti_files::PUBLIC).map_err(io(&path))?;
        let file = FileRecord { size: bytes.len() as u64, sha256: sha256_hex(&bytes) };
        record.files.insert(ArtifactName::ours(name), file);
        Ok::<_, BuildError>(())
    };
    let sbom = sbom::make(inputs, record, &Contents::read(out)?, cache)?;
    add(record, sbom::FILE, sbom)?;
    let provenance = provenance::make(inputs, record)?;
    add(record, provenance::FILE, provenance)
}

/// Keeps what the packages of an image brought, for checks of other profiles. A build does not fail
/// because of that.
fn learn(cache: &Cache, lock: &Lock, build: &Path, line: &mut dyn FnMut(&str)) {
    let learnt = suite::learn(cache, lock, &build.join("brought.json"), line)
        .and_then(|number| if number > 0 { suite::remake(cache, line).map(drop) } else { Ok(()) });
    if let Err(e) = learnt {
        line(&format!("what packages brought was not kept: {e}"));
    }
}

/// Checks the profile, resolves its packages, and reads the files that the request names.
fn inputs(
    request: &Request,
    cache: &Cache,
    line: &mut dyn FnMut(&str),
) -> Result<Inputs, BuildError> {
    // A profile that was not parsed from text may not have been checked yet.
    if let Some(broken) = broken_rules(&request.profile).into_iter().next() {
        let FieldError { path, message, remedy, .. } = broken;
        return Err(BuildError::Profile { path, message, remedy });
    }
    maker(&request.profile)?;
    let revision = Revision::new(request.revision, request.profile.clone())?;
    line("resolving packages");
    let lock = if request.refresh_lock || !request.refresh_packages.is_empty() {
        let wanted = (request.lock.as_deref(), request.refresh_packages.as_slice());
        refreshed_into(cache, &revision, wanted, line)?
    } else {
        let wanted = LockWanted { path: request.lock.as_deref(), ..LockWanted::default() };
        lock_with_notes(cache, &revision, &wanted, line)?
    };
    check_compilers(&revision.profile, &lock)?;
    let release =
        ReleaseName { line: revision.profile.name.clone(), version: request.version.clone() };
    let minimum_version =
        request.minimum_version.clone().unwrap_or_else(|| request.version.clone());
    let trust = Trust::read(&request.trust)?;
    let overlay = Overlay::new(&revision.profile, &release, &minimum_version, &trust)?;
    let pcr_pem = trust.pcr_pem().to_owned();
    Ok(Inputs {
        release,
        overlay,
        agent: request.agent.clone(),
        pcr_pem,
        minimum_version,
        lock,
        revision,
    })
}

/// Copies the artifacts of a build to its folder.
fn collect(parts: &Parts, out: &Path) -> Result<BTreeMap<ArtifactName, FileRecord>, BuildError> {
    let mut files = BTreeMap::new();
    let artifacts = [
        ("root.erofs", &parts.root),
        ("root.verity", &parts.verity),
        ("uki.efi", &parts.uki),
        ("systemd-boot.efi", &parts.systemd_boot),
        ("disk.raw", &parts.disk),
    ];
    let reports = parts.reports.iter().map(|(name, path)| (*name, path));
    for (name, source) in artifacts.into_iter().chain(reports) {
        let target = out.join(name);
        copy_sparse(source, &target)?;
        let size = fs::metadata(&target).map_err(io(&target))?.len();
        files.insert(
            ArtifactName::ours(name),
            FileRecord { size, sha256: sha256_file(&target).map_err(io(&target))? },
        );
    }
    Ok(files)
}

/// Fixes the numbers that users and groups have in a build of the line: later builds with this
/// lock keep them.
///
/// # Errors
/// [`BuildError::Io`] and [`BuildError::Malformed`] if the build has no `ids.json`;
/// [`BuildError::Shifted`] if a name has another number in the lock.
pub fn keep_ids(lock: &mut Lock, build: &Path) -> Result<(), BuildError> {
    let ids = read_ids(&build.join("ids.json"))?;
    lock.ids = std::mem::take(&mut lock.ids).and(&ids)?;
    Ok(())
}

fn read_ids(path: &Path) -> Result<Ids, BuildError> {
    let text = fs::read(path).map_err(io(path))?;
    strict::from_slice(&text)
        .map_err(|source| BuildError::Malformed { path: path.to_owned(), source })
}

/// The file with the numbers that users and groups had in builds of the line on this machine.
fn ids_path(cache: &Cache, revision: &Revision) -> PathBuf {
    cache.root().join("ids").join(format!("{}.json", revision.profile.name))
}

fn known_ids(cache: &Cache, revision: &Revision) -> Result<Ids, BuildError> {
    let path = ids_path(cache, revision);
    if path.exists() { read_ids(&path) } else { Ok(Ids::default()) }
}

/// Adds the numbers of a build to those of its line. They enter the next lock that is resolved, and
/// not this one: a build with an unchanged lock has the same derivations as before.
fn remember_ids(cache: &Cache, revision: &Revision, build: &Path) -> Result<(), BuildError> {
    let _alone = cache.lock("ids").map_err(io(cache.root()))?;
    let ids = known_ids(cache, revision)?.and(&read_ids(&build.join("ids.json"))?)?;
    let path = ids_path(cache, revision);
    let text = serde_json::to_vec_pretty(&ids)
        .map_err(|source| BuildError::Malformed { path: path.clone(), source })?;
    write_with_folder(&path, &text).map_err(io(&path))
}

/// The stages that the log of a build shows, in the order in which they began.
#[must_use]
pub fn stages(log: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in log.lines() {
        let name = match line {
            "resolving packages" | "evaluating" | "collecting" => line,
            _ if line.starts_with("fetching packages") => "fetching packages",
            // For example `building '/nix/store/<32 characters>-fleeti-root.drv'...`.
            _ => match line
                .strip_prefix("building '/nix/store/")
                .and_then(|l| l.get(33..))
                .and_then(|l| l.split(".drv'").next())
            {
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

/// Copies a file with holes, because a disk image is mostly empty.
pub(crate) fn copy_sparse(source: &Path, target: &Path) -> Result<(), BuildError> {
    let _ = fs::remove_file(target);
    let status = Command::new("cp")
        .args(["--reflink=auto", "--sparse=always"])
        .arg(source)
        .arg(target)
        .status()
        .map_err(io(target))?;
    if !status.success() {
        return Err(BuildError::Io {
            path: target.to_owned(),
            source: std::io::Error::other("cp failed"),
        });
    }
    let mut permissions = fs::metadata(target).map_err(io(target))?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(target, permissions).map_err(io(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_refused_for_a_field_that_the_base_does_not_honour() {
        let text =
            "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\nidentity.keyboard = \"de\"\n";
        let profile = fleeti_core::profile::check(text).unwrap();
        let revision = Revision::new(1, profile).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let refused = lock_into(&cache, &revision, None, false).unwrap_err();
        assert!(refused.to_string().contains("identity.keyboard"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was fetched");
    }

    #[test]
    fn a_build_that_would_shift_a_number_of_its_line_is_refused_by_name() {
        let text = "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\n";
        let profile = fleeti_core::profile::check(text).unwrap();
        let revision = Revision::new(1, profile).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let built = |ids: &str| {
            fs::write(folder.path().join("ids.json"), ids).unwrap();
            remember_ids(&cache, &revision, folder.path())
        };
        built(r#"{"postgres": 200}"#).unwrap();
        built(r#"{"redis": 300}"#).unwrap();
        let shifted = built(r#"{"redis": 301, "postgres": 200}"#).unwrap_err();
        assert!(matches!(shifted, BuildError::Shifted(_)), "{shifted}");
        assert!(shifted.to_string().contains("redis is 300"), "{shifted}");
        let known = known_ids(&cache, &revision).unwrap();
        assert_eq!((known.get("postgres"), known.get("redis")), (Some(200), Some(300)));
        // A file that cannot be read is no reason to forget numbers.
        fs::write(ids_path(&cache, &revision), "{").unwrap();
        assert!(matches!(known_ids(&cache, &revision), Err(BuildError::Malformed { .. })));
    }

    #[test]
    fn the_stages_of_a_build_are_read_from_its_log() {
        let log = "resolving packages\nfetching packages 0/2\nfetching packages 2/2\nevaluating\nthese 2 derivations will be built:\n  \
            /nix/store/xzvvl89rza3sysvy13disbxzsrjn5b9g-fleeti-tools.drv\n\
            building '/nix/store/xzvvl89rza3sysvy13disbxzsrjn5b9g-fleeti-tools.drv'...\nbuilding '/nix/store/short'\n\
            building '/nix/store/j0fjyg1h1ip3y9vmnf479i81k958rsq7-fleeti-root-kiosk-1.drv'...\ncollecting\n";
        assert_eq!(
            stages(log),
            [
                "resolving packages",
                "fetching packages",
                "evaluating",
                "tools",
                "root-kiosk-1",
                "collecting"
            ]
        );
    }
}
