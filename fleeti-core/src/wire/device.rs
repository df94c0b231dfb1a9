//! What a device and the server tell each other.
//!
//! Agents are older than servers: what an agent reads ([`DesiredState`], [`Command`]) passes
//! unknown fields and names the critical ones; what the server reads refuses unknown fields only
//! where a device is not yet known ([`EnrollRequest`]). All times are Unix seconds.

use crate::id::{Architecture, DeviceId, FleetId, ReleaseName, Version};
use crate::update;
use crate::wire::api::AuditProof;
use crate::wire::attestation::{KeyProof, TpmEnrollment};
pub use crate::wire::readmission::{ReadmitRequest, SignedTransition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest text that a device may put into one field.
pub const TEXT_MAX: usize = 4096;
/// Largest number that a device may report: every JSON reader and every database keeps it whole
/// (RFC 8259, 6).
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// How far the sequence of reports may jump within one epoch.
pub const SEQUENCE_JUMP_MAX: u64 = 1 << 20;
/// Longest name of an epoch.
pub const EPOCH_MAX: usize = 64;

/// A number of at most [`NUMBER_MAX`]: a larger one would be kept as another one.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number > NUMBER_MAX {
        return Err(serde::de::Error::custom(format_args!("{number} is above {NUMBER_MAX}")));
    }
    Ok(number)
}

/// The longest text in JSON, bytes of UTF-8: no shorter than it is, and at most three times as long
/// where it has escapes. Looks at every text, whatever field it is in, names of fields as well.
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

/// What a device is told at provisioning: where its server is and how to prove that it may enroll.
/// One SMBIOS type 11 string `fleeti.enrollment=<base64 of this JSON>` or the ESP file
/// `/fleeti/enrollment.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentRecord {
    /// As in `https://fleeti.example:8443`.
    pub https_url: String,
    /// As in `fleeti.example:8883`.
    pub mqtt_address: String,
    /// SHA-256 of the DER root certificate, hexadecimal; it must be the root that the image
    /// carries.
    pub root_sha256: String,
    /// One-time token; a secret. Empty for a device that shows a code and waits until somebody
    /// enters it.
    pub token: String,
    /// An HTTP proxy through which alone the device reaches the server, as in
    /// `http://proxy.example:3128`. It resolves names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Whether a proxy is one that agents take: `http://HOST:PORT`, without TLS, password or path.
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

/// SMBIOS type 11 string prefix of the record.
pub const SMBIOS_PREFIX: &str = "fleeti.enrollment=";
/// ESP file of the record, relative to the ESP.
pub const ESP_FILE: &str = "fleeti/enrollment.json";

/// `POST /enroll`. Anonymous: the token stands for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The one-time token.
    pub token: String,
    /// PKCS#10 request, PEM; only its key and its proof of possession are used.
    pub csr_pem: String,
    /// What the device is.
    pub architecture: Architecture,
    /// What it runs.
    pub running: ReleaseName,
    /// That the key is in its TPM; without one, the key is in a file. For a token that is bound to
    /// a TPM, it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmEnrollment>,
}

/// The answer to [`EnrollRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// Minted by the server.
    pub device: DeviceId,
    /// The fleet it joined.
    pub fleet: FleetId,
    /// The device's certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to renew it.
    pub renewal: RenewalWindow,
}

/// When a certificate is to be renewed: the device chooses a moment of its own in it, so that a
/// fleet that enrolled together does not come back together (as in RFC 9773, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalWindow {
    /// First second.
    pub start_s: u64,
    /// Last second.
    pub end_s: u64,
}

/// `POST /renew`: a new certificate while the old one is good, over a new key or the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 request, PEM, by the key that is to be certified. A new one replaces the old one
    /// when it is first used.
    pub csr_pem: String,
    /// That the key is in the device's TPM. A device whose key was in it once does without it no
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyProof>,
}

/// `POST /renew/proved`: a new certificate for a device whose old one has ended. Anonymous: its TPM
/// stands for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedRenewRequest {
    /// Who.
    pub device: DeviceId,
    /// PKCS#10 request, PEM, by the key that is to be certified.
    pub csr_pem: String,
    /// That the key is in the TPM that the device is known by.
    pub key: KeyProof,
}

/// `POST /pair`: a device without a token asks for a code to show. Anonymous.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// PKCS#10 request, PEM; the token will be good for its key alone.
    pub csr_pem: String,
    /// What it runs.
    pub running: ReleaseName,
}

