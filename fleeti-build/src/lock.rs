//! The package lock: the exact Debian packages of an image.
//!
//! Debian's own apt resolves it in a private directory, and never touches the packages and sources
//! of the host. The dpkg status is empty, so that every closure is complete. The mirror comes from
//! the configuration of the host's apt and is not part of the lock. A mirror removes packages that
//! are superseded, so the [`Cache`] keeps every package by its digest.

pub use crate::apt::{ARCHITECTURE, SUITE};
use crate::apt::{Apt, AptError, host_mirror};
use crate::cache::Cache;
use crate::fetch::{self, Mirror, Problem};
use crate::file::write_with_folder;
use crate::ids::Ids;
use crate::package::{PACKAGE_MAX, Package, PackageName, WrongForm};
use fleeti_core::canonical;
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Size limit of a lock file, bytes.
const LOCK_MAX: u64 = 16 << 20;
/// Largest number of sets in a lock.
const SETS_MAX: usize = 16;
/// Largest number of packages in a set.
const PACKAGES_MAX: usize = 8192;
/// Pause before a package is requested again.
const PAUSE: Duration = Duration::from_secs(1);

/// The packages of an image, by set. INVARIANT: every field of a lock that was read has its
/// required form; see [`crate::package`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LockText")]
pub struct Lock {
    /// [`SUITE`].
    pub suite: String,
    /// [`ARCHITECTURE`].
    pub architecture: String,
    /// Requested package names, by set. If they change, the lock must be refreshed.
    pub requested: BTreeMap<String, Vec<String>>,
    /// Complete closures, by set, sorted by name.
    pub sets: BTreeMap<String, Vec<Package>>,
    /// Numbers that users and groups of packages keep.
    #[serde(default, skip_serializing_if = "Ids::is_empty")]
    pub ids: Ids,
}

/// A lock as it is in a file, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockText {
    suite: String,
    architecture: String,
    requested: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, Vec<PackageText>>,
    #[serde(default)]
    ids: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageText {
    name: String,
    version: String,
    sha256: String,
    size: u64,
    path: String,
}

