//! The messages between a server and the devices that it knows.
//!
//! Agents can be older than servers. What an agent reads ([`DesiredState`], [`Command`]) accepts
//! unknown fields and names the critical ones. What the server reads refuses unknown fields only
//! where the device is not yet known ([`EnrollRequest`](super::enrollment::EnrollRequest)). All
//! times are Unix seconds.

use crate::id::{ReleaseName, Version};
use crate::strict;
use crate::update;
use crate::windows::{Wait, Windows};
use crate::wire::audit::AuditProof;
use crate::wire::boot::BootSummary;
use serde::{Deserialize, Serialize};

pub use crate::wire::command::{Acknowledgement, Cancellation, Command, CommandKind, Outcome};

/// Longest text in one field of a device's message, bytes.
pub const TEXT_MAX: usize = 4096;
/// Largest number that a device may report. Every JSON reader and database keeps it exactly (RFC
/// 8259, 6).
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Largest increase of a report's sequence number within one epoch.
pub const SEQUENCE_JUMP_MAX: u64 = 1 << 20;
/// Longest name of an epoch, bytes.
pub const EPOCH_MAX: usize = 64;

/// Reads a number of at most [`NUMBER_MAX`]. A larger one could change when it is stored.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number > NUMBER_MAX {
        return Err(serde::de::Error::custom(format_args!("{number} is above {NUMBER_MAX}")));
    }
    Ok(number)
}

/// An upper bound of the longest text in JSON, bytes of UTF-8: never below the true length, and at
/// most three times as long if the text has escapes. Counts every text, also the names of fields.
///
/// ```
/// use fleeti_core::wire::device::longest_text;
/// assert_eq!(longest_text(br#"{"detail": "a \" b", "n": 123456}"#), 6);
/// ```
#[must_use]
pub fn longest_text(json: &[u8]) -> usize {
    let (mut longest, mut bytes) = (0, json.iter());
    while bytes.any(|b| *b == b'"') {
        let mut length = 0;
        while let Some(byte) = bytes.next() {
            length += match byte {
                b'"' => break,
                b'\\' if bytes.next() == Some(&b'u') => {
                    bytes.nth(3);
                    3
                }
                _ => 1,
            };
        }
        longest = longest.max(length);
    }
    longest
}

/// The desired state of a device. The same document by MQTT and by `GET /desired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Grows with every change.
    pub generation: u64,
    /// The release to run; `None` leaves the device as it is.
    pub release: Option<ReleaseName>,
    /// Whether the device goes back to the release: it ran it before, and its other slot has it. A
    /// critical field where it is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// The last rolled-back version that an operator allowed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgiven: Option<Forgiveness>,
    /// Number of the last change of the device's Secure Boot variables. The device downloads a
    /// change that it has not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_change: Option<u64>,
    /// The windows of the fleet, and what else the device observes when it updates. A critical
    /// field where it is set.
    #[serde(
        default,
        deserialize_with = "crate::strict::object",
        skip_serializing_if = "Windows::is_empty"
    )]
    pub windows: Windows,
    /// Until when the device may begin each job at once, whatever the windows say, Unix seconds: an
    /// operator ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_windows_until_s: Option<u64>,
    /// Fields that the agent must know. If it does not know one of them, it applies nothing.
    #[serde(default)]
    pub critical: Vec<String>,
}

/// A rolled-back version that an operator allows again. The device applies each number once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgiveness {
    /// The version to allow.
    pub version: Version,
    /// A new number is a new permission, also for the same version.
    pub number: u64,
}

/// Why a desired state is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DesiredError {
    /// Not JSON, or a field is missing or wrong.
    #[error("desired state is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It has a critical field that this agent does not know.
    #[error("desired state has the unknown critical field {0:?}; update the agent first")]
    UnknownCritical(String),
}

