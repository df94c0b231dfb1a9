//! Why a profile could not be evaluated.

use fleeti_core::foreign::Foreign;
use std::io;
use std::path::PathBuf;

/// Why a profile could not be evaluated. What is wrong with the profile itself is a finding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A directory is no module tree.
    #[error("{0} is no module tree of NixOS: it needs `nixos` and `lib` of nixpkgs")]
    NoTree(PathBuf),
    /// A tree has more or larger files than nixpkgs.
    #[error("{0} is too large, or one file too many, for a module tree")]
    TooLarge(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The evaluator could not be started.
    #[error("prlimit and nix-instantiate could not be run: {0}")]
    Start(io::Error),
    /// The evaluation took too much time or memory, or its report is too long.
    #[error("the evaluation took more than its limit of time, memory or output")]
    Limit,
    /// The report has another form.
    #[error("the report of the evaluation is malformed: {}", Foreign::log(&.0.to_string()))]
    Report(serde_json::Error),
}