/// A field of a lock that has a wrong form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct WrongField {
    /// Path of the field, for example `sets.device[3].path`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl TryFrom<LockText> for Lock {
    type Error = WrongField;
    fn try_from(text: LockText) -> Result<Self, WrongField> {
        let wrong = |path: &str, problem: &dyn Display| WrongField {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        for (path, found, wanted) in
            [("suite", &text.suite, SUITE), ("architecture", &text.architecture, ARCHITECTURE)]
        {
            if found != wanted {
                return Err(wrong(path, &format!("{found:?} is not supported: expected {wanted}")));
            }
        }
        let is_set = |name: &str| {
            (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        for (field, names) in [
            ("requested", text.requested.keys().collect::<Vec<_>>()),
            ("sets", text.sets.keys().collect()),
        ] {
            if names.len() > SETS_MAX {
                return Err(wrong(
                    field,
                    &format!("{} sets, expected at most {SETS_MAX}", names.len()),
                ));
            }
            if let Some(name) = names.iter().find(|name| !is_set(name)) {
                return Err(wrong(
                    field,
                    &format!("{name:?} is not the name of a set of packages"),
                ));
            }
        }
        for (set, names) in &text.requested {
            let path = format!("requested.{set}");
            if names.len() > PACKAGES_MAX {
                return Err(wrong(
                    &path,
                    &format!("{} packages, expected at most {PACKAGES_MAX}", names.len()),
                ));
            }
            for (i, name) in names.iter().enumerate() {
                formed::<PackageName>(name, &format!("{path}[{i}]"))?;
            }
        }
        let sets = text
            .sets
            .into_iter()
            .map(|(set, packages)| read_set(&set, &packages).map(|packages| (set, packages)));
        let sets = sets.collect::<Result<_, _>>()?;
        let ids = Ids::try_from(text.ids).map_err(|e| wrong("ids", &e))?;
        Ok(Self {
            suite: text.suite,
            architecture: text.architecture,
            requested: text.requested,
            sets,
            ids,
        })
    }
}

fn formed<T: FromStr<Err = WrongForm>>(text: &str, path: &str) -> Result<T, WrongField> {
    text.parse()
        .map_err(|e: WrongForm| WrongField { path: path.to_owned(), problem: e.to_string() })
}

fn read_set(set: &str, packages: &[PackageText]) -> Result<Vec<Package>, WrongField> {
    let wrong = |path: String, problem: String| Err(WrongField { path, problem });
    if packages.len() > PACKAGES_MAX {
        return wrong(
            format!("sets.{set}"),
            format!("{} packages, expected at most {PACKAGES_MAX}", packages.len()),
        );
    }
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(packages.len());
    for (i, package) in packages.iter().enumerate() {
        let at = |field: &str| format!("sets.{set}[{i}].{field}");
        if !seen.insert(&package.name) {
            return wrong(at("name"), format!("{:?} is listed twice", package.name));
        }
        if !(1..=PACKAGE_MAX).contains(&package.size) {
            return wrong(
                at("size"),
                format!("{} bytes, expected 1 to {PACKAGE_MAX}", package.size),
            );
        }
        read.push(Package {
            name: formed(&package.name, &at("name"))?,
            version: formed(&package.version, &at("version"))?,
            sha256: formed(&package.sha256, &at("sha256"))?,
            size: package.size,
            path: formed(&package.path, &at("path"))?,
        });
    }
    Ok(read)
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// An external command could not be run, or failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// Name of the command.
        program: &'static str,
        /// The last lines of its output.
        detail: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a lock.
    #[error("{path} is not a package lock: {}", Foreign::log(&.source.to_string()))]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: serde_json::Error,
    },
    /// A package could not be downloaded, although the mirror may have it.
    #[error("{name} could not be fetched: {detail}")]
    Fetch {
        /// Name of the package.
        name: String,
        /// The reason.
        detail: String,
    },
    /// apt printed something unexpected.
    #[error("apt printed {0:?}, expected a package with a SHA-256")]
    AptOutput(String),
    /// Packages that are neither in the cache nor on the mirror.
    #[error("{} of the lock's packages are neither in the cache nor on the mirror: {}", .0.len(), .0.join(", "))]
    Gone(Vec<String>),
    /// A downloaded file does not match the lock.
    #[error("{name}: the mirror's file has SHA-256 {found}, the lock has {expected}")]
    Digest {
        /// Name of the package.
        name: String,
        /// SHA-256 of the downloaded file.
        found: String,
        /// SHA-256 in the lock.
        expected: String,
    },
}

impl From<AptError> for LockError {
    fn from(e: AptError) -> Self {
        match e {
            AptError::Program { program, detail } => Self::Program { program, detail },
            AptError::Io { path, source } => Self::Io { path, source },
        }
    }
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_owned();
    |source| LockError::Io { path, source }
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError::Io`], [`LockError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|f| f.take(LOCK_MAX + 1).read_to_end(&mut bytes))
            .map_err(io(path))?;
        if bytes.len() as u64 > LOCK_MAX {
            return Err(io(path)(std::io::Error::other(format!(
                "a lock has at most {LOCK_MAX} bytes"
            ))));
        }
        strict::from_slice(&bytes)
            .map_err(|source| LockError::Malformed { path: path.to_owned(), source })
    }

    /// Writes a lock file in a readable form, to be committed.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| LockError::Io { path: path.to_owned(), source: e.into() })?;
        text.push(b'\n');
        write_with_folder(path, &text).map_err(io(path))
    }

    /// SHA-256 of the canonical JSON, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        canonical::to_vec(self).map(|b| canonical::sha256_hex(&b)).unwrap_or_default()
    }

    /// The packages of a set.
    #[must_use]
    pub fn set(&self, name: &str) -> &[Package] {
        self.sets.get(name).map_or(&[], Vec::as_slice)
    }

    /// Resolves the sets with apt.
    ///
    /// # Errors
    /// [`LockError::Program`] with apt's output, for example if a package does not exist.
    pub fn resolve(
        cache: &Cache,
        requested: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, LockError> {
        let _alone = cache.lock("apt").map_err(io(cache.root()))?;
        let apt = Apt::new(cache, SUITE, "")?;
        apt.run(&["update", "-qq"])?;
        let mut sets = BTreeMap::new();
        for (set, names) in requested {
            let mut arguments = vec![
                "install",
                "-qq",
                "--print-uris",
                "-y",
                "-o",
                "Acquire::ForceHash=SHA256",
                "-o",
                "Debug::NoLocking=1",
            ];
            arguments.extend(names.iter().map(String::as_str));
            let text = apt.run(&arguments)?;
            let mut packages: Vec<_> =
                text.lines().map(|line| parse_uri(line, &apt.mirror)).collect::<Result<_, _>>()?;
            if set == "kernel" {
                // The dependencies of the kernel (initramfs-tools, linux-base) are not needed.
                packages
                    .retain(|p: &Package| p.name.starts_with("linux-image-") && p.size > 1_000_000);
            }
            packages.sort_by(|a, b| a.name.cmp(&b.name));
            sets.insert(set.clone(), packages);
        }
        Ok(Self {
            suite: SUITE.into(),
            architecture: ARCHITECTURE.into(),
            requested: requested.clone(),
            sets,
            ids: Ids::default(),
        })
    }

    /// Downloads the packages that are not in the cache. Hashes those in the cache again, because
    /// they may have been changed.
    ///
    /// # Errors
    /// [`LockError::Gone`] with the packages that are not available; [`LockError::Digest`],
    /// [`LockError::Fetch`].
    pub fn fetch(
        &self,
        cache: &Cache,
        progress: impl FnMut(usize, usize),
    ) -> Result<(), LockError> {
        self.fetch_from(&|| Mirror { url: host_mirror(), pause: PAUSE }, cache, progress)
    }

    fn fetch_from(
        &self,
        mirror: &dyn Fn() -> Mirror,
        cache: &Cache,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), LockError> {
        let missing = |p: &&Package| !fetch::is_whole(&cache.package(&p.sha256), p);
        let first = self.sets.values().flatten().find(missing);
        if first.is_none() {
            return Ok(());
        }
        // Another process may be downloading the same packages, so check again under the lock.
        let _alone = cache.lock("packages").map_err(io(cache.root()))?;
        let missing: BTreeMap<&str, &Package> =
            self.sets.values().flatten().filter(missing).map(|p| (&*p.sha256, p)).collect();
        let folder = cache.root().join("packages");
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        let (packages, mut done): (Vec<_>, _) = (missing.into_values().collect(), 0);
        progress(done, packages.len());
        let problems = fetch::all(&mirror(), &folder, &packages, &mut || {
            done += 1;
            progress(done, packages.len());
        });
        let mut gone = Vec::new();
        for (package, problem) in problems.into_iter().map(|(at, problem)| (packages[at], problem))
        {
            let (name, expected) = (package.name.to_string(), package.sha256.to_string());
            match problem {
                Problem::Gone => gone.push(format!("{name} {}", package.version)),
                Problem::Digest { found } => {
                    return Err(LockError::Digest { name, found, expected });
                }
                Problem::Failed(detail) => return Err(LockError::Fetch { name, detail }),
            }
        }
        gone.sort();
        if gone.is_empty() { Ok(()) } else { Err(LockError::Gone(gone)) }
    }
}

