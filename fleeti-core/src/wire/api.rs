//! Bodies of the HTTP API under `/api/v1`. Times are Unix seconds.

use crate::boot_proof::BootProof;
use crate::id::{DeviceId, FleetId, LabelKey, ReleaseName};
use crate::profile::Profile;
use crate::update;
use crate::wire::boot::{BootSignatures, BootSummary, VariableWrite};
use crate::wire::device::{CommandKind, Progress, Telemetry};
use crate::wire::enrollment::EnrollmentRecord;
use crate::wire::package::{NoPackageQuery, PackageQuery};
use crate::wire::profile::MadeOf;
pub use crate::wire::rollout::{
    CreateRollout, NextWave, PAUSES_MAX, PauseRollouts, PausedRollouts, REASON_MAX, Rollout,
    RolloutDevice, RolloutQuery, RolloutSummary, Urgent, UrgentCounts,
};
pub use crate::wire::trust::{
    Approver, ImportBundle, Intermediate, RequestSignature, SignatureStatus, SignedBy,
    SwitchIssuer, TrustStatus,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Device {
    /// Device id.
    pub id: DeviceId,
    /// The fleet that the device belongs to.
    pub fleet: FleetId,
    /// Its name; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A note about it; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub labels: BTreeMap<LabelKey, String>,
    /// The device that took its place; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<DeviceId>,
    /// Whether the device has an MQTT session now.
    pub online: bool,
    /// Whether the device's certificate is revoked.
    pub revoked: bool,
    /// Why the certificate is revoked; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<RevocationReason>,
    /// When the server last received anything from the device.
    pub last_seen_s: u64,
    /// What the device reports that it runs. Not proved.
    pub boot: Option<BootSummary>,
    /// State of the device's update.
    pub update: Option<update::State>,
    /// Download progress, while the device stages a version.
    pub progress: Option<Progress>,
    /// The release that the device should run.
    pub desired: Option<ReleaseName>,
    /// SHA-256 of the device certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// When the device certificate expires.
    pub certificate_not_after_s: u64,
    /// The last telemetry of the device.
    pub telemetry: Option<Telemetry>,
    /// Version of the trust bundle that the device has installed; 0 for none.
    #[serde(default)]
    pub trust_bundle: u64,
    /// An alarm: a code, a colon and words. The device raises one about the server (`log_split`,
    /// `log_stale`, `log_unproved`, `bundle_older`), its own state (`state_unusable`), its clock
    /// (`clock_wrong`) or a new secret that did not reach the server (`secret_refused`); the server raises one if two clients use the device's certificate
    /// (`certificate_shared`), or if it refuses the device's reports (`reports_refused`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// Why attestation failed: what the evidence of the device's TPM contradicts. Absent if it did
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_failure: Option<String>,
    /// State of the device's own Secure Boot keys; absent for a device that boots what is signed
    /// for all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
}

/// State of a device's own Secure Boot keys, compared with what the device reports of its firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecureBoot {
    /// Number of the newest db key of the device.
    pub epoch: u32,
    /// Whether a change of the device's Secure Boot variables is pending.
    pub change_pending: bool,
    /// Why the device refused the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How the firmware differs from what was enrolled. The server makes no signatures for such a
    /// device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `POST /fleets/{fleet}/devices`: provisions a device before its disk is made.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// Seconds until the enrollment token expires.
    pub valid_s: u32,
    /// The release on the device's disk. The server signs it for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// SHA-256 of the endorsement key of the device's TPM (SubjectPublicKeyInfo), hexadecimal. Only
    /// that TPM may use the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_sha256: Option<String>,
    /// Make no Secure Boot keys for this device: it boots what is signed for all devices of the
    /// organisation.
    #[serde(default)]
    pub fleet_keys: bool,
    /// HTTP proxy (CONNECT) through which the device reaches the server, for example
    /// `http://proxy.example:3128`. Default: the server's `--device-proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// A provisioned device, from which its disk is made. The server shows it once. Keep it as secret as
/// the token that it contains.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provisioned {
    /// Device id.
    pub device: DeviceId,
    /// The release that the server signed for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// The enrollment record for the device's disk.
    pub record: EnrollmentRecord,
    /// When the enrollment token expires.
    pub expires_s: u64,
    /// Writes of Secure Boot variables that turn Secure Boot on, in the order to apply them: db,
    /// KEK, PK.
    pub writes: Vec<VariableWrite>,
    /// Signatures for this device over the EFI binaries of the release.
    pub signatures: BootSignatures,
}

