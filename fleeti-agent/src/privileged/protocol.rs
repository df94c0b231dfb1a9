//! What daemon and helper say to each other: a line of JSON each way.

use fleeti_core::id::{DeviceId, Version};
use fleeti_core::update::{FailureCode, RollbackReason};
use fleeti_core::wire::attestation::{KeyProof, Secret, TpmIdentity};
use fleeti_core::wire::device::{
    BootChange, BootSignatures, BootSummary, EnrollmentRecord, ReleaseProof, SignedTransition,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest request or answer, bytes.
pub const MESSAGE_MAX: u64 = 1 << 20;

/// A verb and its arguments.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What runs.
    BootSummary,
    /// The enrollment record, from SMBIOS or the ESP.
    EnrollmentRecord,
    /// Verify the manifest and run systemd-sysupdate against a loopback URL.
    Stage {
        /// `manifest.json`, as it is.
        manifest: String,
        /// Key id and DER (base64) of each signature.
        signatures: Vec<(String, String)>,
        /// That it is in the audit log.
        proof: Option<Box<ReleaseProof>>,
        /// This device's own signatures over its programs.
        boot: BootSignatures,
        /// `http://127.0.0.1:...`.
        url: String,
        /// What leads from this image's anchors to those that signed.
        #[serde(default)]
        transitions: Vec<SignedTransition>,
    },
    /// Change the Secure Boot variables.
    ChangeBoot {
        /// How.
        change: BootChange,
    },
    /// How many entries of the audit log this device has seen.
    LogSize {
        /// What leads from this image's log to the one of today.
        #[serde(default)]
        transitions: Vec<SignedTransition>,
    },
    /// Make the staged version bootable.
    Arm {
        /// Which.
        version: Version,
    },
    /// Reboot.
    Reboot,
    /// Why an armed version does not run.
    WhyFailed {
        /// Which.
        version: Version,
    },
    /// Answers when the running version was blessed.
    WaitBlessed,
    /// Look again whether the running version was blessed.
    BlessedChanged,
    /// What the TPM is known by.
    TpmIdentity,
    /// Give away the secret that was made for this TPM and its attestation key; both base64.
    TpmActivate {
        /// TPM2B_ID_OBJECT.
        blob: String,
        /// TPM2B_ENCRYPTED_SECRET.
        secret: String,
    },
    /// The device key of a seed.
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
    /// Say that the device key of a seed is in the TPM.
    Certify {
        /// 32 bytes, hexadecimal.
        seed: String,
        /// For what.
        occasion: Occasion,
        /// What both ends derived of the connection, hexadecimal.
        channel: String,
    },
    /// Say what was measured, as the answer to a question of the server.
    Evidence {
        /// 32 bytes, hexadecimal.
        nonce: String,
        /// This device, as the server knows it.
        device: DeviceId,
    },
    /// The recovery key of the data partition, if there is one that the server does not keep.
    RecoveryKey,
    /// The server keeps the recovery key.
    RecoveryKeyKept {
        /// Of this digest: SHA-256, hexadecimal.
        sha256: String,
    },
    /// Somebody has seen the recovery key: make a new one at the next boot.
    ForgetRecoveryKey,
    /// Make these the secrets that services find.
    PutSecrets {
        /// Base64, by their names.
        secrets: BTreeMap<String, Secret>,
    },
    /// Set the host name by the image's pattern.
    SetHostname {
        /// The device's id.
        device: DeviceId,
    },
    /// The server was reached in this boot: a session with it began.
    Reached,
    /// Answers when the server was reached in this boot.
    WaitReached,
    /// A statement of the audit log, which says how late it is.
    SignedTime {
        /// A checkpoint (C2SP).
        note: String,
    },
    /// State of the helper that could not be used, and was not reported yet.
    SetAside,
    /// What was set aside is reported.
    SetAsideReported,
    /// Write a line on the console.
    Say {
        /// The line.
        line: String,
    },
}

/// What a key is certified for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// To enroll with the token of this digest (SHA-256, hexadecimal).
    Enrollment(String),
    /// For the next certificate of this device.
    Renewal(DeviceId),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// Done.
    Done,
    /// Of [`Request::SetAside`].
    SetAside {
        /// Each in words.
        reasons: Vec<String>,
    },
    /// Of [`Request::BootSummary`].
    Boot {
        /// What runs.
        summary: BootSummary,
    },
    /// Of [`Request::EnrollmentRecord`].
    Record {
        /// The record, if there is one.
        record: Option<EnrollmentRecord>,
    },
    /// Of [`Request::WhyFailed`].
    Reason {
        /// Why; nothing when it was never armed.
        reason: Option<RollbackReason>,
    },
    /// Of [`Request::LogSize`].
    LogSize {
        /// Entries of the last statement that was believed.
        size: u64,
    },
    /// Of [`Request::TpmIdentity`].
    Tpm {
        /// Its keys; nothing without a TPM.
        identity: Option<TpmIdentity>,
    },
    /// Of [`Request::TpmActivate`].
    Secret {
        /// Base64.
        secret: Secret,
    },
    /// Of [`Request::RecoveryKey`].
    RecoveryKey {
        /// Nothing when none waits.
        key: Option<Secret>,
    },
    /// Of [`Request::DeviceKey`].
    DeviceKey {
        /// TPMT_PUBLIC, base64.
        public: String,
    },
    /// Of [`Request::Sign`].
    Signature {
        /// TPMT_SIGNATURE, base64.
        signature: String,
    },
    /// Of [`Request::Certify`].
    Certified {
        /// What the TPM says.
        key: KeyProof,
    },
    /// Of [`Request::Evidence`].
    Evidence {
        /// What was measured.
        measured: Box<Measured>,
    },
    /// It could not be done.
    Failed {
        /// The stable code.
        code: FailureCode,
        /// In words.
        detail: String,
    },
}

/// What was measured, and what the TPM says of it; bytes base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// TPMS_ATTEST.
    pub quote: String,
    /// TPMT_SIGNATURE.
    pub signature: String,
    /// What the registers held, hexadecimal. No map: its numbers would be texts within a tagged
    /// answer.
    pub registers: Vec<(u8, String)>,
    /// Firmware's log.
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
