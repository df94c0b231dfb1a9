//! What a device reports that it booted, and what its firmware may start: Secure Boot variables,
//! and signatures for this device.

use crate::id::ReleaseName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The slot that a device runs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first root partition.
    A,
    /// The second root partition.
    B,
}

/// State of dm-verity under the root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verity {
    /// All blocks read so far were correct.
    Verified,
    /// A block was corrupt.
    Corrupted,
    /// The root file system does not use dm-verity.
    Absent,
}

/// What a device reports that it runs. Self-reported: it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BootSummary {
    /// The kernel's boot id.
    pub boot_id: String,
    /// `IMAGE_ID` and `IMAGE_VERSION` of os-release.
    pub running: ReleaseName,
    /// The slot that it runs from.
    pub slot: Slot,
    /// State of dm-verity.
    pub verity: Verity,
    /// Value of the firmware's SecureBoot variable.
    pub secure_boot: bool,
    /// PCR 11 of the SHA-256 bank after `ready`, hexadecimal; `None` without a TPM.
    pub pcr11: Option<String>,
    /// Content of the firmware's Secure Boot variables; absent if the device has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareKeys>,
    /// Whether the data partition is sealed to the TPM; absent from an older agent that does not
    /// report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_data: Option<bool>,
}

/// Content of the Secure Boot variables of a device. Certificates are given by the SHA-256 of their
/// DER, hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirmwareKeys {
    /// Whether the firmware is in setup mode: it has no platform key, and software on the device
    /// can write the variables.
    pub setup_mode: bool,
    /// PK; `null` if there is none.
    pub pk: Option<String>,
    /// KEK.
    pub kek: Vec<String>,
    /// db.
    pub db: Vec<String>,
    /// Digests in dbx, SHA-256, hexadecimal.
    pub dbx: Vec<String>,
    /// Number of the last change that the device applied.
    #[serde(default)]
    pub change: u64,
    /// Why the device refused the next change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A Secure Boot variable (UEFI 2.10, 32.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum BootVariable {
    /// The platform key: signs changes of PK and KEK.
    #[serde(rename = "PK")]
    Pk,
    /// Key exchange keys: sign changes of db and dbx.
    #[serde(rename = "KEK")]
    Kek,
    /// Keys and digests of EFI binaries that may start.
    #[serde(rename = "db")]
    Db,
    /// Keys and digests of EFI binaries that may not start.
    #[serde(rename = "dbx")]
    Dbx,
}

/// A signed write of a Secure Boot variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VariableWrite {
    /// The variable.
    pub variable: BootVariable,
    /// Append to the variable instead of replacing it.
    pub append: bool,
    /// EFI_VARIABLE_AUTHENTICATION_2 and the value, base64: the content of an `.auth` file.
    pub auth: String,
}

/// `GET /releases/{line}/{version}/boot.json`: signatures for this device only, by the path of the
/// EFI binary in the release: PKCS#7, DER, base64. Empty for a device that boots what is signed for
/// all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BootSignatures {
    /// Signatures by path, for example `raw/kiosk_2.efi`.
    #[serde(deserialize_with = "crate::strict::unique")]
    pub binaries: BTreeMap<String, String>,
}

/// `GET /boot/change.json`: the last change of a device's Secure Boot variables, and the signatures
/// that its current EFI binaries need after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootChange {
    /// Grows with every change.
    pub number: u64,
    /// Signatures over the EFI binaries that the device runs.
    pub signatures: BootSignatures,
    /// Writes in the order to apply them. The firmware refuses a write that was already applied,
    /// because it is not newer.
    pub writes: Vec<VariableWrite>,
    /// Whether the other slot may stop booting after the change.
    pub may_end_fallback: bool,
}
