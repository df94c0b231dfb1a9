//! What a device reports that it booted, and what its firmware may start: Secure Boot variables,
//! and signatures for this device.

use crate::boot_secret::{Fate, State};
use crate::id::{ReleaseName, SecretName};
use crate::wire::alarm::AlarmKind;
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
    /// Secrets that the device needs to reach the server, as its image names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<BootSecret>,
}

/// Which values of a secret of its boot a device holds, by the number of the change that set each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BootSecret {
    /// Name of the secret in the fleet.
    pub name: SecretName,
    /// What the device does with its values.
    pub phase: BootSecretPhase,
    /// The value in use; absent if the device uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The value that the device holds beside it; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<u64>,
    /// Why the device does not use the other value; absent if it holds only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// Until when the device waits for the server with the value in use, Unix seconds; absent if it
    /// does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<u64>,
    /// Why the device stores no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a device does with the values of a secret of its boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootSecretPhase {
    /// It reached the server with the value in use.
    Settled,
    /// It tries a new value; the other one returns if it does not reach the server.
    Trial,
    /// It reached the server with neither value, and uses them in turn.
    Searching,
}

impl BootSecret {
    /// The status of a secret in a state. `until_s` is Unix seconds.
    #[must_use]
    pub fn of(name: SecretName, state: &State, until_s: Option<u64>) -> Self {
        let spare = state.spare();
        Self {
            name,
            phase: match state {
                State::Settled { .. } => BootSecretPhase::Settled,
                State::Trial { .. } => BootSecretPhase::Trial,
                State::Searching { .. } => BootSecretPhase::Searching,
            },
            used: state.used().map(|v| v.version),
            other: spare.and_then(|s| s.held).map(|v| v.version),
            fate: spare.map(|s| s.fate),
            until_s,
            problem: None,
        }
    }

    /// The alarm of a secret with a new value that did not reach the server, or that is not stored.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        let name = &self.name;
        let words = match (&self.problem, self.other, self.fate) {
            (Some(_), ..) => format!("the secret {name} is not stored on the device"),
            (None, Some(new), Some(Fate::Refused { .. })) => {
                let old =
                    self.used.map_or_else(|| "no value".to_owned(), |v| format!("version {v}"));
                format!("version {new} of the secret {name} was not accepted; returned to {old}")
            }
            _ => return None,
        };
        Some(AlarmKind::SecretRefused.text(words))
    }

    /// The status in words. `time` formats Unix seconds.
    #[must_use]
    pub fn describe(&self, time: impl Fn(u64) -> String) -> String {
        let named = |version: Option<u64>| match version {
            Some(version) => format!("version {version}"),
            None => "no value".to_owned(),
        };
        let (used, other) = (named(self.used), named(self.other));
        if let Some(problem) = &self.problem {
            return format!("not stored: {problem}");
        }
        let until = self.until_s.map_or_else(String::new, |s| format!(" until {}", time(s)));
        match (self.phase, self.fate) {
            (BootSecretPhase::Trial, _) => format!("tries {used}{until}, then returns to {other}"),
            (BootSecretPhase::Searching, _) => {
                format!("{used}{until}, in turn with {other}: neither reached the server")
            }
            (BootSecretPhase::Settled, Some(Fate::Refused { at_s })) => format!(
                "{used}; {other} was not accepted: it did not reach the server, returned at {}",
                time(at_s)
            ),
            (BootSecretPhase::Settled, Some(Fate::Waiting)) => {
                format!("{used}; {other} waits for its trial")
            }
            (BootSecretPhase::Settled, Some(Fate::Replaced) | None) => used,
        }
    }
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
