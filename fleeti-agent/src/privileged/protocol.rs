//! The protocol between daemon and helper: one line of JSON in each direction.

use crate::boot_secrets::{Delivery, Given, Seen};
use fleeti_core::id::{DeviceId, Version};
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::{KeyProof, Secret, TpmIdentity};
use fleeti_core::wire::boot::{BootChange, BootSignatures, BootSummary};
use fleeti_core::wire::device::ReleaseProof;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_core::wire::readmission::SignedTransition;
use serde::{Deserialize, Serialize};

/// Maximum size of a request or response, bytes.
pub const MESSAGE_MAX: u64 = 1 << 20;

/// A release to stage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRequest {
    /// `manifest.json`, byte for byte.
    pub manifest: String,
    /// Key id and DER (base64) of each signature.
    pub signatures: Vec<(String, String)>,
    /// Proves that the release is in the audit log.
    pub proof: Option<Box<ReleaseProof>>,
    /// This device's own signatures of its EFI binaries.
    pub boot: BootSignatures,
    /// `http://127.0.0.1:...`.
    pub url: String,
    /// Transitions from this image's trust anchors to those that signed the release.
    #[serde(default)]
    pub transitions: Vec<SignedTransition>,
}

/// A release to go back to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousRequest {
    /// `manifest.json`, byte for byte.
    pub manifest: String,
    /// Key id and DER (base64) of each signature.
    pub signatures: Vec<(String, String)>,
    /// Transitions from this image's trust anchors to those that signed the release.
    #[serde(default)]
    pub transitions: Vec<SignedTransition>,
    /// As in [`Request::Arm`].
    pub may_reboot: bool,
}

/// What a command collects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum Collect {
    /// The log of this boot.
    Logs {
        /// The unit; `None` for all.
        unit: Option<String>,
    },
    /// What a diagnostic of the image prints.
    Diagnostic {
        /// Its name.
        name: String,
    },
    /// A support bundle.
    SupportBundle {
        /// Name of a support key of the image.
        key: String,
    },
}

/// A verb and its arguments.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What runs.
    BootSummary,
    /// The enrollment record, from SMBIOS or the ESP.
    EnrollmentRecord,
    /// Verify the manifest and run systemd-sysupdate against a loopback URL.
    Stage(StageRequest),
    /// Change the Secure Boot variables.
    ChangeBoot {
        /// The change.
        change: BootChange,
    },
    /// How many entries the audit log had in the newest checkpoint that this device has accepted.
    LogSize {
        /// Transitions from this image's log key to the current one.
        #[serde(default)]
        transitions: Vec<SignedTransition>,
    },
    /// Make the staged version bootable.
    Arm {
        /// The version.
        version: Version,
        /// Whether the helper may reboot at once, if the data partition must be sealed to another
        /// key before.
        may_reboot: bool,
    },
    /// Make the older version in the other slot bootable, and the running one the last choice.
    ArmPrevious(PreviousRequest),
    /// Reboot.
    Reboot,
    /// Why an armed version does not run.
    WhyFailed {
        /// The version.
        version: Version,
    },
    /// Respond when the running version is blessed.
    WaitBlessed,
    /// Check again whether the running version is blessed.
    BlessedChanged,
    /// The keys that identify the TPM.
    TpmIdentity,
    /// Decrypt the secret that was made for this TPM and its attestation key; both fields base64.
    TpmActivate {
        /// TPM2B_ID_OBJECT.
        blob: String,
        /// TPM2B_ENCRYPTED_SECRET.
        secret: String,
    },
    /// The public device key of a seed.
    DeviceKey {
        /// 32 bytes, hexadecimal.
        seed: String,
    },
    /// Sign with the device key of a seed.
    Sign {
        /// 32 bytes, hexadecimal.
        seed: String,
        /// SHA-256, hexadecimal.
        digest: String,
    },
    /// Certify that the device key of a seed is in the TPM.
    Certify {
        /// 32 bytes, hexadecimal.
        seed: String,
        /// The purpose.
        occasion: Occasion,
        /// The value that both ends derived from the connection, hexadecimal.
        channel: String,
    },
    /// Produce evidence for a challenge of the server.
    Evidence {
        /// 32 bytes, hexadecimal.
        nonce: String,
        /// The id of this device on the server.
        device: DeviceId,
    },
    /// The recovery key of the data partition, if there is one that the server does not keep.
    RecoveryKey,
    /// The server keeps the recovery key.
    RecoveryKeyKept {
        /// The digest of that key: SHA-256, hexadecimal.
        sha256: String,
    },
    /// Make a new recovery key at the next boot, because an operator has seen this one.
    ForgetRecoveryKey,
    /// Replace the secrets that services load, and take new values of those of the boot.
    PutSecrets {
        /// The secrets of the fleet.
        delivery: Delivery,
    },
    /// Respond when what the daemon gets of the secrets of the boot is not what it knows.
    BootSecrets {
        /// What it knows.
        known: Option<Seen>,
    },
    /// A session with the server began or ended.
    Contact {
        /// The generation of the secrets of the boot that the daemon uses.
        generation: u64,
        /// Whether it began.
        is_reached: bool,
    },
    /// Try values of secrets of the boot again that did not reach the server.
    TrySecrets,
    /// Set the host name from the image's pattern.
    SetHostname {
        /// The device's id.
        device: DeviceId,
    },
    /// The server was reached in this boot: a session started.
    Reached,
    /// Respond when the server is reached in this boot.
    WaitReached,
    /// A checkpoint of the audit log, which states the time.
    SignedTime {
        /// A checkpoint (C2SP).
        note: String,
    },
    /// Damaged state files of the helper that are not reported yet.
    SetAside,
    /// The damaged state files were reported.
    SetAsideReported,
    /// Collect the result of a command. Closing the connection stops it.
    Collect {
        /// What.
        what: Collect,
    },
    /// Request a factory reset, or say what became of it.
    FactoryReset {
        /// Id of the command.
        command: String,
    },
    /// Write a line to the console.
    Say {
        /// The line.
        line: String,
    },
}

