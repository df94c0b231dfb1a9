//! The evidence of a release in the HTTP API: who approved it, and what was proved when. Times are
//! Unix seconds.

use crate::attestation::Level;
use crate::id::DeviceId;
use crate::wire::api::{Build, Release, RolloutSummary, SignedBy};
use crate::wire::audit::AuditProof;
use serde::{Deserialize, Serialize};

/// `kind` of [`ReleaseEvidence`].
pub const KIND: &str = "fleeti.release-evidence.v1";
/// Maximum number of builds, and of rollouts, in the evidence: the newest.
pub const ROWS_MAX: u32 = 100;
/// Maximum number of devices in the evidence, by id.
pub const DEVICES_MAX: u32 = 1000;
/// Maximum number of audit entries in the evidence: the first.
pub const ENTRIES_MAX: usize = 200;

/// `GET /releases/{release}/evidence`: everything that this server can show about a release, in one
/// document. Signatures and inclusion proofs are verified without the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseEvidence {
    /// [`KIND`].
    pub kind: String,
    /// When the document was made.
    pub exported_s: u64,
    /// The account that requested it.
    pub exported_by: String,
    /// The release, with its boot proof.
    pub release: Release,
    /// `manifest.json`: the bytes that release keys signed.
    pub manifest: String,
    /// Key id and signature (DER, base64) of each release key.
    pub signatures: Vec<(String, String)>,
    /// The builds of this server that made the version, newest first.
    pub builds: Vec<BuildEvidence>,
    /// Its rollouts, newest first.
    pub rollouts: Vec<RolloutSummary>,
    /// Number of devices whose last evidence was of this release.
    pub proved: u64,
    /// Those devices, by id.
    pub devices: Vec<ProvedDevice>,
    /// Entries of the audit log about the release, its builds and its rollouts, oldest first, each
    /// with its inclusion proof.
    pub entries: Vec<AuditProof>,
    /// What part of the audit log was searched for them.
    pub searched: Searched,
}

/// A build and its approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BuildEvidence {
    /// The build.
    pub build: Build,
    /// The signing request: canonical JSON, which the requester and the approvers signed; absent if
    /// nobody requested a signature of this server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Who requested it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Signatory>,
    /// Who approved it.
    pub approvals: Vec<Signatory>,
}

/// A signature of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signatory {
    /// The name of the key in the approval policy; absent for a key that is not in it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The signature.
    pub by: SignedBy,
}

/// A device that has proved by its TPM that it booted the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProvedDevice {
    /// Device id.
    pub device: DeviceId,
    /// The attestation level that its evidence reached.
    pub level: Level,
    /// When the evidence was appraised.
    pub appraised_s: u64,
    /// SHA-256 of the quote, hexadecimal.
    pub evidence: String,
}

/// A part of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Searched {
    /// Number of the first entry that was searched.
    pub from: u64,
    /// Number of the entry after the last one that was searched.
    pub until: u64,
    /// Number of entries in the log.
    pub size: u64,
    /// Number of entries that were found and are left out.
    pub left_out: u64,
}