/// Parses `'URL' FILE SIZE SHA256:HEX`, a line of `apt-get --print-uris`.
fn parse_uri(line: &str, mirror: &str) -> Result<Package, LockError> {
    let refuse = || LockError::AptOutput(line.to_owned());
    let mut words = line.split(' ');
    let url =
        words.next().and_then(|w| w.strip_prefix('\'')?.strip_suffix('\'')).ok_or_else(refuse)?;
    let file = words.next().ok_or_else(refuse)?;
    let size = words.next().and_then(|w| w.parse().ok()).ok_or_else(refuse)?;
    let sha256 = words.next().and_then(|w| w.strip_prefix("SHA256:")).ok_or_else(refuse)?;
    let mut parts = file.trim_end_matches(".deb").splitn(3, '_');
    let (Some(name), Some(version)) = (parts.next(), parts.next()) else { return Err(refuse()) };
    let form = |_: WrongForm| refuse();
    Ok(Package {
        name: name.parse().map_err(form)?,
        version: version.replace("%3a", ":").parse().map_err(form)?,
        sha256: sha256.parse().map_err(form)?,
        size,
        path: url.strip_prefix(mirror).ok_or_else(refuse)?.parse().map_err(form)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_is_a_package() {
        let line = format!(
            "'http://m/debian/pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb' acl_1%3a2.3.2-2+b1_amd64.deb 58544 SHA256:{}",
            "a".repeat(64)
        );
        let p = parse_uri(&line, "http://m/debian/").unwrap();
        assert_eq!((&*p.name, &*p.version, p.size), ("acl", "1:2.3.2-2+b1", 58544));
        assert_eq!(&*p.path, "pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb");
    }

    #[test]
    fn a_line_without_sha256_is_refused() {
        assert!(matches!(
            parse_uri("'http://m/debian/x' x_1_all.deb 5 MD5Sum:aa", "http://m/debian/"),
            Err(LockError::AptOutput(_))
        ));
    }

    fn good() -> serde_json::Value {
        let package = serde_json::json!({"name": "acl", "version": "2.3.2-2+b1", "sha256": "a".repeat(64), "size": 5, "path": "pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb"});
        serde_json::json!({"suite": "trixie", "architecture": "amd64", "requested": {"device": ["acl"]}, "sets": {"device": [package]}})
    }

    fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut lock = good();
        change(&mut lock);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock.json");
        fs::write(&path, lock.to_string()).unwrap();
        Lock::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_field_of_a_lock_that_means_something_else_is_refused_by_its_path() {
        assert!(serde_json::from_value::<Lock>(good()).is_ok());
        for (pointer, path, bad) in [
            ("/suite", "suite", "sid"),
            ("/suite", "suite", "trixie main\ndeb http://evil/ x"),
            ("/architecture", "architecture", "../../x"),
            ("/requested/device/0", "requested.device[0]", "-o=Dir::Bin=/tmp/x"),
            ("/sets/device/0/name", "sets.device[0].name", "acl\"; id; \""),
            ("/sets/device/0/version", "sets.device[0].version", "1$(id)"),
            ("/sets/device/0/sha256", "sets.device[0].sha256", "/etc/cron.d/evil"),
            ("/sets/device/0/sha256", "sets.device[0].sha256", "../../../../etc/cron.d/evil"),
            ("/sets/device/0/path", "sets.device[0].path", "x\"\noutput = \"/etc/passwd"),
            ("/sets/device/0/path", "sets.device[0].path", "pool/../../x.deb"),
        ] {
            let error = refused(|lock| *lock.pointer_mut(pointer).unwrap() = bad.into());
            assert!(error.contains(path), "{pointer} {bad:?}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
        assert!(
            refused(|lock| lock["sets"]["device"][0]["size"] = 0.into())
                .contains("sets.device[0].size")
        );
        assert!(
            refused(|lock| lock["sets"]["device"][0]["size"] = (PACKAGE_MAX + 1).into())
                .contains("sets.device[0].size")
        );
        assert!(refused(|lock| lock["sets"]["../x"] = serde_json::json!([])).contains("sets: "));
        assert!(refused(|lock| lock["mirror"] = "http://evil/".into()).contains("unknown field"));
        assert!(
            refused(|lock| lock["sets"]["device"][0]["url"] = "http://evil/".into())
                .contains("unknown field")
        );
        for pointer in ["", "/requested", "/sets", "/sets/device/0"] {
            let error = refused(|lock| {
                let object = lock.pointer_mut(pointer).unwrap();
                *object = object.as_object().unwrap().values().cloned().collect::<Vec<_>>().into();
            });
            assert!(error.contains("is not a package lock"), "{pointer:?}: {error}");
        }
        let twice = refused(|lock| {
            let package = lock["sets"]["device"][0].clone();
            lock["sets"]["device"].as_array_mut().unwrap().push(package);
        });
        assert!(twice.contains("sets.device[1].name") && twice.contains("twice"), "{twice}");
    }

    #[test]
    fn a_package_that_was_changed_in_the_cache_is_fetched_again() {
        let lock: Lock = serde_json::from_value(good()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let kept = cache.package(&"a".repeat(64));
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, b"other").unwrap();
        // Nothing listens on this port: the error shows that the package was requested.
        let nobody = || Mirror { url: "http://127.0.0.1:1/".into(), pause: Duration::ZERO };
        let error = lock.fetch_from(&nobody, &cache, |_, _| {}).unwrap_err();
        assert!(matches!(&error, LockError::Fetch { name, .. } if name == "acl"), "{error}");
    }
}
