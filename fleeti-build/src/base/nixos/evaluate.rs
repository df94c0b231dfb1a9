//! Evaluates a profile with the modules of a tree.

use super::error::EvaluationError;
use super::findings;
use super::input::Input;
use super::process;
use super::sources;
use super::tree::{Tree, packages};
use fleeti_core::profile::SuiteFindings;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;

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
    // Nobody can tell without a package set whether a package of the extension exists.
    let own = packages(extension).filter(|name| !tree.names().iter().any(|known| known == name));
    let names: Vec<_> = tree.names().iter().map(String::as_str).chain(own).collect();
    let names = serde_json::to_vec(&names).map_err(EvaluationError::Report)?;
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
