//! The release manifest: the signed description of a release.
//!
//! The signed bytes are the file `manifest.json`: canonical JSON (see [`crate::canonical`]), one
//! line, no trailing newline. Each signature is a separate file beside it, `manifest.<key id>.sig`:
//! ECDSA over P-384 with SHA-384, DER, so `openssl dgst -sha384 -verify` verifies it. The key id is
//! the first 16 hexadecimal digits of the SHA-256 of the key's SubjectPublicKeyInfo. The field
//! `type` separates the domains: every document that release keys sign has one.
//!
//! Parsing a manifest does not verify it: only `fleeti_pki::manifest::verify` does.

use crate::id::{Architecture, ReleaseName, Version};
use crate::strict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value of [`Manifest::kind`].
pub const KIND: &str = "fleeti-release-manifest";
/// Size limit of a manifest that a reader accepts, bytes.
pub const BYTES_MAX: usize = 256 * 1024;
/// Largest number of artifacts in a release.
pub const ARTIFACTS_MAX: usize = 64;
/// Critical fields that this version of the code knows.
pub const CRITICAL_KNOWN: &[&str] =
    &["release", "architecture", "artifacts", "root_hash", "minimum_version"];

/// The signed description of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The release.
    pub release: ReleaseName,
    /// Architecture of the devices.
    pub architecture: Architecture,
    /// SHA-256 of the canonical JSON of the profile revision.
    pub revision_digest: String,
    /// SHA-256 of the package lock.
    pub lock_digest: String,
    /// The artifacts of the release.
    pub artifacts: Vec<Artifact>,
    /// dm-verity root hash, hexadecimal.
    pub root_hash: String,
    /// Reference values for the evidence of a device that runs this release.
    pub reference_values: ReferenceValues,
    /// Lowest version that a device with this release installs.
    pub minimum_version: Version,
    /// When the release was made, Unix seconds. The device includes it in its time floor.
    pub created_s: u64,
    /// Fields that a reader must know. A reader that does not know one of them refuses the
    /// manifest.
    pub critical: Vec<String>,
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Artifact {
    /// Path in the release directory, for example `raw/kiosk_2.efi`.
    pub path: String,
    /// Size, bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Authenticode digest of an EFI binary (SHA-256, hexadecimal); absent for other files. The
    /// signature of each device is over this digest, and the firmware measures it into PCR 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticode: Option<String>,
}

/// Reference values (RFC 9334) of the measured boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceValues {
    /// systemd version of the boot stub, which determines what is measured.
    pub systemd_version: String,
    /// Values of PCR 11 in the SHA-256 bank, by boot phase path, for example
    /// `enter-initrd:leave-initrd:sysinit:ready`.
    pub pcr11: BTreeMap<String, String>,
    /// Value of PCR 9 in the SHA-256 bank, of the command line and the initrd; absent if it cannot
    /// be predicted for this systemd version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr9: Option<String>,
    /// Value of PCR 12: nothing is passed to the kernel beside the UKI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr12: Option<String>,
}

impl ReferenceValues {
    /// The number of the systemd version, for example 257.
    #[must_use]
    pub fn systemd(&self) -> Option<u16> {
        self.systemd_version
            .split(|c: char| !c.is_ascii_digit())
            .find(|t| !t.is_empty())?
            .parse()
            .ok()
    }
}

/// The boot phase path of a device that has finished booting.
pub const PHASE_READY: &str = "enter-initrd:leave-initrd:sysinit:ready";

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Larger than [`BYTES_MAX`].
    #[error("manifest has {0} bytes, expected at most {BYTES_MAX}")]
    TooLarge(usize),
    /// Not JSON, or a field is missing or wrong.
    #[error("manifest is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another kind of document.
    #[error("document is a {0:?}, not a {KIND}")]
    Kind(String),
    /// The manifest has a critical field that this reader does not know.
    #[error("manifest has the unknown critical field {0:?}; update the agent first")]
    UnknownCritical(String),
    /// A path that leads out of the release directory.
    #[error("artifact path {0:?} is not a plain path below raw/ or xz/")]
    Path(String),
    /// Too many artifacts, or two with the same path.
    #[error("manifest has {0} artifacts, expected at most {ARTIFACTS_MAX} with different paths")]
    Artifacts(usize),
}