impl DesiredState {
    /// Critical fields that this agent knows.
    pub const CRITICAL_KNOWN: &'static [&'static str] =
        &["release", "back", "forgiven", "boot_change", "windows", "skip_windows_until_s"];

    /// Parses a desired state and checks that this agent knows its critical fields.
    ///
    /// # Errors
    /// [`DesiredError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DesiredError> {
        let desired: Self = strict::from_slice(bytes)?;
        desired.check()?;
        Ok(desired)
    }

    /// Checks that this agent knows the critical fields.
    ///
    /// # Errors
    /// [`DesiredError::UnknownCritical`].
    pub fn check(&self) -> Result<(), DesiredError> {
        let is_known = |field: &&String| Self::CRITICAL_KNOWN.contains(&field.as_str());
        match self.critical.iter().find(|field| !is_known(field)) {
            Some(field) => Err(DesiredError::UnknownCritical(field.clone())),
            None => Ok(()),
        }
    }
}

/// `down/notice`: the newest announcements, the same for every device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Version of the newest trust bundle. A device with an older one downloads it. 0 before the
    /// first.
    #[serde(default)]
    pub trust_bundle: u64,
    /// The newest checkpoint of the audit log. The device keeps it and detects whether the log is
    /// rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The last revoked releases, at most [`REVOKED_MAX`]. A device that received this notice
    /// installs none of them, whichever server offers it.
    #[serde(default)]
    pub revoked_releases: Vec<ReleaseName>,
    /// SHA-256 of the root CA that signed the server's trust bundle (DER), hexadecimal. Bundles of
    /// different roots have separate version numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_sha256: Option<String>,
    /// SHA-256 of the server's list of transitions, hexadecimal. A device that has another list
    /// downloads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions: Option<String>,
}

/// Largest number of revoked releases in a [`Notice`], and in the memory of a device.
pub const REVOKED_MAX: usize = 500;

/// `GET /log/consistency.json?from=N&to=M`: the consistency proof between two sizes of the audit
/// log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConsistency {
    /// Hashes, base64 (RFC 9162, 2.1.4).
    pub hashes: Vec<String>,
}

/// `GET /trust-bundle.json`: the trusted intermediate CAs, signed by the root CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignedBundle {
    /// Canonical JSON: the signed bytes.
    pub bundle: String,
    /// Signature of the root CA's key: ECDSA, DER, base64.
    pub signature: String,
}

/// `up/report`: sent when the device connects and after each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows within an epoch; the server ignores a report that is not newer. At most
    /// [`NUMBER_MAX`], with increases of at most [`SEQUENCE_JUMP_MAX`].
    #[serde(deserialize_with = "number")]
    pub sequence: u64,
    /// A new value at each start of the agent. The sequence starts again with it, even if the
    /// device lost its state. If absent, the boot id is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Generation of the last desired state that the device received.
    #[serde(default, deserialize_with = "number")]
    pub generation: u64,
    /// What the device runs.
    pub boot: BootSummary,
    /// Version of the trust bundle that the device has installed; 0 for none.
    #[serde(default, deserialize_with = "number")]
    pub trust_bundle: u64,
    /// Error of the device's clock, seconds, if the clock cannot be right; negative if it is slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_wrong_by_s: Option<i64>,
    /// A problem that the device detected, with the server or with its own state:
    /// [`super::alarm::AlarmKind::text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// State of the update.
    pub update: update::State,
    /// Bytes downloaded and in total, while staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the update waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Wait>,
    /// The time zone of the device, of the IANA database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The last failure in words, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Progress of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// `up/telemetry`: sent once a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Telemetry {
    /// Seconds since boot.
    pub uptime_s: u64,
    /// One-minute load average, thousandths.
    pub load_milli: u64,
    /// Used memory, KiB.
    pub memory_used_kib: u64,
    /// Total memory, KiB.
    pub memory_total_kib: u64,
    /// Memory of the agent, KiB.
    #[serde(default)]
    pub agent_memory_kib: u64,
    /// Used space of the data partition, KiB.
    pub data_used_kib: u64,
    /// Size of the data partition, KiB.
    pub data_total_kib: u64,
}

