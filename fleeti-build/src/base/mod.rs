//! The seam between bases: from a locked revision and a version to the unsigned parts of an image.

pub mod debian;

use crate::cache::Cache;
use crate::lock::{Lock, LockError};
use crate::overlay::Overlay;
use crate::runner::{RunError, Runner};
use crate::step::{ArtifactName, Step};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::profile::Revision;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What an image is made from.
#[derive(Debug)]
pub struct Inputs {
    /// Line and version.
    pub release: ReleaseName,
    /// The profile.
    pub revision: Revision,
    /// Which packages, exactly.
    pub lock: Lock,
    /// What the profile adds.
    pub overlay: Overlay,
    /// The agent's program.
    pub agent: PathBuf,
    /// The key whose signature over register 11 opens what devices seal to it, PEM.
    pub pcr_pem: String,
    /// Nothing older may follow this image.
    pub minimum_version: Version,
}

/// The unsigned parts of an image.
#[derive(Debug, Clone)]
pub struct Parts {
    /// By name: derivation and output path.
    pub derivations: BTreeMap<ArtifactName, Step>,
    /// The root file system.
    pub root: PathBuf,
    /// Its dm-verity tree.
    pub verity: PathBuf,
    /// dm-verity root hash, hexadecimal.
    pub root_hash: String,
    /// The unsigned unified kernel image.
    pub uki: PathBuf,
    /// The unsigned systemd-boot.
    pub systemd_boot: PathBuf,
    /// The disk with the unsigned parts on it.
    pub disk: PathBuf,
    /// PCR 11 by phase path, SHA-256 bank.
    pub pcr11: BTreeMap<String, String>,
    /// As in `257 (257.13-1~deb13u1)`.
    pub systemd_version: String,
}

/// Why a base did not make its parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The packages.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nix.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A build step gave something else than it should.
    #[error("the build gave no usable {0}")]
    Output(&'static str),
}

/// A base: what turns locked packages and an overlay into an image.
pub trait Base {
    /// The packages that an image of this profile needs, by set.
    fn packages(&self, revision: &Revision) -> BTreeMap<String, Vec<String>>;
    /// Builds.
    ///
    /// # Errors
    /// [`BaseError`], with the log's last lines where a step failed.
    fn build(
        &self,
        inputs: &Inputs,
        cache: &Cache,
        runner: &dyn Runner,
        line: &mut dyn FnMut(&str),
    ) -> Result<Parts, BaseError>;
}
