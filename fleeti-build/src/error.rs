//! Errors of builds.

use crate::base::{BaseError, BaseRefusal, Compilers};
use crate::ids::Shifted;
use crate::lock::LockError;
use crate::overlay::OverlayError;
use crate::runner::RunError;
use fleeti_core::canonical::CanonicalError;
use fleeti_core::foreign::Foreign;
use std::path::{Path, PathBuf};

/// Why a build failed or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The package lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The base makes no image of the profile.
    #[error(transparent)]
    Refused(#[from] BaseRefusal),
    /// The image would contain a compiler, and the profile refuses it.
    #[error(transparent)]
    Compilers(#[from] Compilers),
    /// The run of Nix.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The files of the profile, or the trust directory.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The profile cannot be serialized.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file of a build is malformed.
    #[error("{path} is malformed: {}", Foreign::log(&.source.to_string()))]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: serde_json::Error,
    },
    /// A field of the record has a wrong form.
    #[error("{path}: {field} {problem}")]
    Field {
        /// Path of the record.
        path: PathBuf,
        /// Path of the field, for example `files.uki.efi.sha256`.
        field: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The profile breaks a rule.
    #[error("the profile's {path}: {message}; {remedy}")]
    Profile {
        /// Path of the field, for example `files[0].path`.
        path: String,
        /// What is wrong.
        message: String,
        /// How to fix it.
        remedy: String,
    },
    /// Users or groups would get other numbers, and files on devices would have other owners.
    #[error("users or groups would change their numbers: {0}")]
    Shifted(#[from] Shifted),
    /// The lock is for other packages or sources than those of the profile.
    #[error("the lock {0} is for other packages or sources than those of the profile")]
    StaleLock(PathBuf),
    /// Packages that should be refreshed, and no lock of the line whose others could be kept.
    #[error("there is no lock of {0} whose other packages could be kept")]
    NothingToKeep(String),
    /// Packages of the refreshed lock that do not have the versions that were asked for.
    #[error("the fix is not in the lock: {}", .0.join(", "))]
    NotFixed(Vec<String>),
}

impl BuildError {
    /// What to do about the error.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lock(LockError::Gone(_))
            | Self::Base(BaseError::Lock(LockError::Gone(_)))
            | Self::StaleLock(_) => {
                Some("resolve a new lock with `fleeti build lock --refresh PROFILE`")
            }
            Self::Lock(
                LockError::Downgrade(_) | LockError::OlderSnapshot { .. } | LockError::SuiteGone(_),
            ) => Some("look at the mirror; to go back on purpose, add --allow-downgrade"),
            Self::Lock(LockError::OldSnapshot { .. }) => {
                Some("use a mirror that is updated, or raise software.snapshot_age_days_max")
            }
            Self::Lock(LockError::BasePackage { .. }) => {
                Some("remove it from `packages` of the repository, or from software.own")
            }
            Self::Refused(BaseRefusal::NotBuilt(_)) => {
                Some("set base = \"debian\" for images of devices")
            }
            Self::Shifted(_) => Some(
                "remove the names from `ids` in the lock and from `ids/LINE.json` in the cache, if no \
                 device of the line keeps their files",
            ),
            Self::NothingToKeep(_) => {
                Some("build the line once on this worker, or refresh all packages")
            }
            Self::NotFixed(_) => {
                Some("check the names and versions, and whether the mirror has them")
            }
            Self::Lock(LockError::Program { .. }) => Some(
                "check the names of packages, the keys of repositories, and whether the mirror can be reached",
            ),
            Self::Run(RunError::Start { .. })
            | Self::Base(BaseError::Run(RunError::Start { .. })) => {
                Some("install Nix (`apt-get install nix-bin`)")
            }
            _ => None,
        }
    }
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    |source| BuildError::Io { path, source }
}