/// `GET /releases/{line}/{version}/proof.json`: proves that a release is in the audit log, and that
/// the log is consistent with the checkpoint that the device knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProof {
    /// The entry that published the release, with its inclusion proof.
    pub published: AuditProof,
    /// Consistency proof from the device's checkpoint to the one in the inclusion proof: hashes,
    /// base64 (RFC 9162, 2.1.4).
    pub consistency: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::boot::{FirmwareKeys, Slot, Verity};
    use serde_json::json;

    /// A changed snapshot is a changed protocol: agents in the field use the old one.
    #[test]
    fn the_payloads_are_the_protocol() {
        let two: Version = "2".parse().unwrap();
        let boot = BootSummary {
            boot_id: "b".into(),
            running: "kiosk@1".parse().unwrap(),
            slot: Slot::A,
            verity: Verity::Verified,
            secure_boot: true,
            pcr11: Some("ab".into()),
            firmware: Some(FirmwareKeys {
                setup_mode: false,
                pk: Some("cd".into()),
                change: 2,
                ..FirmwareKeys::default()
            }),
            sealed_data: None,
            secrets: vec![],
        };
        let reason = update::RollbackReason::Verity { evidence: "block 0".into() };
        insta::assert_json_snapshot!(json!({
            "desired": DesiredState { generation: 3, release: Some("kiosk@2".parse().unwrap()), back: false, forgiven: None, boot_change: Some(2), windows: Windows::default(), skip_windows_until_s: None, critical: vec![] },
            "command": Command { id: "cmd-1".into(), kind: CommandKind::Reboot, deadline_s: 9 },
            "ack": Acknowledgement { command: "cmd-1".into(), outcome: Outcome::Done, detail: None },
            "report": Report {
                sequence: 1, epoch: Some("e".into()), generation: 3, boot, trust_bundle: 4, clock_wrong_by_s: None, alarm: None, progress: Some(Progress { done: 1, total: 2 }), waits: None, time_zone: None, detail: None,
                update: update::State::RolledBack { target: two, reason },
            },
            "notice": Notice { trust_bundle: 4, checkpoint: Some("note".into()), revoked_releases: vec!["kiosk@2".parse().unwrap()], root_sha256: Some("ab".into()), transitions: None },
            "telemetry": Telemetry { uptime_s: 1, load_milli: 2, memory_used_kib: 3, memory_total_kib: 4, agent_memory_kib: 7, data_used_kib: 5, data_total_kib: 6 },
        }));
    }

    #[test]
    fn an_agent_passes_fields_of_a_newer_server() {
        let newer = json!({"generation": 1, "release": "kiosk@2", "colour": "red"});
        assert!(serde_json::from_value::<DesiredState>(newer).is_ok());
    }

    #[test]
    fn the_longest_text_is_found_wherever_it_is() {
        let long = "ä".repeat(3000);
        for json in
            [json!({ "a": [{ "b": long }] }), json!({ long.as_str(): 1 }), json!(["x", long, "y"])]
        {
            assert_eq!(longest_text(json.to_string().as_bytes()), 6000);
        }
        assert_eq!(longest_text(br#"["\\", "\u0041\u0042", 1234567890]"#), 6);
        assert_eq!(longest_text(br#""not ended"#), 9);
        assert_eq!((longest_text(b""), longest_text(b"1")), (0, 0));
    }

    #[test]
    fn a_number_that_no_database_keeps_is_refused_and_not_kept_as_another_one() {
        let report = |sequence: u64| {
            json!({"sequence": sequence, "update": {"type": "idle"}, "boot": {"boot_id": "b", "running": "kiosk@1", "slot": "a",
                "verity": "verified", "secure_boot": true, "pcr11": null}})
        };
        assert_eq!(
            serde_json::from_value::<Report>(report(NUMBER_MAX)).unwrap().sequence,
            NUMBER_MAX
        );
        for above in [NUMBER_MAX + 1, 1 << 63, u64::MAX] {
            let refused = serde_json::from_value::<Report>(report(above)).unwrap_err().to_string();
            assert_eq!(refused, format!("{above} is above {NUMBER_MAX}"));
        }
        for field in ["generation", "trust_bundle"] {
            let mut bad = report(1);
            bad[field] = u64::MAX.into();
            assert!(serde_json::from_value::<Report>(bad).is_err(), "{field}");
        }
    }
}
