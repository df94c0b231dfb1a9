//! The messages between device and server.
//!
//! Agents can be older than servers. What an agent reads ([`DesiredState`], [`Command`]) accepts
//! unknown fields and names the critical ones. What the server reads refuses unknown fields only
//! where the device is not yet known ([`EnrollRequest`]). All times are Unix seconds.

use crate::id::{Architecture, DeviceId, FleetId, ReleaseName, Version};
use crate::update;
use crate::wire::api::AuditProof;
use crate::wire::attestation::{KeyProof, TpmEnrollment};
pub use crate::wire::readmission::{ReadmitRequest, SignedTransition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// The enrollment record, which a device gets at provisioning: the address of its server and the
/// token with which it enrolls. It is stored as the SMBIOS type 11 string
/// `fleeti.enrollment=<base64 of this JSON>` or as the ESP file `/fleeti/enrollment.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentRecord {
    /// For example `https://fleeti.example:8443`.
    pub https_url: String,
    /// For example `fleeti.example:8883`.
    pub mqtt_address: String,
    /// SHA-256 of the root certificate (DER), hexadecimal. The image must contain the same root.
    pub root_sha256: String,
    /// One-time enrollment token; secret. Empty for a device that shows a pairing code and waits
    /// until an operator enters it.
    pub token: String,
    /// HTTP proxy through which the device makes all connections to the server, for example
    /// `http://proxy.example:3128`. The proxy resolves host names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Whether agents accept this proxy URL: `http://HOST:PORT`, without TLS, password or path.
#[must_use]
pub fn is_proxy(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':'));
    let is_plain = |host: &str| {
        !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
    };
    authority.is_some_and(|(host, port)| {
        is_plain(host)
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

impl std::fmt::Debug for EnrollmentRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollmentRecord")
            .field("https_url", &self.https_url)
            .finish_non_exhaustive()
    }
}

/// Prefix of the record as an SMBIOS type 11 string.
pub const SMBIOS_PREFIX: &str = "fleeti.enrollment=";
/// Path of the record's file, relative to the ESP.
pub const ESP_FILE: &str = "fleeti/enrollment.json";

/// `POST /enroll`. Anonymous: the token authorises the request.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The one-time token.
    pub token: String,
    /// PKCS#10 request, PEM. The server uses only its public key and its proof of possession.
    pub csr_pem: String,
    /// Architecture of the device.
    pub architecture: Architecture,
    /// The release that the device runs.
    pub running: ReleaseName,
    /// Proof that the key is in the device's TPM. Without it the key counts as a key in a file. A
    /// token that is bound to a TPM requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmEnrollment>,
}

/// The response to [`EnrollRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// The device id, chosen by the server.
    pub device: DeviceId,
    /// The fleet that the device joined.
    pub fleet: FleetId,
    /// The device certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to renew the certificate.
    pub renewal: RenewalWindow,
}

/// When to renew a certificate. Each device chooses a moment in the window, so that devices that
/// enrolled together do not renew together (compare RFC 9773, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalWindow {
    /// First second.
    pub start_s: u64,
    /// Last second.
    pub end_s: u64,
}

/// `POST /renew`: requests a new certificate while the old one is valid, for a new key or the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 request, PEM, signed by the key to certify. A new key replaces the old one when it
    /// is first used.
    pub csr_pem: String,
    /// Proof that the key is in the device's TPM. Required for a device whose key has been in its
    /// TPM before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyProof>,
}

/// `POST /renew/proved`: requests a new certificate after the old one expired. Anonymous: the TPM
/// authorises the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedRenewRequest {
    /// Device id.
    pub device: DeviceId,
    /// PKCS#10 request, PEM, signed by the key to certify.
    pub csr_pem: String,
    /// Proof that the key is in the TPM that is bound to the device.
    pub key: KeyProof,
}

/// `POST /pair`: a device without a token requests a pairing code. Anonymous.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// PKCS#10 request, PEM. The token will be valid for this key only.
    pub csr_pem: String,
    /// The release that the device runs.
    pub running: ReleaseName,
}

/// The response to [`PairRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct PairResponse {
    /// The token with which the device enrolls after an operator entered the code; secret.
    pub token: String,
    /// The pairing code that the device shows, for example `BCDF-GHJK`.
    pub code: String,
    /// When token and code expire, Unix seconds.
    pub expires_s: u64,
}

/// `POST /pair/wait`: the server responds when an operator entered the code, or after a while.
/// Anonymous.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairWait {
    /// The token from [`PairResponse`].
    pub token: String,
}

/// The response to [`PairWait`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PairWaited {
    /// Whether the token is valid now; if not, the device waits again.
    pub is_paired: bool,
}

/// The response to [`RenewRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewResponse {
    /// The device certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to renew the new certificate.
    pub renewal: RenewalWindow,
}

/// The desired state of a device. The same document by MQTT and by `GET /desired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Grows with every change.
    pub generation: u64,
    /// The release to run; `None` leaves the device as it is.
    pub release: Option<ReleaseName>,
    /// The last rolled-back version that an operator allowed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgiven: Option<Forgiveness>,
    /// Number of the last change of the device's Secure Boot variables. The device downloads a
    /// change that it has not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_change: Option<u64>,
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

impl DesiredState {
    /// Critical fields that this agent knows.
    pub const CRITICAL_KNOWN: &'static [&'static str] = &["release", "forgiven", "boot_change"];
}

/// A one-time request to a device. Idempotent by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Chosen by the server.
    pub id: String,
    /// What the device should do.
    pub order: Order,
    /// After this time the device does not run the command.
    pub deadline_s: u64,
}

/// What a command asks a device to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// Send a report now.
    Report,
    /// Reboot.
    Reboot,
    /// Clear the alarm that the device raised: an operator has handled it.
    ClearAlarm,
    /// Make a new recovery key at the next boot and remove the current one, because a person has
    /// seen it.
    NewRecoveryKey,
}

/// A device's response to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The command's id.
    pub command: String,
    /// Result of the command.
    pub outcome: Outcome,
}

/// Result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, or about to be done if the command ends the session.
    Done,
    /// The command arrived after its deadline.
    Expired,
}

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
    pub programs: BTreeMap<String, String>,
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

/// `GET /log/growth.json?from=N&to=M`: the consistency proof between two sizes of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGrowth {
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
    /// A problem with the server that the device detected, in words, for example a fork of the
    /// audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// State of the update.
    pub update: update::State,
    /// Bytes downloaded and in total, while staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
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
    pub growth: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
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
        };
        let reason = update::RollbackReason::Verity { evidence: "block 0".into() };
        insta::assert_json_snapshot!(json!({
            "desired": DesiredState { generation: 3, release: Some("kiosk@2".parse().unwrap()), forgiven: None, boot_change: Some(2), critical: vec![] },
            "command": Command { id: "cmd-1".into(), order: Order::Reboot, deadline_s: 9 },
            "ack": Acknowledgement { command: "cmd-1".into(), outcome: Outcome::Done },
            "report": Report {
                sequence: 1, epoch: Some("e".into()), generation: 3, boot, trust_bundle: 4, clock_wrong_by_s: None, alarm: None, progress: Some(Progress { done: 1, total: 2 }), detail: None,
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

    #[test]
    fn the_token_is_not_in_the_debug_output_of_a_record() {
        let record = EnrollmentRecord {
            https_url: "u".into(),
            mqtt_address: "m".into(),
            root_sha256: "r".into(),
            token: "s3cret".into(),
            proxy: None,
        };
        assert!(!format!("{record:?}").contains("s3cret"));
    }
}
