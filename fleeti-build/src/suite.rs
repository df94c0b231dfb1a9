//! What the packages of a suite bring, as an index for checks and searches.
//!
//! apt downloads the lists of packages and of their contents, and verifies them by the signature of
//! the suite. The index is made from them once for a snapshot of the suite, and kept in the
//! [`Cache`], with what was learnt from the packages themselves ([`learn`]).

mod deb;
mod learnt;
mod lists;
mod pace;
mod tar;

use crate::apt::Apt;
pub use crate::apt::SUITE;
use crate::archive::{self, Archive, State};
use crate::base::{self, HonourError};
use crate::cache::Cache;
use crate::choices;
use crate::file::{open_plain, write_with_folder};
use crate::lock::{LockError, io};
use crate::overlay;
use crate::package::DEBIAN;
use crate::snapshot;
use fleeti_core::canonical::{CanonicalError, sha256_hex};
use fleeti_core::profile::{
    BaseName, IndexError, IndexHead, IndexParts, IndexText, Installed, Profile, Revision, Software,
    SuiteFindings, SuiteIndex, against_suite,
};
pub use learnt::{add_learnt, learn};
pub use pace::Pace;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Lets apt fetch the lists of contents as well.
const CONTENTS: &str = "Acquire::IndexTargets::deb::Contents-deb {\n\
    MetaKey \"$(COMPONENT)/Contents-$(ARCHITECTURE)\";\n\
    ShortDescription \"Contents-$(ARCHITECTURE)\";\n\
    Description \"$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)\";\n\
    flatMetaKey \"Contents-$(ARCHITECTURE)\";\n\
    flatDescription \"$(RELEASE) Contents (deb)\";\n\
    PDiffs \"false\";\nKeepCompressed \"true\";\nIdentifier \"Contents-deb\";\n};\n\
    Acquire::Languages { \"en\"; };\n";

/// Lets apt fetch the summaries of packages.
const TRANSLATIONS: &str = "Acquire::Languages { \"en\"; };\n";

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// apt, or a file of the cache.
    #[error(transparent)]
    Apt(#[from] LockError),
    /// An index.
    #[error("{path}: {source}")]
    Index {
        /// Path of the index.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// A list of apt has no text, or apt did not download it.
    #[error("apt has no {0} of the suite")]
    Missing(&'static str),
    /// A package could not be read.
    #[error("{path}: {detail}")]
    Package {
        /// Path of the package.
        path: PathBuf,
        /// The reason.
        detail: String,
    },
}

/// An index in a file.
#[derive(Debug)]
struct IndexFile {
    file: fs::File,
    size: u64,
}

impl IndexText for IndexFile {
    fn size(&self) -> u64 {
        self.size
    }
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
        self.file.read_exact_at(into, at).map_err(|e| e.to_string())
    }
}

/// Path of the index in the cache.
#[must_use]
pub fn path(cache: &Cache) -> PathBuf {
    cache.root().join("suites").join(format!("{SUITE}.index"))
}

/// Opens an index in a file, and checks every line of it; `None` if there is no such file.
///
/// # Errors
/// [`SuiteError`] if it cannot be read, or is not an index.
pub fn open(path: &Path) -> Result<Option<SuiteIndex>, SuiteError> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(path)(e).into()),
    };
    let size = file.metadata().map_err(io(path))?.len();
    let index = SuiteIndex::open(Box::new(IndexFile { file, size }))
        .map_err(|source| SuiteError::Index { path: path.to_owned(), source })?;
    Ok(Some(index))
}

/// The index in the cache; `None` if none was made yet.
///
/// # Errors
/// [`SuiteError`] if it cannot be read.
pub fn load(cache: &Cache) -> Result<Option<SuiteIndex>, SuiteError> {
    open(&path(cache))
}

