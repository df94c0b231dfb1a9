//! The package lock: the exact Debian packages of an image.
//!
//! Addresses are no part of a lock: the mirrors come from the configuration of the host's apt, those
//! of further repositories and own packages from the profile. A mirror removes packages that are
//! superseded, so the [`Cache`] keeps every package by its digest.

mod error;

pub use crate::apt::{ARCHITECTURE, SUITE};
use crate::cache::Cache;
use crate::fetch::{self, Length, Place, Problem, Wanted};
use crate::file::write_with_folder;
use crate::ids::Ids;
use crate::package::{
    DEBIAN, Origin, PACKAGE_MAX, Package, PackageName, PoolPath, Sha256Text, WrongForm,
};
use crate::places::Places;
use fleeti_core::canonical::{self, CanonicalError};
use fleeti_core::profile::Software;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

pub use error::LockError;
pub(crate) use error::io;

/// Size limit of a lock file, bytes.
const LOCK_MAX: u64 = 16 << 20;
/// Sets of packages that are in an image; the others are tools of the build.
pub(crate) const IN_IMAGE: [&str; 3] = ["device", "initrd", "kernel"];
/// Largest number of sets in a lock.
const SETS_MAX: usize = 16;
/// Largest number of packages in a set.
const PACKAGES_MAX: usize = 8192;
/// Largest number of lists in a lock.
const SNAPSHOTS_MAX: usize = 1024;
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
    /// Digest of the sources that the profile names ([`sources_digest`]). If they change, the lock
    /// must be refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sha256Text>,
    /// The signed lists that it was resolved with, by repository and suite.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Numbers that users and groups of packages keep.
    #[serde(default, skip_serializing_if = "Ids::is_empty")]
    pub ids: Ids,
}

/// A signed list of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// When the repository made it, Unix seconds.
    pub date_s: u64,
    /// SHA-256 of the list.
    pub sha256: Sha256Text,
}

