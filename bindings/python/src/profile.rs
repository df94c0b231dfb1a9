//! Profiles: resolution, differences, and their documents.

use crate::errors;
use fleeti_core::profile::{self, Builtin, Finding, Profile, json_schema};
use fleeti_core::strict;
use pyo3::prelude::*;
use serde::Serialize;

/// A document that was read.
#[derive(Serialize)]
struct Resolved {
    /// `None` if there are errors.
    profile: Option<Profile>,
    /// Errors and warnings, ordered by line.
    findings: Vec<Finding>,
    extends: Vec<String>,
}

/// Reads a document, TOML, and returns JSON.
#[pyfunction]
pub fn profile_resolve(python: Python<'_>, text: String) -> PyResult<Vec<u8>> {
    let resolved = python.detach(|| match profile::resolve(&text, &Builtin) {
        Ok(found) => Resolved {
            profile: Some(found.profile),
            findings: found.warnings,
            extends: found.extends,
        },
        Err(findings) => Resolved { profile: None, findings, extends: vec![] },
    });
    serde_json::to_vec(&resolved).map_err(errors::of_json)
}

fn read(python: Python<'_>, bytes: &[u8]) -> PyResult<Profile> {
    strict::from_request(bytes).map_err(|e| errors::invalid(python, format!("profile: {e}")))
}

/// What differs between two profiles, as JSON.
#[pyfunction]
pub fn profile_diff(python: Python<'_>, before: &[u8], after: &[u8]) -> PyResult<Vec<u8>> {
    let (before, after) = (read(python, before)?, read(python, after)?);
    let changes = profile::diff(&before, &after).map_err(errors::of_json)?;
    serde_json::to_vec(&changes).map_err(errors::of_json)
}

/// The document of a profile, TOML.
#[pyfunction]
pub fn profile_toml(python: Python<'_>, profile: &[u8]) -> PyResult<String> {
    toml::to_string_pretty(&read(python, profile)?).map_err(|e| errors::invalid(python, e))
}

/// The JSON schema of documents.
#[pyfunction]
pub fn profile_schema() -> PyResult<Vec<u8>> {
    let schema = json_schema().map_err(errors::of_json)?;
    serde_json::to_vec(&schema).map_err(errors::of_json)
}