impl Manifest {
    /// Parses a manifest and checks its form. Checks no signature.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = strict::from_slice(bytes)?;
        if manifest.kind != KIND {
            return Err(ManifestError::Kind(manifest.kind));
        }
        if let Some(field) =
            manifest.critical.iter().find(|f| !CRITICAL_KNOWN.contains(&f.as_str()))
        {
            return Err(ManifestError::UnknownCritical(field.clone()));
        }
        let mut seen = std::collections::HashSet::new();
        for artifact in &manifest.artifacts {
            if !is_artifact_path(&artifact.path) {
                return Err(ManifestError::Path(artifact.path.clone()));
            }
            if !seen.insert(&artifact.path) {
                return Err(ManifestError::Artifacts(manifest.artifacts.len()));
            }
        }
        if manifest.artifacts.is_empty() || manifest.artifacts.len() > ARTIFACTS_MAX {
            return Err(ManifestError::Artifacts(manifest.artifacts.len()));
        }
        Ok(manifest)
    }

    /// The artifact at `path`.
    #[must_use]
    pub fn artifact(&self, path: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|a| a.path == path)
    }

    /// The UKI below `raw/`.
    #[must_use]
    pub fn uki(&self) -> Option<&Artifact> {
        self.artifact(&format!("raw/{}_{}.efi", self.release.line, self.release.version))
    }

    /// The SBOM (CycloneDX); releases of earlier versions have none.
    #[must_use]
    pub fn sbom(&self) -> Option<&Artifact> {
        self.artifact(&format!("raw/{}", sbom_name(&self.release)))
    }

    /// The provenance (in-toto, SLSA); releases of earlier versions have none.
    #[must_use]
    pub fn provenance(&self) -> Option<&Artifact> {
        self.artifact(&format!("raw/{}", provenance_name(&self.release)))
    }
}

/// File name of the SBOM of a release, below `raw/`.
#[must_use]
pub fn sbom_name(release: &ReleaseName) -> String {
    format!("{}_{}.cdx.json", release.line, release.version)
}

/// File name of the provenance of a release, below `raw/`.
#[must_use]
pub fn provenance_name(release: &ReleaseName) -> String {
    format!("{}_{}.intoto.json", release.line, release.version)
}

/// Whether a path is `raw/<file>` or `xz/<file>`, where the file name has no separator and does not
/// start with a dot.
#[must_use]
pub fn is_artifact_path(path: &str) -> bool {
    let Some((view, file)) = path.split_once('/') else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    ["raw", "xz"].contains(&view)
        && !file.is_empty()
        && file.len() <= 128
        && !file.starts_with('.')
        && file.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            kind: KIND.to_owned(),
            release: "kiosk@2".parse().unwrap(),
            architecture: Architecture::X86_64,
            revision_digest: "aa".into(),
            lock_digest: "bb".into(),
            artifacts: vec![Artifact {
                path: "raw/kiosk_2.efi".into(),
                size: 1,
                sha256: "cc".into(),
                authenticode: None,
            }],
            root_hash: "dd".into(),
            reference_values: ReferenceValues {
                systemd_version: "257".into(),
                ..ReferenceValues::default()
            },
            minimum_version: "1".parse().unwrap(),
            created_s: 0,
            critical: vec!["release".into()],
        }
    }

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<Manifest, ManifestError> {
        let mut value = serde_json::to_value(manifest()).unwrap();
        change(&mut value);
        Manifest::parse(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn a_field_that_is_unknown_and_not_critical_passes() {
        assert_eq!(parse(|v| v["colour"] = "red".into()).unwrap(), manifest());
    }

    #[test]
    fn an_unknown_critical_field_is_refused_by_name() {
        let e = parse(|v| v["critical"] = serde_json::json!(["release", "epoch"])).unwrap_err();
        assert!(matches!(e, ManifestError::UnknownCritical(f) if f == "epoch"));
    }

    #[test]
    fn paths_out_of_the_release_are_refused() {
        for bad in ["raw/../x", "/etc/passwd", "raw/a/b", "raw/.x", "raw/", "other/x", "raw/a b"] {
            assert!(
                matches!(
                    parse(|v| v["artifacts"][0]["path"] = bad.into()),
                    Err(ManifestError::Path(_))
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn another_kind_of_document_is_refused() {
        assert!(matches!(
            parse(|v| v["type"] = "trust-bundle".into()),
            Err(ManifestError::Kind(_))
        ));
    }
}
