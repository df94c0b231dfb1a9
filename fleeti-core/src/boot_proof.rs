//! The proof that a release boots as it promises: a machine, virtual or real, has started it and
//! its TPM said so. It is signed by release keys, so that a fleet may take no release without one.
//!
//! The signed bytes are canonical JSON (see [`crate::canonical`]); the field `type` tells them from
//! a manifest.

use crate::attestation::Level;
use crate::id::{DeviceId, ReleaseName};
use crate::manifest::{Manifest, PHASE_READY};
use crate::strict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value of [`BootProof::kind`].
pub const KIND: &str = "fleeti-boot-proof";
/// Largest document that anybody reads.
pub const BYTES_MAX: usize = 8 * 1024;
/// The lowest level of a device whose word counts: firmware verified what it started.
pub const LEVEL_MIN: Level = Level::VerifiedBoot;
/// Registers that are quoted in a proof: firmware, programs, Secure Boot policy, command line and
/// initrd, kernel image, what was passed beside it.
pub const REGISTERS: [u8; 7] = [0, 2, 4, 7, 9, 11, 12];

/// That a release boots as it promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootProof {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Which.
    pub release: ReleaseName,
    /// SHA-256 of its `manifest.json`, hexadecimal.
    pub manifest_sha256: String,
    /// What started it.
    pub device: DeviceId,
    /// How far that device was trusted.
    pub level: Level,
    /// What its TPM quoted, SHA-256, hexadecimal, by the register's number.
    pub registers: BTreeMap<String, String>,
    /// SHA-256 of the quote, hexadecimal.
    pub evidence: String,
    /// When, Unix seconds.
    pub proved_s: u64,
}

/// Why a document proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoProof {
    /// Larger than [`BYTES_MAX`].
    #[error("a boot proof has {BYTES_MAX} bytes at the most, this one {0}")]
    TooLarge(usize),
    /// Not JSON, or a field is missing or wrong.
    #[error("the boot proof is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another kind of document.
    #[error("the document is a {0:?}, not a {KIND}")]
    Kind(String),
    /// Of another release.
    #[error("the boot proof is of {0}, manifest {1}")]
    Release(ReleaseName, String),
    /// Of a device that is not trusted enough.
    #[error("the device was at {}, at least {} is needed", .0.code(), LEVEL_MIN.code())]
    Level(Level),
    /// A register is another one than the manifest says.
    #[error("register {register} held {found}, the manifest says {expected}")]
    Register {
        /// Which.
        register: u8,
        /// In the proof.
        found: String,
        /// In the manifest.
        expected: String,
    },
}

impl BootProof {
    /// Reads a proof; says nothing about trust.
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

    /// That it proves this release: register by register what the manifest says will be measured.
    ///
    /// # Errors
    /// [`NoProof`]; a manifest that says nothing of a register is proved by nothing.
    pub fn check(&self, manifest: &Manifest, manifest_sha256: &str) -> Result<(), NoProof> {
        if self.release != manifest.release || self.manifest_sha256 != manifest_sha256 {
            return Err(NoProof::Release(self.release.clone(), self.manifest_sha256.clone()));
        }
        if self.level < LEVEL_MIN {
            return Err(NoProof::Level(self.level));
        }
        let values = &manifest.reference_values;
        for (register, expected) in
            [(9, &values.pcr9), (11, &values.pcr11.get(PHASE_READY).cloned()), (12, &values.pcr12)]
        {
            let found = self.registers.get(&register.to_string());
            if expected.is_none() || found != expected.as_ref() {
                let text =
                    |value: Option<&String>| value.cloned().unwrap_or_else(|| "nothing".into());
                return Err(NoProof::Register {
                    register,
                    found: text(found),
                    expected: text(expected.as_ref()),
                });
            }
        }
        Ok(())
    }
}
