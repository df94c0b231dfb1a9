//! Evaluates a profile with the modules of a tree.

use super::findings;
use super::process;
use super::sources;
use super::{Input, Tree};
use fleeti_core::foreign::Foreign;
use fleeti_core::profile::SuiteFindings;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Errors and warnings, each at its field.
    pub findings: SuiteFindings,
    /// The evaluated system as `nix/nixos/report.nix` describes it; `None` if the modules did not
    /// evaluate.
    pub report: Option<Value>,
}

/// Evaluates a profile with the modules of a tree, in a process with limits. It reads the tree and
/// the input, and nothing else of the machine.
///
/// # Errors
/// [`EvaluationError`].
pub fn evaluate(tree: &Tree, input: &Input<'_>) -> Result<Evaluation, EvaluationError> {
    let folder = tempfile::Builder::new().prefix("fleeti-nixos-").tempdir();
    let folder = folder.map_err(io_at(&std::env::temp_dir()))?;
    let work = fs::canonicalize(folder.path()).map_err(io_at(folder.path()))?;
    sources::write(&work).map_err(io_at(&work))?;
    let extension = &input.profile().extension.nixos;
    let json = input.to_json().map_err(EvaluationError::Report)?;
    let names = serde_json::to_vec(tree.names()).map_err(EvaluationError::Report)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = work.join(name);
        fs::write(&path, bytes).map_err(io_at(&path))
    };
    write("input.json", &json)?;
    write("names.json", &names)?;
    write("extension.nix", extension.as_bytes())?;

    let output = process::run(&work, tree.root(), !extension.is_empty())?;
    if !output.is_success {
        let findings = findings::of_error(input.profile(), &output.stderr);
        return Ok(Evaluation { findings, report: None });
    }
    let report: Value = serde_json::from_slice(&output.stdout).map_err(EvaluationError::Report)?;
    Ok(Evaluation { findings: findings::of_report(input.profile(), &report), report: Some(report) })
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> EvaluationError {
    let path = path.to_owned();
    |source| EvaluationError::Io { path, source }
}