/// Digest of the sources that a profile names; `None` if it names none. The packages that it takes
/// from the base do not count.
///
/// # Errors
/// [`CanonicalError`] when the sources do not serialize.
pub fn sources_digest(software: &Software) -> Result<Option<Sha256Text>, CanonicalError> {
    let sources = Software { packages: Vec::new(), ..software.clone() };
    if sources == Software::default() {
        return Ok(None);
    }
    Ok(canonical::sha256_hex(&canonical::to_vec(&sources)?).parse().ok())
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
    sources: Option<Sha256Text>,
    #[serde(default)]
    snapshots: BTreeMap<String, Snapshot>,
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
    #[serde(default)]
    origin: Option<String>,
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
        if text.snapshots.len() > SNAPSHOTS_MAX {
            let problem =
                format!("{} lists, expected at most {SNAPSHOTS_MAX}", text.snapshots.len());
            return Err(wrong("snapshots", &problem));
        }
        for source in text.snapshots.keys() {
            formed::<Origin>(source, "snapshots")?;
        }
        let ids = Ids::try_from(text.ids).map_err(|e| wrong("ids", &e))?;
        Ok(Self {
            suite: text.suite,
            architecture: text.architecture,
            requested: text.requested,
            sets,
            sources: text.sources,
            snapshots: text.snapshots,
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
        let origin = package.origin.as_deref();
        let origin = origin.map(|text| formed::<Origin>(text, &at("origin"))).transpose()?;
        if origin.as_ref().is_none_or(|origin| origin.repository() == DEBIAN) {
            formed::<PoolPath>(&package.path, &at("path"))?;
        }
        read.push(Package {
            name: formed(&package.name, &at("name"))?,
            version: formed(&package.version, &at("version"))?,
            sha256: formed(&package.sha256, &at("sha256"))?,
            size: package.size,
            path: formed(&package.path, &at("path"))?,
            origin,
        });
    }
    Ok(read)
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

    /// Downloads the packages that are not in the cache. Hashes those in the cache again, because
    /// they may have been changed.
    ///
    /// # Errors
    /// [`LockError::Gone`] with the packages that are not available; [`LockError::Digest`],
    /// [`LockError::Fetch`]; [`LockError::UnknownOrigin`] if the profile does not name where a
    /// package comes from.
    pub fn fetch(
        &self,
        cache: &Cache,
        software: &Software,
        progress: impl FnMut(usize, usize),
    ) -> Result<(), LockError> {
        let packages: Vec<_> = self.sets.values().flatten().collect();
        fetch_all(&packages, cache, software, progress)
    }
}

/// Downloads packages as [`Lock::fetch`] does.
pub(crate) fn fetch_all(
    packages: &[&Package],
    cache: &Cache,
    software: &Software,
    progress: impl FnMut(usize, usize),
) -> Result<(), LockError> {
    let places = || {
        let places = Places::new(cache, software)?;
        Ok::<_, LockError>(move |package: &Package| places.of(package))
    };
    fetch_from(packages, &places, cache, progress)
}

fn fetch_from<P: Fn(&Package) -> Option<Place>>(
    packages: &[&Package],
    places: &dyn Fn() -> Result<P, LockError>,
    cache: &Cache,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), LockError> {
    let is_missing = |p: &Package| !fetch::is_whole(&cache.package(&p.sha256), p);
    if !packages.iter().any(|p| is_missing(p)) {
        return Ok(());
    }
    // Another process may be downloading the same packages, so check again under the lock.
    let _alone = cache.lock("packages").map_err(io(cache.root()))?;
    let missing: BTreeMap<&str, &Package> =
        packages.iter().filter(|p| is_missing(p)).map(|p| (&*p.sha256, *p)).collect();
    let folder = cache.root().join("packages");
    fs::create_dir_all(&folder).map_err(io(&folder))?;
    let (packages, mut done): (Vec<_>, _) = (missing.into_values().collect(), 0);
    let place = places()?;
    let wanted = packages.iter().map(|package| {
        let unknown = || LockError::UnknownOrigin {
            name: package.name.to_string(),
            origin: package.repository().to_owned(),
        };
        let (sha256, length) = (package.sha256.clone(), Length::Exactly(package.size));
        Ok(Wanted { place: place(package).ok_or_else(unknown)?, sha256, length })
    });
    let wanted = wanted.collect::<Result<Vec<_>, LockError>>()?;
    progress(done, packages.len());
    let problems = fetch::all(PAUSE, &folder, &wanted, &mut || {
        done += 1;
        progress(done, packages.len());
    });
    let mut gone = Vec::new();
    for (package, problem) in problems.into_iter().map(|(at, problem)| (packages[at], problem)) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("/sets/device/0/path", "sets.device[0].path", "vendor/x.deb"),
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
        assert!(
            refused(|lock| lock["sets"]["device"][0]["origin"] = "http://evil/ x".into())
                .contains("sets.device[0].origin")
        );
        assert!(refused(|lock| lock["sources"] = "evil".into()).contains("SHA-256"));
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
        // Nothing is at this path: the error shows that the package was requested.
        let nobody =
            || Ok::<_, LockError>(|_: &Package| Some(Place::File("/nonexistent/x.deb".into())));
        let packages: Vec<_> = lock.sets.values().flatten().collect();
        let error = fetch_from(&packages, &nobody, &cache, |_, _| {}).unwrap_err();
        assert!(matches!(&error, LockError::Fetch { name, .. } if name == "acl"), "{error}");
    }

    #[test]
    fn a_lock_of_before_keeps_its_digest() {
        let lock: Lock = serde_json::from_value(good()).unwrap();
        assert_eq!(serde_json::to_value(&lock).unwrap(), good());
        let plain = Software { packages: vec!["jq".into()], ..Software::default() };
        assert_eq!(sources_digest(&plain).unwrap(), None);
        let named = Software { components: vec!["contrib".into()], ..plain };
        assert!(sources_digest(&named).unwrap().is_some());
    }

    #[test]
    fn a_package_of_a_repository_that_the_profile_does_not_name_is_not_fetched() {
        let mut lock: Lock = serde_json::from_value(good()).unwrap();
        lock.sets.get_mut("device").unwrap()[0].origin =
            Some("vendor stable main".parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let packages: Vec<_> = lock.sets.values().flatten().collect();
        let nowhere = || Ok::<_, LockError>(|_: &Package| None::<Place>);
        let error = fetch_from(&packages, &nowhere, &Cache::at(dir.path()), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("acl comes from vendor"), "{error}");
    }
}
