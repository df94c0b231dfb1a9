//! Requests to the signing service, and its responses.

use crate::room::Room;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
pub use fleeti_core::secure_boot::BootState;
use fleeti_core::strict;
use fleeti_core::wire::api::{BootKeyChange, RevocationReason, SignedBy};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::audit::AuditProof;
use fleeti_core::wire::boot::{BootSignatures, VariableWrite};
use fleeti_pki::audit::Act;
use fleeti_pki::certificate::Protection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest message, bytes.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Maximum number of certificates of a CRL in one message; more are staged in parts.
pub const REVOKED_AT_ONCE: usize = 10_000;
/// Maximum number of entries in one response.
pub const ENTRIES_MAX: u64 = 1000;
/// Maximum number of names of a server.
pub const NAMES_MAX: usize = 32;

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedSerial {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Time of the revocation, Unix seconds.
    pub revoked_s: u64,
    /// Reason of the revocation.
    pub reason: RevocationReason,
}

/// Why a device gets a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Enrollment of a new device.
    Enrollment,
    /// Renewal of the device's certificate.
    Renewal,
}

/// Data that the server stores wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kept", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kept {
    /// Recovery key of a device's data partition.
    RecoveryKey {
        /// The device.
        device: DeviceId,
    },
    /// A secret of a fleet.
    Secret {
        /// The fleet.
        fleet: FleetId,
        /// Name of the secret.
        name: SecretName,
        /// Who sets it, for the log.
        actor: String,
    },
}

/// A request to the signing service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Issues a device certificate for the key of a CSR, with a device intermediate CA.
    CertifyDevice {
        /// Id of the device.
        device: DeviceId,
        /// PKCS#10, PEM; only its key is used.
        csr_pem: String,
        /// Validity, seconds.
        valid_s: u64,
        /// How the device protects its key.
        protection: Protection,
        /// Enrollment or renewal.
        occasion: Occasion,
        /// SHA-256 of the issuing intermediate certificate; the first one by default.
        #[serde(default)]
        issuer: Option<String>,
    },
    /// Issues a server certificate for the key of a CSR, with a server intermediate CA.
    CertifyServer {
        /// DNS names and IP addresses.
        names: Vec<String>,
        /// PKCS#10, PEM; only its key is used.
        csr_pem: String,
        /// SHA-256 of the issuing intermediate certificate; the first one by default.
        #[serde(default)]
        issuer: Option<String>,
    },
    /// Stages revoked certificates for a later CRL: a message holds about [`REVOKED_AT_ONCE`] of
    /// them.
    StageRevoked {
        /// Name of the CRL, chosen by the caller.
        name: String,
        /// Some of its certificates.
        revoked: Vec<RevokedSerial>,
    },
    /// Signs a CRL of a device intermediate CA.
    Crl {
        /// All revoked certificates that were not staged.
        revoked: Vec<RevokedSerial>,
        /// SHA-256 of the intermediate certificate; the first one by default.
        #[serde(default)]
        issuer: Option<String>,
        /// Name under which the other certificates were staged.
        #[serde(default)]
        staged: Option<String>,
    },
    /// Fetches a part of a CRL that is too large for one message.
    CrlPart {
        /// Name of the CRL.
        name: String,
        /// Number of bytes that the caller has.
        from: u64,
    },
    /// Lists the intermediates for which the signing service has keys.
    Issuers,
    /// Makes Secure Boot keys for a device, and the writes that enroll them.
    MakeBootKeys {
        /// Id of the device.
        device: DeviceId,
    },
    /// Signs the EFI binaries of a release for a device. The manifest lists them, and must be
    /// signed by release keys.
    SignBoot {
        /// Id of the device.
        device: DeviceId,
        /// Its wrapped keys, as returned by the signing service, base64.
        wrapped: String,
        /// `manifest.json`, as signed.
        manifest: String,
        /// Key id and signature (DER, base64) of each release key.
        signatures: Vec<(String, String)>,
    },
    /// Changes the Secure Boot variables of a device.
    ChangeBoot {
        /// Id of the device.
        device: DeviceId,
        /// Its wrapped keys, as returned by the signing service, base64.
        wrapped: String,
        /// The change.
        change: BootKeyChange,
        /// The EFI binaries of the release to forbid: their Authenticode digests (SHA-256),
        /// hexadecimal. Empty for other changes.
        #[serde(default)]
        forbidden: Vec<String>,
    },
    /// Makes a release from a build with the server's release keys, and writes it to the outbox.
    /// The approval policy must be fulfilled.
    SignRelease {
        /// Directory name of the build.
        build: String,
        /// Directory name of the release in the outbox.
        out: String,
        /// The signing request: canonical JSON of [`fleeti_pki::approval::Intent`].
        intent: String,
        /// Signature of the requester.
        #[serde(default)]
        request: Option<SignedBy>,
        /// Signatures of the approvers.
        #[serde(default)]
        approvals: Vec<SignedBy>,
    },
    /// Returns the approval policy for releases.
    ApprovalPolicy,
    /// Wraps data that the server stores and cannot read.
    Keep {
        /// Kind of data.
        kept: Kept,
        /// The data, base64.
        secret: Secret,
    },
    /// Unwraps the recovery key of a device for an operator.
    ShowRecoveryKey {
        /// Id of the device.
        device: DeviceId,
        /// The wrapped key, as returned by the signing service, base64.
        wrapped: String,
        /// The operator, for the log.
        actor: String,
        /// The reason, for the log.
        reason: String,
    },
    /// Unwraps the secrets of a fleet for a device.
    GiveSecrets {
        /// Id of the device.
        device: DeviceId,
        /// Fleet of the secrets.
        fleet: FleetId,
        /// The wrapped secrets, as returned by the signing service, base64, by name.
        #[serde(deserialize_with = "strict::unique")]
        secrets: BTreeMap<SecretName, String>,
    },
    /// Writes an act of the server to the log.
    Record {
        /// The act.
        act: Act,
    },
    /// Returns whether the signing service can work.
    Health,
    /// Returns a checkpoint of the log.
    Checkpoint,
    /// Returns an entry with its inclusion proof.
    Prove {
        /// Number of the entry.
        number: u64,
    },
    /// Returns a consistency proof.
    Consistency {
        /// Size of the older checkpoint.
        old: u64,
        /// Size of the newer checkpoint.
        new: u64,
    },
    /// Returns entries.
    Entries {
        /// Number of the first entry.
        from: u64,
        /// Maximum number of entries.
        limit: u64,
    },
}

