//! What can be asked of the signer.

use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::api::{AuditProof, RevocationReason, SignedBy};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::device::{BootSignatures, FirmwareKeys, VariableWrite};
use fleeti_pki::audit::Act;
use fleeti_pki::certificate::Protection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest message, bytes.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Certificates of a revocation list in one message; more come in parts.
pub const REVOKED_AT_ONCE: usize = 10_000;
/// Most entries of one answer.
pub const ENTRIES_MAX: u64 = 1000;
/// Most names of a server.
pub const NAMES_MAX: usize = 32;

/// A certificate on a revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedSerial {
    /// Its serial, hexadecimal.
    pub serial: String,
    /// When, Unix seconds.
    pub revoked_s: u64,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a device gets a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It is new.
    Enrollment,
    /// The one that it has comes to its end.
    Renewal,
}

/// What is to change about a device's Secure Boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum BootOrder {
    /// A new db key beside the one that there is.
    BeginEpoch,
    /// The newest db key alone.
    EndEpoch,
    /// Programs that must not start, by their Authenticode digests, hexadecimal.
    Forbid {
        /// SHA-256.
        digests: Vec<String>,
    },
}

/// A device's Secure Boot keys as the server keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootState {
    /// For the signer alone, base64.
    pub wrapped: String,
    /// Epoch of the newest db key.
    pub epoch: u32,
    /// What the variables hold once everything is written.
    pub expected: FirmwareKeys,
}

/// What the server keeps wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kept", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kept {
    /// What opens the data partition of a device without its TPM.
    RecoveryKey {
        /// Whose.
        device: DeviceId,
    },
    /// A secret of a fleet.
    Secret {
        /// Whose.
        fleet: FleetId,
        /// Its name.
        name: SecretName,
    },
}

