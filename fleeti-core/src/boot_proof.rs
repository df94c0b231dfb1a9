//! Boot proof: a device, virtual or real, booted a release, and its TPM measured what the manifest
//! predicts. Release keys sign the proof, so that a fleet can require one before a rollout.
//!
//! The signed bytes are canonical JSON (see [`crate::canonical`]). The field `type` distinguishes a
//! boot proof from a manifest.

use crate::attestation::Level;
use crate::id::{DeviceId, ReleaseName};
use crate::manifest::{Manifest, PHASE_READY};
use crate::strict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value of [`BootProof::kind`].
pub const KIND: &str = "fleeti-boot-proof";
/// Size limit of a boot proof that a reader accepts, bytes.
pub const BYTES_MAX: usize = 8 * 1024;
/// Minimum attestation level of the device: its firmware verified what it started.
pub const LEVEL_MIN: Level = Level::VerifiedBoot;
/// PCRs that a boot proof contains: firmware, EFI binaries, Secure Boot policy, command line and
/// initrd, UKI, and what was passed to the kernel beside the UKI.
pub const PCRS: [u8; 7] = [0, 2, 4, 7, 9, 11, 12];

/// Proof that a device booted a release and measured what its manifest predicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootProof {
    /// Always `fleeti-boot-proof`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The release.
    pub release: ReleaseName,
    /// SHA-256 of the release's `manifest.json`, hexadecimal.
    pub manifest_sha256: String,
    /// The device that booted the release.
    pub device: DeviceId,
    /// Attestation level of the device.
    pub level: Level,
    /// PCR values of the device's quote, SHA-256, hexadecimal, by the number of the PCR.
    pub pcrs: BTreeMap<String, String>,
    /// SHA-256 of the quote, hexadecimal.
    pub evidence: String,
    /// When the evidence was appraised, Unix seconds.
    pub proved_s: u64,
}

/// Why a boot proof is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoProof {
    /// Larger than [`BYTES_MAX`].
    #[error("boot proof has {0} bytes, expected at most {BYTES_MAX}")]
    TooLarge(usize),
    /// Not JSON, or a field is missing or wrong.
    #[error("boot proof is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another kind of document.
    #[error("document is a {0:?}, not a {KIND}")]
    Kind(String),
    /// The proof is of another release.
    #[error("boot proof is of {0} with the manifest {1}")]
    Release(ReleaseName, String),
    /// The level of the device is too low.
    #[error("the device had level {}, expected at least {}", .0.code(), LEVEL_MIN.code())]
    Level(Level),
    /// A PCR value differs from the manifest.
    #[error("PCR {pcr} has the value {found}, the manifest expects {expected}")]
    Pcr {
        /// Number of the PCR.
        pcr: u8,
        /// Value in the proof.
        found: String,
        /// Value in the manifest.
        expected: String,
    },
}

impl BootProof {
    /// Parses a boot proof. Checks no signature.
    ///
    /// # Errors
    /// [`NoProof::TooLarge`], [`NoProof::Malformed`], [`NoProof::Kind`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoProof> {
        if bytes.len() > BYTES_MAX {
            return Err(NoProof::TooLarge(bytes.len()));
        }
        let proof: Self = strict::from_slice(bytes)?;
        if proof.kind != KIND {
            return Err(NoProof::Kind(proof.kind));
        }
        Ok(proof)
    }

    /// Checks that the proof is of this release, and that its PCR values are those of the manifest.
    ///
    /// # Errors
    /// [`NoProof`]; also if the manifest has no value for one of the PCRs.
    pub fn check(&self, manifest: &Manifest, manifest_sha256: &str) -> Result<(), NoProof> {
        if self.release != manifest.release || self.manifest_sha256 != manifest_sha256 {
            return Err(NoProof::Release(self.release.clone(), self.manifest_sha256.clone()));
        }
        if self.level < LEVEL_MIN {
            return Err(NoProof::Level(self.level));
        }
        let values = &manifest.reference_values;
        for (pcr, expected) in
            [(9, &values.pcr9), (11, &values.pcr11.get(PHASE_READY).cloned()), (12, &values.pcr12)]
        {
            let found = self.pcrs.get(&pcr.to_string());
            if expected.is_none() || found != expected.as_ref() {
                let text =
                    |value: Option<&String>| value.cloned().unwrap_or_else(|| "nothing".into());
                return Err(NoProof::Pcr {
                    pcr,
                    found: text(found),
                    expected: text(expected.as_ref()),
                });
            }
        }
        Ok(())
    }
}
