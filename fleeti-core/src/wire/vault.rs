//! What the server keeps for devices and gives away by rule: secrets of fleets, and the keys that
//! open a device's data partition without its TPM.

use super::attestation::Secret;
use crate::id::SecretName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest secret, bytes.
pub const SECRET_MAX: usize = 16 * 1024;
/// Most secrets of a fleet.
pub const SECRETS_MAX: usize = 24;
/// Longest recovery key, bytes.
pub const RECOVERY_KEY_MAX: usize = 256;
/// Shortest and longest reason for looking at a recovery key, bytes of UTF-8.
pub const REASON: std::ops::RangeInclusive<usize> = 3..=160;
/// How long a [`SecretsTicket`] is good for, seconds.
pub const TICKET_S: u64 = 60;

/// Whether a text is a recovery key as systemd-cryptenroll(1) makes one: lower-case letters with
/// dashes between them.
#[must_use]
pub fn is_recovery_key(text: &str) -> bool {
    (1..=RECOVERY_KEY_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// Whether a text may be the reason for looking at a recovery key: one line of [`REASON`].
#[must_use]
pub fn is_reason(text: &str) -> bool {
    REASON.contains(&text.len()) && !text.chars().any(char::is_control)
}

/// `PUT /recovery-key` of a device: what opens its data partition without its TPM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryKey {
    /// As systemd-cryptenroll made it.
    pub key: Secret,
}

/// `down/secrets`: the device has just proved enough for the secrets of its fleet. Good once, for
/// [`TICKET_S`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsTicket {
    /// 32 bytes, hexadecimal.
    pub ticket: Secret,
    /// Number of the last change; a device that has these already does not fetch them.
    pub version: u64,
}

/// `POST /secrets` of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSecrets {
    /// Of the last [`SecretsTicket`].
    pub ticket: Secret,
}

/// The secrets of a fleet, as its devices get them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Number of the last change.
    pub version: u64,
    /// Base64, by their names.
    pub secrets: BTreeMap<SecretName, Secret>,
}

/// A secret of a fleet, without what is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetSecret {
    /// Its name: a file of that name in `/run/fleeti-secrets` of the fleet's devices.
    pub name: SecretName,
    /// When it was set last, Unix seconds.
    pub changed_s: u64,
}

/// Sets a secret of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Base64 of at most 16 KiB.
    #[schema(value_type = String)]
    pub value: Secret,
}

/// Whether the server keeps a recovery key of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecoveryKeyStatus {
    /// Since when, Unix seconds.
    pub kept_s: u64,
    /// When somebody saw it last; the device replaces it at the boot after it has heard of that.
    pub shown_s: Option<u64>,
    /// Whether the one before is kept as well.
    pub has_previous: bool,
}

/// Asks for the recovery key of a device.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowRecoveryKey {
    /// Why, in words: it is in the audit log for ever.
    pub reason: String,
    /// The one before: where the newest does not open the partition.
    #[serde(default)]
    pub previous: bool,
}

/// The recovery key of a device.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShownRecoveryKey {
    /// For `cryptsetup open`, or the prompt of any Linux that is started beside the disk.
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
