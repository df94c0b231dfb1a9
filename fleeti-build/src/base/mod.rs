//! The trait of bases: what a base honours of a profile, and, for a base that has images, how their
//! unsigned artifacts are built from a profile revision and a lock.

mod compiler;
pub mod debian;
mod honoured;
pub mod nixos;

pub use compiler::Compilers;
pub(crate) use compiler::check as check_compilers;
pub use honoured::{HonourError, Ignored};

use crate::cache::Cache;
use crate::lock::{Lock, LockError};
use crate::overlay::Overlay;
use crate::runner::{RunError, Runner};
use crate::step::{ArtifactName, Step};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::profile::{BaseName, Profile, Revision};
use fleeti_core::wire::problem::FieldError;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What an image is made from.
#[derive(Debug)]
pub struct Inputs {
    /// The release.
    pub release: ReleaseName,
    /// The profile revision.
    pub revision: Revision,
    /// The exact packages.
    pub lock: Lock,
    /// The files that Fleeti and the profile add.
    pub overlay: Overlay,
    /// Path of the agent binary.
    pub agent: PathBuf,
    /// The public key of the PCR policy, PEM: a signature by it over PCR 11 opens what devices
    /// seal.
    pub pcr_pem: String,
    /// Minimum version of the image.
    pub minimum_version: Version,
}

/// The unsigned artifacts of an image.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Derivation and output path of each step.
    pub derivations: BTreeMap<ArtifactName, Step>,
    /// The root file system.
    pub root: PathBuf,
    /// The dm-verity tree of the root file system.
    pub verity: PathBuf,
    /// Reports to be kept beside the artifacts, by name.
    pub reports: BTreeMap<&'static str, PathBuf>,
    /// dm-verity root hash, hexadecimal.
    pub root_hash: String,
    /// The unsigned UKI.
    pub uki: PathBuf,
    /// The unsigned systemd-boot.
    pub systemd_boot: PathBuf,
    /// The disk with the unsigned artifacts.
    pub disk: PathBuf,
    /// Values of PCR 11 in the SHA-256 bank, by boot phase path.
    pub pcr11: BTreeMap<String, String>,
    /// Version of systemd, for example `257 (257.13-1~deb13u1)`.
    pub systemd_version: String,
}

/// Why a base failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The package lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The run of Nix.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A build step produced an unexpected output.
    #[error("the build produced no usable {0}")]
    Output(&'static str),
}

/// A base: a distribution that profiles are for.
pub trait Base: Sync {
    /// Its name.
    fn name(&self) -> BaseName;
    /// The fields of a profile that the base honours, as [`fleeti_core::profile::fields`] has them.
    fn honoured(&self) -> &'static [&'static str];
    /// Fields that the base cannot honour, with the reason: others may be honoured later.
    fn impossible(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// Values of honoured fields that the base cannot honour.
    fn refused(&self, _profile: &Profile) -> Vec<Ignored> {
        Vec::new()
    }
    /// Checks that the base honours everything that a profile sets.
    ///
    /// # Errors
    /// [`HonourError::Fields`] with everything else.
    fn check(&self, profile: &Profile) -> Result<(), HonourError> {
        honoured::check(
            self.name(),
            self.honoured(),
            self.impossible(),
            self.refused(profile),
            profile,
        )
    }
    /// How images of the base are made; `None` if this version makes none.
    fn maker(&self) -> Option<&dyn Maker>;
}

/// Makes images of a base from locked packages and an overlay.
pub trait Maker {
    /// The packages that the base chooses, and that no other source may replace.
    fn own_packages(&self) -> &'static [&'static str];
    /// The packages that an image of this profile needs, by set.
    fn packages(&self, revision: &Revision) -> BTreeMap<String, Vec<String>>;
    /// Builds the artifacts.
    ///
    /// # Errors
    /// [`BaseError`], with the last lines of the log of a failed step.
    fn build(
        &self,
        inputs: &Inputs,
        cache: &Cache,
        runner: &dyn Runner,
        line: &mut dyn FnMut(&str),
    ) -> Result<Parts, BaseError>;
}

/// The base of a name.
#[must_use]
pub fn of(name: BaseName) -> &'static dyn Base {
    match name {
        BaseName::Debian => &debian::Debian,
        BaseName::Nixos => &nixos::Nixos,
    }
}

/// Checks that the base of a profile honours it, and returns what makes its images.
///
/// # Errors
/// [`HonourError`] if the base does not honour the profile; [`NotBuilt`] if it makes no images.
pub(crate) fn maker(profile: &Profile) -> Result<&'static dyn Maker, BaseRefusal> {
    let base = of(profile.base);
    base.check(profile)?;
    Ok(base.maker().ok_or(NotBuilt { base: profile.base })?)
}

/// Images of a base cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("base: no images of the base {base} are built: it is {}", .base.standing())]
pub struct NotBuilt {
    /// The base.
    pub base: BaseName,
}

impl NotBuilt {
    /// As the server reports it.
    #[must_use]
    pub fn to_error(&self) -> FieldError {
        let (base, standing) = (self.base, self.base.standing());
        FieldError {
            path: "base".to_owned(),
            message: format!("no images of the base {base} are built: it is {standing}"),
            remedy: "set base = \"debian\" for images of devices".to_owned(),
            suggestion: None,
        }
    }
}

/// Why no image of a profile is built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseRefusal {
    /// The base does not honour a field of the profile.
    #[error(transparent)]
    Honour(#[from] HonourError),
    /// The base makes no images.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
}
