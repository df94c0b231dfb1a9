//! Bodies of the HTTP API under `/api/v1`. Times are Unix seconds.

use crate::boot_proof::BootProof;
use crate::id::{DeviceId, FleetId, ReleaseName};
use crate::profile::Profile;
use crate::rollout;
use crate::update;
use crate::wire::device::{
    BootSignatures, BootSummary, EnrollmentRecord, Order, Progress, Telemetry, VariableWrite,
};
pub use crate::wire::trust::{
    Approver, ImportBundle, Intermediate, RequestSignature, SignatureStatus, SignedBy,
    SwitchIssuer, TrustStatus,
};
use serde::{Deserialize, Serialize};

/// A device as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// Whether it holds an MQTT session now.
    pub online: bool,
    /// Whether its certificate was revoked.
    pub revoked: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<RevocationReason>,
    /// Last time anything was heard.
    pub last_seen_s: u64,
    /// What it says it runs.
    pub boot: Option<BootSummary>,
    /// Where its update stands.
    pub update: Option<update::State>,
    /// Download progress while staging.
    pub progress: Option<Progress>,
    /// What it should run.
    pub desired: Option<ReleaseName>,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// End of its certificate's validity.
    pub certificate_not_after_s: u64,
    /// The last telemetry.
    pub telemetry: Option<Telemetry>,
    /// Version of the trust bundle that it has taken; 0 for none.
    #[serde(default)]
    pub trust_bundle: u64,
    /// What it has noticed of its server that should not be: another history of the audit log, an
    /// older trust bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// What contradicts what was promised of it, by its TPM's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<String>,
    /// How its own Secure Boot keys stand; `None` for a device that starts what is signed for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
}

/// How the Secure Boot keys of a device stand, by what it says of its firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecureBoot {
    /// Number of its newest db key.
    pub epoch: u32,
    /// A change of its variables is on its way.
    pub change_pending: bool,
    /// Why the device has not made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it is not what was enrolled; such a device gets no signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `POST /fleets/{fleet}/devices`: the record of a device that is about to be made.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// Seconds until its token expires.
    pub valid_s: u32,
    /// The release that is on its disk; it is signed for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// SHA-256 of its TPM's endorsement key (SubjectPublicKeyInfo), hexadecimal: only that TPM may
    /// use the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_sha256: Option<String>,
    /// No Secure Boot keys of its own: it starts what is signed for all devices of the
    /// organisation.
    #[serde(default)]
    pub fleet_keys: bool,
    /// An HTTP proxy (CONNECT) through which the device reaches the server, as in
    /// `http://proxy.example:3128`; the server's default (`--device-proxy`) where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// The answer to [`Provision`]: shown once. What the disk of the device is made with; as secret as
/// its token.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provisioned {
    /// Its id.
    pub device: DeviceId,
    /// The release that was signed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// What the device must be told.
    pub record: EnrollmentRecord,
    /// When the token expires.
    pub expires_s: u64,
    /// What turns Secure Boot on, in the order in which it is written: db, KEK, PK.
    pub writes: Vec<VariableWrite>,
    /// Its signatures over the programs of the release.
    pub signatures: BootSignatures,
}

/// `POST /devices/{device}/boot-keys`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeBoot {
    /// What is to change.
    pub order: BootOrder,
    /// Whether the other slot may boot no more afterwards; the device refuses the change otherwise.
    #[serde(default)]
    pub may_end_fallback: bool,
}

/// What is to change about the Secure Boot keys of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BootOrder {
    /// A new db key beside the one that there is; what is signed from now on is signed by it.
    BeginEpoch,
    /// The newest db key alone: what was signed before boots no more.
    EndEpoch,
    /// A release that must not boot, whoever signed it: its kernel image goes into dbx.
    Forbid {
        /// Which.
        release: ReleaseName,
    },
}

impl BootOrder {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BeginEpoch => "begin_epoch",
            Self::EndEpoch => "end_epoch",
            Self::Forbid { .. } => "forbid",
        }
    }
}

/// Why a certificate is revoked (RFC 5280, 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// Nobody says.
    #[default]
    Unspecified,
    /// Somebody else has the key, or may have it.
    KeyCompromise,
    /// The device is not used any more.
    CessationOfOperation,
    /// The device may not take part any more.
    PrivilegeWithdrawn,
    /// For the time being: the only reason that can be taken back.
    CertificateHold,
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
        Self::CertificateHold,
    ];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key_compromise",
            Self::CessationOfOperation => "cessation_of_operation",
            Self::PrivilegeWithdrawn => "privilege_withdrawn",
            Self::CertificateHold => "certificate_hold",
        }
    }
}

/// `POST /devices/{device}/revoke`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why.
    #[serde(default)]
    pub reason: RevocationReason,
}

/// A release as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Release {
    /// Its name.
    pub name: ReleaseName,
    /// SHA-256 of `manifest.json`, hexadecimal.
    pub manifest_sha256: String,
    /// When it was published; `None` while files are still missing.
    pub published_s: Option<u64>,
    /// When it was revoked: no device gets it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_s: Option<u64>,
    /// Its artifacts, by path.
    pub artifacts: Vec<crate::manifest::Artifact>,
    /// That it boots as it promises; `None` where nobody has proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_proof: Option<BootProof>,
}

/// `PUT /releases/{release}/boot-proof`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBootProof {
    /// Canonical JSON of a [`BootProof`], as it was signed.
    pub proof: String,
    /// Key id and signature (DER, base64) of each signer.
    pub signatures: Vec<(String, String)>,
}