/// `POST /devices/{device}/boot-keys`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeBoot {
    /// The change to make.
    pub change: BootKeyChange,
    /// Whether the other slot may stop booting after the change. If not, the device refuses a
    /// change that would cause it.
    #[serde(default)]
    pub may_end_fallback: bool,
}

/// A change of the Secure Boot keys of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum BootKeyChange {
    /// Add a new db key beside the current one. New signatures are made with the new key.
    BeginEpoch,
    /// Keep only the newest db key. The firmware then does not boot what older keys signed.
    EndEpoch,
    /// Forbid a release: its UKI goes into dbx and does not boot, whichever key signed it.
    Forbid {
        /// The release to forbid.
        release: ReleaseName,
    },
}

impl BootKeyChange {
    /// The name on the wire.
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
    /// No reason given.
    #[default]
    Unspecified,
    /// Another party has the private key, or may have it.
    KeyCompromise,
    /// The device is out of use.
    CessationOfOperation,
    /// The device is no longer allowed to take part.
    PrivilegeWithdrawn,
    /// Suspended. The only reason that can be withdrawn.
    CertificateHold,
}

impl RevocationReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
        Self::CertificateHold,
    ];

    /// The name on the wire.
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
    /// Reason of the revocation.
    #[serde(default)]
    pub reason: RevocationReason,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Release {
    /// Name of the release.
    pub name: ReleaseName,
    /// SHA-256 of `manifest.json`, hexadecimal.
    pub manifest_sha256: String,
    /// When it was published; `null` while artifacts are missing.
    pub published_s: Option<u64>,
    /// When it was revoked. The server offers a revoked release to no device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_s: Option<u64>,
    /// The artifacts, with their paths.
    pub artifacts: Vec<crate::manifest::Artifact>,
    /// Proof that the release boots and measures what its manifest predicts; absent if there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_proof: Option<BootProof>,
}

/// `PUT /releases/{release}/boot-proof`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBootProof {
    /// Canonical JSON of a boot proof: the signed bytes.
    pub proof: String,
    /// Key id and signature (DER, base64) of each signer.
    pub signatures: Vec<(String, String)>,
}

/// `POST /fleets/{fleet}/enrollments`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrollment {
    /// Seconds until the enrollment token expires.
    pub valid_s: u32,
}

/// A new enrollment token. The server shows it once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Enrollment {
    /// The enrollment record for the device.
    pub record: EnrollmentRecord,
    /// When the enrollment token expires.
    pub expires_s: u64,
}

/// `POST /pairings`: accepts the pending enrollment that shows this code.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The pairing code, for example `BCDF-GHJK`. Spaces, case and the dash do not matter.
    pub code: String,
    /// The fleet that the device joins.
    pub fleet: FleetId,
}

/// A pending enrollment that was accepted.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Paired {
    /// The fleet that the device joins.
    pub fleet: FleetId,
    /// What the device reports that it runs. Not proved.
    pub running: ReleaseName,
    /// SHA-256 of the device's public key, hexadecimal.
    pub key_sha256: String,
}

/// `POST /devices/{device}/commands`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCommand {
    /// What the device should do.
    pub kind: CommandKind,
    /// Seconds until the command expires.
    pub valid_s: u32,
    /// For a factory reset: the id of the device, which the operator has typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// `POST /devices/{device}/forgive`: lets the device install a version again that it rolled back.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forgive {
    /// The version that was rolled back.
    pub version: crate::id::Version,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandStatus {
    /// Command id.
    pub id: String,
    /// The device.
    pub device: DeviceId,
    /// What the device should do.
    pub kind: CommandKind,
    /// `pending`, `running`, `cancelling`, `done`, `failed`, `cancelled` or `expired`.
    pub status: String,
    /// Progress, or the result or the reason in words, as the device states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was sent, Unix seconds.
    pub created_s: u64,
    /// After this time the device does not begin it, Unix seconds.
    pub deadline_s: u64,
    /// When the status changed, Unix seconds.
    pub changed_s: u64,
    /// Who sent it.
    pub sent_by: String,
    /// Size of its result, bytes. Absent before the result arrives, and after it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
}