/// The answer to [`PairRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct PairResponse {
    /// What the device enrolls with once the code was entered; a secret.
    pub token: String,
    /// What it shows, as in `BCDF-GHJK`.
    pub code: String,
    /// When both end, Unix seconds.
    pub expires_s: u64,
}

/// `POST /pair/wait`: held until the code was entered, or for a while. Anonymous.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairWait {
    /// Of [`PairResponse`].
    pub token: String,
}

/// The answer to [`PairWait`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PairWaited {
    /// Whether the token is good now; else the device waits again.
    pub is_paired: bool,
}

/// The answer to [`RenewRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewResponse {
    /// The device's certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to come again.
    pub renewal: RenewalWindow,
}

/// What a device should run. The same document by push and by `GET /desired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Grows with every change.
    pub generation: u64,
    /// The release to run; `None` leaves the device as it is.
    pub release: Option<ReleaseName>,
    /// The last forgiveness of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgiven: Option<Forgiveness>,
    /// Number of the last change of its Secure Boot variables; the device asks for it when it has
    /// not made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_change: Option<u64>,
    /// Fields that the agent must know; it changes nothing if it does not.
    #[serde(default)]
    pub critical: Vec<String>,
}

/// A version that an operator allows again after a rollback. Applied once, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgiveness {
    /// Which version.
    pub version: Version,
    /// Another one is another forgiveness, also of the same version.
    pub number: u64,
}

impl DesiredState {
    /// Critical fields that this agent knows.
    pub const CRITICAL_KNOWN: &'static [&'static str] = &["release", "forgiven", "boot_change"];
}

/// A one-shot order. Idempotent by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Minted by the server.
    pub id: String,
    /// What to do.
    pub order: Order,
    /// Not to be carried out after this time.
    pub deadline_s: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// Send a report now.
    Report,
    /// Reboot.
    Reboot,
    /// Somebody has looked into the alarm that the device raised.
    ClearAlarm,
    /// Make a new recovery key at the next boot, and end the one that there is: somebody has seen
    /// it.
    NewRecoveryKey,
}

/// A device's answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The command's id.
    pub command: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out, or about to be where that ends the session.
    Done,
    /// Came after its deadline.
    Expired,
}

/// The slot a device runs from.
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
    /// Every block read so far was right.
    Verified,
    /// A block was wrong.
    Corrupted,
    /// The root is not under dm-verity.
    Absent,
}

/// What runs, as the device says it. Self-reported: it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BootSummary {
    /// The kernel's boot id.
    pub boot_id: String,
    /// `IMAGE_ID` and `IMAGE_VERSION` of os-release.
    pub running: ReleaseName,
    /// Where it runs from.
    pub slot: Slot,
    /// dm-verity.
    pub verity: Verity,
    /// The firmware's SecureBoot variable.
    pub secure_boot: bool,
    /// PCR 11 of the SHA-256 bank after `ready`, hexadecimal; `None` without a TPM.
    pub pcr11: Option<String>,
    /// What the firmware's variables hold; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareKeys>,
    /// Whether the data partition is sealed to the TPM; `None` from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_data: Option<bool>,
}

/// What the Secure Boot variables of a device hold. Certificates by the SHA-256 of their DER,
/// hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirmwareKeys {
    /// Nobody owns the platform: whoever is there may write the variables.
    pub setup_mode: bool,
    /// PK; `None` when there is none.
    pub pk: Option<String>,
    /// KEK.
    pub kek: Vec<String>,
    /// db.
    pub db: Vec<String>,
    /// Digests in dbx, SHA-256, hexadecimal.
    pub dbx: Vec<String>,
    /// Number of the last change that the device has made.
    #[serde(default)]
    pub change: u64,
    /// Why it has not made the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A variable of Secure Boot (UEFI 2.10, 32.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum BootVariable {
    /// Owns the platform; signs PK and KEK.
    #[serde(rename = "PK")]
    Pk,
    /// Signs db and dbx.
    #[serde(rename = "KEK")]
    Kek,
    /// What may be started.
    #[serde(rename = "db")]
    Db,
    /// What may not.
    #[serde(rename = "dbx")]
    Dbx,
}

