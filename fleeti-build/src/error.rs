//! Why there is no build, or none that can be read.

use crate::base::BaseError;
use crate::lock::LockError;
use crate::overlay::OverlayError;
use crate::runner::RunError;
use fleeti_core::canonical::CanonicalError;
use fleeti_core::foreign::Foreign;
use std::path::{Path, PathBuf};

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
    #[error("{path} is not a build record: {}", Foreign::log(&.source.to_string()))]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A field has not the form that it must have.
    #[error("{path}: {field} {problem}")]
    Field {
        /// Which file.
        path: PathBuf,
        /// As in `files.uki.efi.sha256`.
        field: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The profile says what no profile may.
    #[error("the profile's {path}: {message}; {remedy}")]
    Profile {
        /// As in `files[0].path`.
        path: String,
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
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
            Self::Lock(LockError::Gone(_))
            | Self::Base(BaseError::Lock(LockError::Gone(_)))
            | Self::StaleLock(_) => {
                Some("resolve a new lock with `fleeti build lock --refresh PROFILE`")
            }
            Self::Lock(LockError::Program { .. }) => {
                Some("check the package names, and that the mirror can be reached")
            }
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
