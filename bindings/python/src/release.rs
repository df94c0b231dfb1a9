//! Verification of releases.

use crate::errors;
use fleeti_build::release;
use fleeti_core::manifest::{self, Manifest};
use fleeti_pki::manifest::{ReleaseKeys, Signature, Verified};
use pyo3::prelude::*;
use std::path::PathBuf;

/// A verified release: its signatures and files were checked. Only `verify_release` creates one.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct VerifiedRelease(Verified);

#[pymethods]
impl VerifiedRelease {
    /// The name of the release, for example `kiosk@2`.
    #[getter]
    fn release(&self) -> String {
        self.0.manifest().release.to_string()
    }
    /// The image line.
    #[getter]
    fn line(&self) -> &str {
        self.0.manifest().release.line.as_str()
    }
    /// The version within the line.
    #[getter]
    fn version(&self) -> &str {
        self.0.manifest().release.version.as_str()
    }
    /// The architecture, for example `x86_64`.
    #[getter]
    fn architecture(&self) -> &'static str {
        self.0.manifest().architecture.as_str()
    }
    /// dm-verity root hash, hexadecimal.
    #[getter]
    fn root_hash(&self) -> &str {
        &self.0.manifest().root_hash
    }
    /// Lowest version that a device with this release installs.
    #[getter]
    fn minimum_version(&self) -> &str {
        self.0.manifest().minimum_version.as_str()
    }
    /// SHA-256 of `manifest.json`, hexadecimal.
    #[getter]
    fn manifest_sha256(&self) -> &str {
        self.0.sha256()
    }
    /// The artifacts of the release.
    #[getter]
    fn artifacts(&self) -> Vec<Artifact> {
        self.0.manifest().artifacts.iter().cloned().map(Artifact).collect()
    }
    fn __repr__(&self) -> String {
        format!("VerifiedRelease({:?})", self.release())
    }
}

/// A file of a release.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct Artifact(manifest::Artifact);

#[pymethods]
impl Artifact {
    /// Path in the release directory.
    #[getter]
    fn path(&self) -> &str {
        &self.0.path
    }
    /// Size, bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }
    /// SHA-256, hexadecimal.
    #[getter]
    fn sha256(&self) -> &str {
        &self.0.sha256
    }
    fn __repr__(&self) -> String {
        format!("Artifact({:?}, {} bytes)", self.0.path, self.0.size)
    }
}

/// Verifies a release directory: the signatures of its manifest, then every file.
///
/// `trust` is the directory `public` that `fleeti pki init` makes. Raises `UntrustedError` with the
/// first error.
#[pyfunction]
#[pyo3(signature = (dir, trust))]
pub fn verify_release(
    python: Python<'_>,
    dir: PathBuf,
    trust: PathBuf,
) -> PyResult<VerifiedRelease> {
    let verified = python.detach(|| {
        let path = trust.join("release.pem");
        let pem = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let keys = ReleaseKeys::from_pem(&pem).map_err(|e| format!("{}: {e}", path.display()))?;
        release::verify(&dir, &keys).map_err(|e| e.to_string())
    });
    verified.map(VerifiedRelease).map_err(|e: String| errors::untrusted(python, e))
}

/// The name of the release in a directory, and the paths of the files to upload. Checks the form
/// only: the server and each device decide whether to trust it.
#[pyfunction]
#[pyo3(signature = (dir))]
pub fn release_files(python: Python<'_>, dir: PathBuf) -> PyResult<(String, Vec<String>)> {
    let read = || {
        let path = dir.join("manifest.json");
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let manifest = Manifest::parse(&bytes).map_err(|e| e.to_string())?;
        let signatures = release::read_signatures(&dir).map_err(|e| e.to_string())?;
        let files = ["manifest.json".to_owned()]
            .into_iter()
            .chain(signatures.iter().map(Signature::file_name))
            .chain(manifest.artifacts.iter().map(|a| a.path.clone()));
        Ok((manifest.release.to_string(), files.collect()))
    };
    python.detach(read).map_err(|e: String| errors::invalid(python, e))
}
