//! Errors of locks.

use crate::apt::AptError;
use fleeti_core::foreign::Foreign;
use std::path::{Path, PathBuf};

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
    /// A package of one's own cannot be used.
    #[error("software.own: {name}: {}", Foreign::log(.detail))]
    Own {
        /// Name of the package.
        name: String,
        /// The reason.
        detail: String,
    },
    /// A further repository has something that cannot be used.
    #[error("the repository {}: {}", Foreign::log(.origin), Foreign::log(.detail))]
    Repository {
        /// Name of the repository, suite and component.
        origin: String,
        /// The reason.
        detail: String,
    },
    /// A further repository does not have a package that the profile takes from it.
    #[error("software.repositories: {repository} has no package {name}")]
    NotInRepository {
        /// Name of the package.
        name: String,
        /// Name of the repository.
        repository: String,
    },
    /// The profile takes a package of the base from elsewhere.
    #[error(
        "{name} is a package of the base, and comes from Debian's archive only, not from {origin}"
    )]
    BasePackage {
        /// Name of the package.
        name: String,
        /// Where it would come from.
        origin: String,
    },
    /// The lists of a repository are older than those of the earlier lock.
    #[error("the lists of {origin} are {days} days older than those of the earlier lock")]
    OlderSnapshot {
        /// Repository and suite.
        origin: String,
        /// How much older, days.
        days: u64,
    },
    /// The lists of a repository are older than the profile allows.
    #[error(
        "the lists of {origin} are {days} days old, and software.snapshot_age_days_max is {limit_days}"
    )]
    OldSnapshot {
        /// Repository and suite.
        origin: String,
        /// Age, days.
        days: u64,
        /// Limit, days.
        limit_days: u32,
    },
    /// The lock lacks lists of a suite that the earlier one had.
    #[error("the mirror no longer has the suite {0}, which the earlier lock used")]
    SuiteGone(String),
    /// Packages would have older versions than in the earlier lock.
    #[error("{} packages would be older than in the earlier lock: {}", .0.len(), .0.join(", "))]
    Downgrade(Vec<String>),
    /// A package comes from a repository that the profile does not name.
    #[error("{name} comes from {origin}, which the profile does not name")]
    UnknownOrigin {
        /// Name of the package.
        name: String,
        /// Its origin in the lock.
        origin: String,
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