/// One thing that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A device's certificate over the key of a request, by the device intermediate.
    CertifyDevice {
        /// Whose.
        device: DeviceId,
        /// PKCS#10, PEM; only its key counts.
        csr_pem: String,
        /// Seconds that it is to be valid.
        valid_s: u64,
        /// How the key is kept.
        protection: Protection,
        /// Why.
        occasion: Occasion,
        /// SHA-256 of the intermediate that signs; the first one otherwise.
        #[serde(default)]
        issuer: Option<String>,
    },
    /// A server's certificate over the key of a request, by the server intermediate.
    CertifyServer {
        /// DNS names and addresses.
        names: Vec<String>,
        /// PKCS#10, PEM; only its key counts.
        csr_pem: String,
        /// SHA-256 of the intermediate that signs; the first one otherwise.
        #[serde(default)]
        issuer: Option<String>,
    },
    /// Certificates that are to be on a list that is asked for later: a message holds
    /// [`REVOKED_AT_ONCE`] or so of them.
    StageRevoked {
        /// The list's name, minted by who asks.
        list: String,
        /// Some of the certificates on it.
        revoked: Vec<RevokedSerial>,
    },
    /// A revocation list of a device intermediate.
    RevocationList {
        /// Every certificate on it that was not staged.
        revoked: Vec<RevokedSerial>,
        /// SHA-256 of the intermediate; the first one otherwise.
        #[serde(default)]
        issuer: Option<String>,
        /// The name under which others were staged.
        #[serde(default)]
        staged: Option<String>,
    },
    /// A part of a list that was too large for one message.
    ListPart {
        /// Its name.
        list: String,
        /// Bytes of it that are known.
        from: u64,
    },
    /// Which intermediates the signer has keys for.
    Issuers,
    /// Secure Boot keys for a device, and what enrolls them.
    MakeBootKeys {
        /// Whose.
        device: DeviceId,
    },
    /// A device's signatures over the programs of a release. What they are, the manifest says, and
    /// only one that is signed by release keys is believed.
    SignBoot {
        /// Whose.
        device: DeviceId,
        /// Its keys, as the signer gave them, base64.
        wrapped: String,
        /// `manifest.json`, as it was signed.
        manifest: String,
        /// Key id and signature (DER, base64) of each signer.
        signatures: Vec<(String, String)>,
    },
    /// A change of a device's Secure Boot variables.
    ChangeBoot {
        /// Whose.
        device: DeviceId,
        /// Its keys, as the signer gave them, base64.
        wrapped: String,
        /// What is to change.
        change: BootOrder,
    },
    /// A release out of a build, by the keys that this server holds for that; it is left in the
    /// outbox. Enough people must agree, by signatures of their own.
    SignRelease {
        /// Name of the build's directory.
        build: String,
        /// Name of the directory that is made in the outbox.
        out: String,
        /// What is to be signed: canonical JSON of [`fleeti_pki::approval::Intent`].
        intent: String,
        /// By who asks.
        #[serde(default)]
        request: Option<SignedBy>,
        /// By who agrees.
        #[serde(default)]
        approvals: Vec<SignedBy>,
    },
    /// Who must agree before a release is signed.
    ApprovalPolicy,
    /// Something that the server is to keep and cannot read.
    Keep {
        /// What it is.
        kept: Kept,
        /// Base64.
        secret: Secret,
    },
    /// The recovery key of a device, for a person.
    ShowRecoveryKey {
        /// Whose.
        device: DeviceId,
        /// As the signer gave it, base64.
        wrapped: String,
        /// Who wants to see it.
        actor: String,
        /// Why.
        reason: String,
    },
    /// The secrets of a fleet, for a device.
    GiveSecrets {
        /// Who gets them.
        device: DeviceId,
        /// Whose they are.
        fleet: FleetId,
        /// As the signer gave them, base64, by their names.
        secrets: BTreeMap<SecretName, String>,
    },
    /// An entry for something that the server did.
    Record {
        /// What.
        act: Act,
    },
    /// A signed statement of the log's size.
    Checkpoint,
    /// An entry, with the proof that it is in the log.
    Prove {
        /// Its number.
        number: u64,
    },
    /// The proof that the log only grew.
    Consistency {
        /// Entries of the older statement.
        old: u64,
        /// Entries of the newer one.
        new: u64,
    },
    /// Entries.
    Entries {
        /// Number of the first one.
        from: u64,
        /// Most of them.
        limit: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// A certificate.
    Certificate {
        /// DER, base64.
        der: String,
    },
    /// A revocation list.
    RevocationList {
        /// DER, base64.
        der: String,
    },
    /// A revocation list that is fetched in parts.
    LargeList {
        /// Its name.
        list: String,
        /// Its length.
        bytes: u64,
    },
    /// A part of a revocation list.
    ListPart {
        /// DER, base64.
        der: String,
    },
    /// They were taken.
    Staged {
        /// Certificates of the list so far.
        entries: u64,
    },
    /// A device's Secure Boot keys, and the writes that bring its variables there, in their order.
    Boot {
        /// As the server keeps them.
        state: BootState,
        /// For the device.
        writes: Vec<VariableWrite>,
    },
    /// A device's signatures over the programs of a release.
    BootSignatures {
        /// For the device.
        signatures: BootSignatures,
    },
    /// For the server to keep.
    Kept {
        /// For the signer alone, base64.
        wrapped: String,
    },
    /// A recovery key.
    Shown {
        /// Base64.
        secret: Secret,
    },
    /// Secrets of a fleet.
    Secrets {
        /// Base64, by their names.
        secrets: BTreeMap<SecretName, Secret>,
    },
    /// A release was signed and is in the outbox.
    Release {
        /// SHA-256 of its manifest, hexadecimal.
        manifest_sha256: String,
    },
    /// Which intermediates the signer has keys for: SHA-256 of their certificates.
    Issuers {
        /// For devices.
        device: Vec<String>,
        /// For servers.
        server: Vec<String>,
    },
    /// Who must agree before a release is signed.
    ApprovalPolicy {
        /// TOML of [`fleeti_pki::approval::Policy`]; `None` where there are no keys that sign
        /// releases.
        policy: Option<String>,
        /// Id of the key that signs manifests.
        #[serde(default)]
        release_key: String,
    },
    /// The entry's number.
    Recorded {
        /// 0 for the first one.
        number: u64,
    },
    /// A signed note.
    Checkpoint {
        /// C2SP checkpoint.
        note: String,
    },
    /// An entry and its proof.
    Proof {
        /// What a device verifies.
        proof: AuditProof,
    },
    /// Hashes, base64.
    Consistency {
        /// From the bottom upwards.
        hashes: Vec<String>,
    },
    /// Lines of the log.
    Entries {
        /// Oldest first.
        lines: Vec<String>,
    },
    /// More than the signer's limits allow; later it may be done.
    Limited {
        /// Which limit.
        reason: String,
    },
    /// It was refused, or failed; nothing was signed.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A request on the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Minted by the caller, returned with the answer.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// An answer on the socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of the call.
    pub id: u64,
    /// What came of it.
    pub response: Response,
}