/// The purpose for which a key is certified.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Enrollment with the token of this digest (SHA-256, hexadecimal).
    Enrollment(String),
    /// Renewal of this device's certificate.
    Renewal(DeviceId),
}

/// The response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// Done.
    Done,
    /// To [`Request::Arm`] and [`Request::ArmPrevious`]: nothing was done, because the device must
    /// reboot before, and may not.
    NeedsReboot,
    /// To [`Request::SetAside`].
    SetAside {
        /// One text for each file.
        reasons: Vec<String>,
    },
    /// To [`Request::BootSummary`].
    Boot {
        /// What runs.
        summary: BootSummary,
    },
    /// To [`Request::BootSecrets`].
    BootSecrets {
        /// What the daemon gets.
        given: Given,
    },
    /// To [`Request::EnrollmentRecord`].
    Record {
        /// The record, if there is one.
        record: Option<EnrollmentRecord>,
    },
    /// To [`Request::WhyFailed`].
    Reason {
        /// The reason; `None` if the version was never armed.
        reason: Option<RollbackReason>,
    },
    /// To [`Request::LogSize`].
    LogSize {
        /// Entries in the newest accepted checkpoint.
        size: u64,
    },
    /// To [`Request::TpmIdentity`].
    Tpm {
        /// The keys; `None` without a TPM.
        identity: Option<TpmIdentity>,
    },
    /// To [`Request::TpmActivate`].
    Secret {
        /// Base64.
        secret: Secret,
    },
    /// To [`Request::RecoveryKey`].
    RecoveryKey {
        /// `None` if the server has the key.
        key: Option<Secret>,
    },
    /// To [`Request::DeviceKey`].
    DeviceKey {
        /// TPMT_PUBLIC, base64.
        public: String,
    },
    /// To [`Request::Sign`].
    Signature {
        /// TPMT_SIGNATURE, base64.
        signature: String,
    },
    /// To [`Request::Certify`].
    Certified {
        /// The TPM's certification.
        key: KeyProof,
    },
    /// To [`Request::Evidence`].
    Evidence {
        /// The evidence.
        measured: Box<Measured>,
    },
    /// To [`Request::Collect`].
    Collected {
        /// Base64.
        content: String,
        /// What it is, in words.
        detail: String,
    },
    /// To [`Request::FactoryReset`].
    Reset {
        /// Number of emptied directories; `None` until the device has booted.
        wiped: Option<usize>,
    },
    /// The request failed.
    Failed {
        /// The stable code.
        code: FailureCode,
        /// Details.
        detail: String,
    },
}

/// Evidence; bytes in base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// TPMS_ATTEST.
    pub quote: String,
    /// TPMT_SIGNATURE.
    pub signature: String,
    /// PCR values, hexadecimal. Not a map: JSON would turn its numbers into strings within a tagged
    /// response.
    pub pcrs: Vec<(u8, String)>,
    /// The firmware log.
    #[serde(with = "base64_bytes")]
    pub firmware_log: Vec<u8>,
    /// The log of user space.
    pub phases_log: String,
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