/// Downloads the lists of the suite. Makes the index from them, unless there is one of the same
/// lists and of all that was learnt. Says on `line` what it does.
///
/// # Errors
/// [`SuiteError`].
pub fn refresh(cache: &Cache, line: &mut dyn FnMut(&str)) -> Result<SuiteIndex, SuiteError> {
    let _alone = cache.lock("apt-index").map_err(io(cache.root()))?;
    let archive = Archive::of_host(cache).map_err(LockError::from)?;
    line("downloading the lists of packages and of their contents");
    let name = state();
    let updated = |more: &str| {
        archive::updated(cache, &State { name: &name, more }, &archive, &Software::default())
    };
    let (apt, _) = match updated(CONTENTS) {
        Ok(updated) => updated,
        Err(e) => {
            // Some mirrors have lists of contents of another day, which do not match the signature.
            line(&format!("units and programs of many packages are not known: {e}"));
            updated(TRANSLATIONS).map_err(LockError::from)?
        }
    };
    make(cache, &apt, line)
}

/// Makes the index again from the lists that apt has, with what was learnt since; `None` if apt has
/// none.
///
/// # Errors
/// [`SuiteError`].
pub fn remake(cache: &Cache, line: &mut dyn FnMut(&str)) -> Result<Option<SuiteIndex>, SuiteError> {
    let _alone = cache.lock("apt-index").map_err(io(cache.root()))?;
    if !path(cache).exists() {
        return Ok(None);
    }
    make(cache, &Apt::before(cache, &state()), line).map(Some)
}

/// Name of the state of apt.
fn state() -> String {
    format!("{SUITE}-index")
}

fn make(cache: &Cache, apt: &Apt, line: &mut dyn FnMut(&str)) -> Result<SuiteIndex, SuiteError> {
    let contents = lists::of_kind(apt, "Contents-deb")?;
    let head = IndexHead {
        suite: SUITE.to_owned(),
        snapshot: snapshot(apt)?,
        has_contents: !contents.is_empty(),
    };
    let path = path(cache);
    // An index that cannot be read is made again.
    let before = open(&path).ok().flatten();
    let known = before.as_ref().and_then(|index| index.security().ok()).unwrap_or_default();
    if let Some(index) = before
        && index.head() == &head
        && !learnt::is_newer(cache, &path)
    {
        return Ok(index);
    }
    let mut parts = IndexParts::default();
    line("reading the list of packages");
    lists::packages(apt, &mut parts)?;
    let lists = snapshot::read(apt, DEBIAN)?;
    let made_s = lists.get(&format!("{DEBIAN} {SUITE}-security")).map_or(0, |list| list.date_s);
    for (name, fix) in &mut parts.security {
        let same = known.get(name).filter(|known| known.version == fix.version);
        fix.since_s = same.map_or(made_s, |known| known.since_s);
    }
    line("reading the lists of contents");
    lists::contents(apt, &contents, &mut parts)?;
    add_learnt(cache, &mut parts)?;
    write_with_folder(&path, parts.to_text(&head).as_bytes()).map_err(io(&path))?;
    open(&path)?.ok_or(SuiteError::Missing("packages"))
}

/// Packages that the base installs in an image of this profile, besides those of the profile.
///
/// # Errors
/// [`CanonicalError`] when the profile does not serialise.
pub fn base_packages(profile: &Profile) -> Result<Vec<String>, CanonicalError> {
    let revision = Revision::new(0, profile.clone())?;
    let Some(maker) = base::of(profile.base).maker() else { return Ok(Vec::new()) };
    let mut packages = maker.packages(&revision).remove("device").unwrap_or_default();
    packages.retain(|package| !profile.software.packages.contains(package));
    Ok(packages)
}

/// What is installed in the image of a profile, as far as an index knows it.
///
/// # Errors
/// [`IndexError::Unreadable`].
pub fn installed(profile: &Profile, index: Option<&SuiteIndex>) -> Result<Installed, IndexError> {
    let mut names = base_packages(profile).map_err(|e| IndexError::Unreadable(e.to_string()))?;
    names.extend_from_slice(&profile.software.packages);
    names.extend(profile.software.own.iter().map(|own| own.name.clone()));
    let mut installed = match index {
        Some(index) => index.installed(&names)?,
        None => Installed::default(),
    };
    // A package that is not in the index is of another repository.
    for name in names {
        if installed.packages.insert(name.clone()) {
            installed.unknown.insert(name);
        }
    }
    choices::units(profile, &mut installed.enabled);
    installed.enabled.retain(|unit| !overlay::is_masked(unit));
    Ok(installed)
}

