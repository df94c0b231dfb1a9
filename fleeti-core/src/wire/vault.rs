//! Secrets of fleets, and recovery keys that open a device's data partition without its TPM. The
//! server keeps both, and releases them only as the policy permits.

use super::attestation::Secret;
use crate::id::SecretName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest secret, bytes.
pub const SECRET_MAX: usize = 16 * 1024;
/// Largest number of secrets of a fleet.
pub const SECRETS_MAX: usize = 24;
/// Longest recovery key, bytes.
pub const RECOVERY_KEY_MAX: usize = 256;
/// Shortest and longest reason for revealing a recovery key, bytes of UTF-8.
pub const REASON: std::ops::RangeInclusive<usize> = 3..=160;
/// How long a [`SecretsTicket`] is valid, seconds.
pub const TICKET_S: u64 = 60;

/// Whether a text has the form of a recovery key of systemd-cryptenroll(1): lower-case letters with
/// dashes between them.
#[must_use]
pub fn is_recovery_key(text: &str) -> bool {
    (1..=RECOVERY_KEY_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// Whether a text is a valid reason for revealing a recovery key: one line of [`REASON`] bytes.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    REASON.contains(&text.len()) && !text.chars().any(char::is_control)
}

/// `PUT /recovery-key`: the device stores the key that opens its data partition without its TPM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryKey {
    /// The recovery key as systemd-cryptenroll made it.
    pub key: Secret,
}

/// `down/secrets`: sent when the device has proved the level that the secrets of its fleet require.
/// Valid once, for [`TICKET_S`] seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsTicket {
    /// 32 bytes, hexadecimal.
    pub ticket: Secret,
    /// Number of the last change of the secrets. A device that already has this version does not
    /// fetch them.
    pub version: u64,
}

/// `POST /secrets`: the device fetches the secrets of its fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSecrets {
    /// Ticket of the last [`SecretsTicket`].
    pub ticket: Secret,
}

/// The secrets of a fleet, as its devices receive them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Number of the last change of the secrets.
    pub version: u64,
    /// Values by name, base64.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// By name, the change that set each value; empty from an older server.
    #[serde(default)]
    pub changes: BTreeMap<SecretName, SecretChange>,
}

/// The change that set a secret. Number and time name it: after a restore of the server the number
/// alone may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretChange {
    /// Number of the change of the fleet's secrets.
    pub version: u64,
    /// When it was set, Unix seconds.
    pub changed_s: u64,
}

/// A secret of a fleet, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetSecret {
    /// Name of the secret, and of its file in `/run/fleeti-secrets` on the devices of the fleet.
    pub name: SecretName,
    /// When the secret was last set, Unix seconds.
    pub changed_s: u64,
    /// Number of the change of the fleet's secrets that set it. Devices report it.
    #[serde(default)]
    pub version: u64,
}

/// Sets a secret of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value, base64; at most 16 KiB before encoding.
    #[schema(value_type = String)]
    pub value: Secret,
}

/// Whether the server has a recovery key of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecoveryKeyStatus {
    /// When the device stored the key, Unix seconds.
    pub kept_s: u64,
    /// When the key was last revealed, Unix seconds. The device replaces it at the first boot after
    /// it learned of this.
    pub shown_s: Option<u64>,
    /// Whether the server also has the previous key.
    pub has_previous: bool,
}

/// Reveals the recovery key of a device.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowRecoveryKey {
    /// Why the key is needed. Kept in the audit log.
    pub reason: String,
    /// Reveal the previous key, for the case that the newest one does not open the partition.
    #[serde(default)]
    pub previous: bool,
}

/// The recovery key of a device.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShownRecoveryKey {
    /// The key, for `cryptsetup open` or for the prompt of any Linux that boots with this disk
    /// attached.
    #[schema(value_type = String)]
    pub key: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recovery_key_is_none() {
        assert!(is_recovery_key(
            "vkukefhi-jlicfclt-rkbghfcb-hjdlvvnt-hdkbkrvu-clchhtfj-njkeuivc-dlldkvkj"
        ));
        for bad in ["", "Error: no", "abc\ndef", &"a".repeat(RECOVERY_KEY_MAX + 1)] {
            assert!(!is_recovery_key(bad), "{bad:?}");
        }
    }
}