/// `POST /fleets/{fleet}/enrollments`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrollment {
    /// Seconds until the token expires.
    pub valid_s: u32,
}

/// The answer to [`CreateEnrollment`]: shown once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Enrollment {
    /// What the device must be told.
    pub record: EnrollmentRecord,
    /// When the token expires.
    pub expires_s: u64,
}

/// `POST /pairings`: the code that a device shows.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// As in `BCDF-GHJK`; spaces, case and the line do not matter.
    pub code: String,
    /// The fleet that the device joins.
    pub fleet: FleetId,
}

/// The answer to [`Pair`].
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Paired {
    /// The fleet that the device joins.
    pub fleet: FleetId,
    /// What the device says it runs.
    pub running: ReleaseName,
    /// SHA-256 of its key, hexadecimal.
    pub key_sha256: String,
}

/// `POST /rollouts`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// What to roll out.
    pub release: ReleaseName,
    /// To whom.
    pub fleet: FleetId,
}

/// A rollout as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// Its fleet.
    pub fleet: FleetId,
    /// When it was started.
    pub created_s: u64,
    /// Release, phase and devices.
    pub state: rollout::State,
}

/// A rollout in a list, without its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutSummary {
    /// Its id.
    pub id: String,
    /// Its fleet.
    pub fleet: FleetId,
    /// When it was started.
    pub created_s: u64,
    /// What is rolled out.
    pub release: ReleaseName,
    /// Where it stands.
    pub phase: rollout::Phase,
    /// How many devices stand where.
    pub counts: rollout::Counts,
}

impl From<&Rollout> for RolloutSummary {
    fn from(r: &Rollout) -> Self {
        Self {
            id: r.id.clone(),
            fleet: r.fleet.clone(),
            created_s: r.created_s,
            release: r.state.release.clone(),
            phase: r.state.phase,
            counts: r.state.counts(),
        }
    }
}

/// Entries of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntries {
    /// Canonical JSON, oldest first; the leaves of the tree are the SHA-256 of these very bytes
    /// (RFC 9162, 2.1.1).
    pub lines: Vec<String>,
}

/// An entry of the audit log, with the proof that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditProof {
    /// The entry's line.
    pub entry: String,
    /// Hashes from the leaf upwards, base64 (RFC 9162, 2.1.3).
    pub hashes: Vec<String>,
    /// The signed note that they lead to (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// The proof that the audit log only grew between two sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditConsistency {
    /// Hashes, base64 (RFC 9162, 2.1.4).
    pub hashes: Vec<String>,
}

/// `POST /devices/{device}/commands`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCommand {
    /// What to do.
    pub order: Order,
    /// Seconds until it is not to be carried out any more.
    pub valid_s: u32,
}

/// `POST /devices/{device}/forgive`: a version that was rolled back may be tried again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forgive {
    /// Which.
    pub version: crate::id::Version,
}

/// A command as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandStatus {
    /// Its id.
    pub id: String,
    /// What to do.
    pub order: Order,
    /// `pending`, `done` or `expired`.
    pub status: String,
}

/// A revision of a profile as the API shows it. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileRevision {
    /// The profile's name, and the image line of its builds.
    pub line: crate::id::Line,
    /// 1 for the first of its line.
    pub number: u32,
    /// SHA-256 of the canonical JSON of the profile, hexadecimal.
    pub digest: String,
    /// When it was saved.
    pub created_s: u64,
    /// The document.
    pub profile: Profile,
}

/// Devices that are managed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fleet {
    /// Its name.
    pub name: FleetId,
    /// Devices that have enrolled, revoked ones left out.
    pub devices: u64,
    /// Devices that were revoked.
    pub revoked: u64,
}

/// `POST /builds`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBuild {
    /// What to build.
    pub profile: Profile,
    /// Its version within the line.
    pub version: crate::id::Version,
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildPhase {
    /// Waits for a worker.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Its output is there.
    Succeeded,
    /// Its log says why.
    Failed,
}

/// A build as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Build {
    /// Its id.
    pub id: String,
    /// What it makes.
    pub release: ReleaseName,
    /// Number of the profile's revision that it builds.
    pub revision: u32,
    /// Where it stands.
    pub phase: BuildPhase,
    /// When it was asked for.
    pub created_s: u64,
    /// What the worker does now, or why it failed.
    pub detail: String,
    /// The directory on the server that holds `build.json`, once it has succeeded.
    pub directory: Option<String>,
    /// Where its signature by this server stands, if somebody asked for one.
    #[serde(default)]
    pub signing: Option<BuildPhase>,
    /// What the signer does now, or why it failed.
    #[serde(default)]
    pub signing_detail: String,
}

/// `GET /events`: one server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A device changed.
    Device {
        /// Which.
        id: DeviceId,
    },
    /// A rollout changed.
    Rollout {
        /// Which.
        id: String,
    },
    /// A build changed.
    Build {
        /// Which.
        id: String,
    },
    /// The log of a build grew.
    BuildLog {
        /// Which.
        id: String,
    },
    /// A profile's revision was saved.
    Profile {
        /// Which.
        line: crate::id::Line,
    },
    /// What a fleet asks of its devices changed.
    Fleet {
        /// Which.
        name: FleetId,
    },
    /// A release was published.
    Release {
        /// Which.
        name: ReleaseName,
    },
}