/// Errors and warnings of a profile that its base and the packages of its suite show. The index is
/// about Debian's packages: without it, and for another base, packages are not checked. What Debian
/// does not honour yet may be saved, and a build refuses it; what another base does not honour is an
/// error at once.
///
/// # Errors
/// [`IndexError::Unreadable`].
pub fn check(profile: &Profile, index: Option<&SuiteIndex>) -> Result<SuiteFindings, IndexError> {
    match (profile.base, index) {
        (BaseName::Debian, Some(index)) => of_packages(profile, index),
        (BaseName::Debian, None) => Ok(SuiteFindings::default()),
        (BaseName::Nixos, _) => of_base(profile),
    }
}

fn of_base(profile: &Profile) -> Result<SuiteFindings, IndexError> {
    let errors = match base::of(profile.base).check(profile) {
        Ok(()) => Vec::new(),
        Err(HonourError::Fields(fields)) => fields.iter().map(base::Ignored::to_error).collect(),
        Err(HonourError::Json(e)) => return Err(IndexError::Unreadable(e.to_string())),
    };
    Ok(SuiteFindings { errors, ..SuiteFindings::default() })
}

fn of_packages(profile: &Profile, index: &SuiteIndex) -> Result<SuiteFindings, IndexError> {
    let base = base_packages(profile).map_err(|e| IndexError::Unreadable(e.to_string()))?;
    against_suite(profile, index, &base)
}

/// SHA-256 of the signed lists that apt has, each by its SHA-256.
fn snapshot(apt: &Apt) -> Result<String, SuiteError> {
    let lists = snapshot::read(apt, DEBIAN)?;
    if lists.is_empty() {
        return Err(SuiteError::Missing("InRelease"));
    }
    let lines: Vec<_> =
        lists.iter().map(|(suite, list)| format!("{suite} {}", list.sha256)).collect();
    Ok(sha256_hex(lines.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_index_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        assert!(load(&cache).unwrap().is_none());
        write_with_folder(&path(&cache), b"something else").unwrap();
        assert!(load(&cache).unwrap_err().to_string().contains("make it again"));
    }

    #[test]
    #[ignore = "downloads the lists of the suite"]
    fn the_index_of_the_suite_knows_everyday_packages() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let begun = std::time::Instant::now();
        let made = refresh(&cache, &mut |line| println!("{line}")).unwrap();
        println!("made in {:?}", begun.elapsed());
        let begun = std::time::Instant::now();
        let index = load(&cache).unwrap().unwrap();
        println!("opened in {:?}", begun.elapsed());
        assert_eq!(index.head(), made.head());
        assert!(index.package("nginx").unwrap().unwrap().summary.contains("web"));
        if index.head().has_contents {
            assert_eq!(index.with_unit("nginx.service").unwrap(), ["nginx-common"]);
            assert!(index.with_program("/bin/zsh").unwrap().contains(&"zsh".to_owned()));
            assert_eq!(index.with_program("/bin/sh").unwrap(), ["dash"]);
        }
        let begun = std::time::Instant::now();
        let names: Vec<_> =
            index.search("web server", 5).unwrap().into_iter().map(|p| p.name).collect();
        println!("searched in {:?}: {names:?}", begun.elapsed());
        for fragment in fleeti_core::profile::Builtin::all() {
            let text = format!(
                "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\nextends = [\"{}\"]\n",
                fragment.name
            );
            let profile = fleeti_core::profile::check(&text).unwrap();
            let base = base_packages(&profile).unwrap();
            let begun = std::time::Instant::now();
            let found = against_suite(&profile, &index, &base).unwrap();
            println!("checked in {:?}: {found:?}", begun.elapsed());
            assert_eq!(found.errors, SuiteFindings::default().errors, "{}", fragment.name);
        }
    }
}