/// A signed write of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VariableWrite {
    /// Which.
    pub variable: BootVariable,
    /// Adds to it, instead of replacing it.
    pub append: bool,
    /// EFI_VARIABLE_AUTHENTICATION_2 and the value, base64: the content of an `.auth` file.
    pub auth: String,
}

/// `GET /releases/{line}/{version}/boot.json`: signatures for this device alone, by the path of the
/// release's program: PKCS#7, DER, base64. Empty for a device that starts what is signed for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BootSignatures {
    /// As in `raw/kiosk_2.efi`.
    pub programs: BTreeMap<String, String>,
}

/// `GET /boot/change.json`: the last change of a device's Secure Boot variables, and the signatures
/// that what it runs needs afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootChange {
    /// Grows with every change.
    pub number: u64,
    /// For the programs that the device runs.
    pub signatures: BootSignatures,
    /// In the order in which they are to be written. Where one was made before, the firmware
    /// refuses it as old.
    pub writes: Vec<VariableWrite>,
    /// Whether the other slot may boot no more afterwards.
    pub may_end_fallback: bool,
}

/// `down/notice`: what every device is to know, the same for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Version of the newest trust bundle; the device asks for it when it has an older one. 0
    /// before the first.
    #[serde(default)]
    pub trust_bundle: u64,
    /// The last statement of the audit log: the device remembers it, and finds out whether the log
    /// was rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The last releases that were revoked, at most [`REVOKED_MAX`]: a device that has heard of it
    /// installs none of them, whoever offers it.
    #[serde(default)]
    pub revoked_releases: Vec<ReleaseName>,
    /// SHA-256 of the root that the server's bundle is by, DER, hexadecimal: bundles of two roots
    /// are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_sha256: Option<String>,
    /// SHA-256 of the list of transitions that the server has, hexadecimal; the device asks for it
    /// when it has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions: Option<String>,
}

/// Most revoked releases of a [`Notice`], and that a device remembers.
pub const REVOKED_MAX: usize = 500;

/// `GET /log/growth.json?from=N&to=M`: the proof that the audit log only grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGrowth {
    /// Hashes, base64 (RFC 9162, 2.1.4).
    pub hashes: Vec<String>,
}

/// `GET /trust-bundle.json`: the intermediates that count, signed by the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignedBundle {
    /// Canonical JSON, as it was signed.
    pub bundle: String,
    /// By the root's key: ECDSA, DER, base64.
    pub signature: String,
}

/// `up/report`: sent at connect and whenever something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows on the device within an epoch; one that is not newer is ignored. At most
    /// [`NUMBER_MAX`], and no jump above [`SEQUENCE_JUMP_MAX`].
    #[serde(deserialize_with = "number")]
    pub sequence: u64,
    /// Another one with each start of the agent: the sequence begins with it, whatever became of
    /// what was kept. Without one, the boot id stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Generation of the desired state that the device has heard last.
    #[serde(default, deserialize_with = "number")]
    pub generation: u64,
    /// What runs.
    pub boot: BootSummary,
    /// Version of the trust bundle that the device has taken; 0 for none.
    #[serde(default, deserialize_with = "number")]
    pub trust_bundle: u64,
    /// Seconds by which the device's clock is wrong, where it cannot be right; negative where it is
    /// behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_wrong_by_s: Option<i64>,
    /// What the device has noticed of the server that should not be, in words: another history of
    /// the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// Where the update stands.
    pub update: update::State,
    /// Bytes of the staging so far and in all, while staging.
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

/// `up/telemetry`: once a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Telemetry {
    /// Seconds since boot.
    pub uptime_s: u64,
    /// One-minute load average, thousandths.
    pub load_milli: u64,
    /// Memory in use, KiB.
    pub memory_used_kib: u64,
    /// Memory in all, KiB.
    pub memory_total_kib: u64,
    /// Memory of the agent itself, KiB.
    #[serde(default)]
    pub agent_memory_kib: u64,
    /// Data partition in use, KiB.
    pub data_used_kib: u64,
    /// Data partition in all, KiB.
    pub data_total_kib: u64,
}

/// `GET /releases/{line}/{version}/proof.json`: that a release is in the audit log, and that the
/// log only grew since the device looked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProof {
    /// The entry that published it, and its proof.
    pub published: AuditProof,
    /// Hashes, base64, from what the device knew to the proof's checkpoint (RFC 9162, 2.1.4).
    pub growth: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A changed snapshot is a changed protocol: agents in the field speak the old one.
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