/// A revision of a profile. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileRevision {
    /// Name of the profile, which is also the image line of its builds.
    pub line: crate::id::Line,
    /// Number of the revision; 1 for the first of its line.
    pub number: u32,
    /// SHA-256 of the canonical JSON of the profile, hexadecimal.
    pub digest: String,
    /// When the revision was saved.
    pub created_s: u64,
    /// The profile, with everything that it inherits.
    pub profile: Profile,
    /// The document as its author wrote it, TOML; `None` if the profile came as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The exact fragments that it was made of, in the order of merging. It does not follow newer
    /// revisions of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_of: Vec<MadeOf>,
}

/// A named group of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fleet {
    /// Name of the fleet.
    pub name: FleetId,
    /// Number of enrolled devices that are not revoked.
    pub devices: u64,
    /// Number of revoked devices.
    pub revoked: u64,
}

/// `POST /builds`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBuild {
    /// The profile to build.
    pub profile: Profile,
    /// The version to build, within the line of the profile.
    pub version: crate::id::Version,
    /// Refresh the package lock of the line first. The log of the build shows what changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh_lock: bool,
    /// Refresh these packages of the lock first, with what they need, and keep all others; at most 50.
    /// Each is a name, perhaps with the versions that are good enough: `openssl>=3.5.1-1+deb13u2`. The
    /// build fails if the lock then has another version. Not together with `refresh_lock`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50)]
    pub refresh_packages: Vec<String>,
}

impl CreateBuild {
    /// The packages that it refreshes.
    ///
    /// # Errors
    /// [`NoPackageQuery`] for the first text that names none.
    pub fn packages_to_refresh(&self) -> Result<Vec<PackageQuery>, NoPackageQuery> {
        self.refresh_packages.iter().map(|text| text.parse()).collect()
    }
}

/// Largest number of packages that a build refreshes by name.
pub const REFRESH_MAX: usize = 50;

/// Phase of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildPhase {
    /// The build waits for a worker.
    Queued,
    /// A worker holds the lease of the build.
    Running,
    /// The build succeeded and its output is stored.
    Succeeded,
    /// The build failed; its log says why.
    Failed,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Build {
    /// Build id.
    pub id: String,
    /// The release that the build makes.
    pub release: ReleaseName,
    /// Number of the profile revision that is built.
    pub revision: u32,
    /// Phase of the build.
    pub phase: BuildPhase,
    /// When the build was requested.
    pub created_s: u64,
    /// What the worker does now, or why the build failed.
    pub detail: String,
    /// Directory on the server that holds `build.json`, once the build has succeeded.
    pub directory: Option<String>,
    /// Phase of signing the build with this server's keys; `null` if nobody requested it.
    #[serde(default)]
    pub signing: Option<BuildPhase>,
    /// What the signing job does now, or why it failed.
    #[serde(default)]
    pub signing_detail: String,
    /// The packages of the lock that it refreshed by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refreshed: Vec<String>,
}

/// `GET /events`: the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A device changed.
    Device {
        /// Device id.
        id: DeviceId,
    },
    /// A rollout changed.
    Rollout {
        /// Rollout id.
        id: String,
    },
    /// A build changed.
    Build {
        /// Build id.
        id: String,
    },
    /// The log of a build grew.
    BuildLog {
        /// Build id.
        id: String,
    },
    /// A revision of a profile was saved.
    Profile {
        /// Image line of the profile.
        line: crate::id::Line,
    },
    /// The appraisal policy of a fleet changed.
    Fleet {
        /// Name of the fleet.
        name: FleetId,
    },
    /// A release was published.
    Release {
        /// Name of the release.
        name: ReleaseName,
    },
    /// Alerts, their rules or silences changed.
    Alerts,
}