/// A response of the signing service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// A certificate.
    Certificate {
        /// DER, base64.
        der: String,
    },
    /// A CRL.
    Crl {
        /// DER, base64.
        der: String,
    },
    /// A CRL to be fetched in parts.
    LargeCrl {
        /// Name of the CRL.
        name: String,
        /// Length, bytes.
        bytes: u64,
    },
    /// A part of a CRL.
    CrlPart {
        /// DER, base64.
        der: String,
    },
    /// The staged certificates were accepted.
    Staged {
        /// Number of staged certificates so far.
        entries: u64,
    },
    /// A device's Secure Boot keys, and the writes to its variables in their order.
    Boot {
        /// The keys, for the server to store.
        state: BootState,
        /// The writes, for the device.
        writes: Vec<VariableWrite>,
    },
    /// A device's signatures over the EFI binaries of a release.
    BootSignatures {
        /// The signatures, for the device.
        signatures: BootSignatures,
    },
    /// Wrapped data for the server to store.
    Kept {
        /// Readable by the signing service only, base64.
        wrapped: String,
    },
    /// A recovery key.
    Shown {
        /// Base64.
        secret: Secret,
    },
    /// Secrets of a fleet.
    Secrets {
        /// Base64, by name.
        #[serde(deserialize_with = "strict::unique")]
        secrets: BTreeMap<SecretName, Secret>,
    },
    /// The release is signed and in the outbox.
    Release {
        /// SHA-256 of its manifest, hexadecimal.
        manifest_sha256: String,
    },
    /// The intermediates for which the signing service has keys: SHA-256 of their certificates.
    Issuers {
        /// Device intermediates.
        device: Vec<String>,
        /// Server intermediates.
        server: Vec<String>,
    },
    /// The approval policy for releases.
    ApprovalPolicy {
        /// TOML of [`fleeti_pki::approval::Policy`]; `None` without release keys.
        policy: Option<String>,
        /// Id of the key that signs manifests.
        #[serde(default)]
        release_key: String,
    },
    /// The signing service answers.
    Health {
        /// The disk of the audit log; `None` if the file system does not tell.
        #[serde(default)]
        room: Option<Room>,
    },
    /// Number of a written entry.
    Recorded {
        /// Starts at 0.
        number: u64,
    },
    /// A checkpoint.
    Checkpoint {
        /// Signed note (C2SP tlog-checkpoint).
        note: String,
    },
    /// An entry with its inclusion proof.
    Proof {
        /// The proof, as devices verify it.
        proof: AuditProof,
    },
    /// A consistency proof: hashes, base64.
    Consistency {
        /// From the leaves to the root.
        hashes: Vec<String>,
    },
    /// Lines of the log.
    Entries {
        /// Oldest first.
        lines: Vec<String>,
    },
    /// A limit is reached; the caller may try again later.
    Limited {
        /// The limit.
        reason: String,
    },
    /// The request was refused or has failed; nothing was signed.
    Refused {
        /// The reason.
        reason: String,
    },
}

/// A request on the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Chosen by the caller, returned with the response.
    pub id: u64,
    /// The request.
    pub request: Request,
}

/// A response on the socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Id of the call.
    pub id: u64,
    /// The response.
    pub response: Response,
}
