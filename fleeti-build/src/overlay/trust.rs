//! The public keys that go into an image.

use super::error::OverlayError;
use std::fs;
use std::path::{Path, PathBuf};

/// The public keys that go into an image.
#[derive(Debug, Clone)]
pub struct Trust {
    pub(super) root_pem: String,
    pub(super) release_pem: String,
    pub(super) audit_pub: String,
    pub(super) openpgp: Vec<u8>,
    pub(super) pcr_pem: String,
}

impl Trust {
    /// Reads the directory `public` of a PKI.
    ///
    /// # Errors
    /// [`OverlayError::Trust`] with the missing file.
    pub fn read(folder: &Path) -> Result<Self, OverlayError> {
        let path = |name: &str| folder.join(name);
        let error = |path: PathBuf| |source| OverlayError::Trust { path, source };
        let text = |name: &str| fs::read_to_string(path(name)).map_err(error(path(name)));
        Ok(Self {
            root_pem: text("root.pem")?,
            release_pem: text("release.pem")?,
            audit_pub: text("audit.pub")?,
            openpgp: fs::read(path("openpgp.gpg")).map_err(error(path("openpgp.gpg")))?,
            pcr_pem: text("pcr.pem")?,
        })
    }

    /// The public key of the PCR policy, PEM: a signature by it over PCR 11 opens what devices
    /// seal.
    #[must_use]
    pub fn pcr_pem(&self) -> &str {
        &self.pcr_pem
    }
}
