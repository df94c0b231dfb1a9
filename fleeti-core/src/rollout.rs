//! A rollout: one release to one fleet.
//!
//! A rollout is a header and one row for each device. [`device::step`] reads and writes one row;
//! [`header::step`] moves the rollout by the difference. Both are pure: the server stores what they
//! return, and applies the effects after the commit.
//!
//! A rollout has one wave: the server offers the release to every device of the fleet when the
//! rollout starts, and the rollout ends when every device has finished.

pub mod device;
pub mod header;

use crate::id::ReleaseName;
use crate::update;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest number of devices in one rollout.
pub const DEVICES_MAX: usize = 100_000;

/// Phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutPhase)]
pub enum Phase {
    /// Not started.
    Ready,
    /// Starts: devices join in chunks. Those that have joined already update.
    Starting,
    /// All devices have joined, and update.
    Running,
    /// Every device runs the release.
    Succeeded,
    /// Every device has finished, and at least one does not run the release.
    Failed,
    /// An operator stopped it; offers are withdrawn in chunks.
    Aborting,
    /// An operator stopped it, and all offers are withdrawn.
    Aborted,
}

impl Phase {
    /// Whether the phase is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Aborted => true,
            Self::Ready | Self::Starting | Self::Running | Self::Aborting => false,
        }
    }

    /// All phases.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Aborting,
        Self::Aborted,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the header of a rollout counts, in the order of attention.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutCategory)]
pub enum Category {
    /// Has finished, and does not run the release.
    Failed,
    /// Ran the release and did not reach the server: neither a success nor a failure.
    Unconfirmed,
    /// Updates.
    Moving,
    /// Blocked, or offered and not yet reported.
    Waiting,
    /// Runs the release.
    Succeeded,
}

impl Category {
    /// All categories, in the order of attention.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Unconfirmed, Self::Moving, Self::Waiting, Self::Succeeded];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
            Self::Moving => "moving",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
        }
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;
    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let found = Self::ALL.into_iter().find(|category| category.name() == text);
        found.ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

/// A text that names no [`Category`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not failed, unconfirmed, moving, waiting or succeeded")]
pub struct UnknownCategory(String);

/// Bounds of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of devices.
    pub devices_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices_max: DEVICES_MAX }
    }
}

/// What both machines of a rollout need beside their state.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// Unix seconds.
    pub now_s: u64,
    /// The release that is rolled out.
    pub release: &'a ReleaseName,
    /// The limits.
    pub limits: Limits,
}

/// State of a device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DevicePhase {
    /// Blocked: the attestation level is below the fleet's minimum for updates, so the server does
    /// not offer the release.
    Blocked,
    /// Offered; no report received yet.
    Offered,
    /// Writes the release to the other slot.
    Staging,
    /// Written to the other slot; waits for its maintenance window.
    Staged,
    /// Reboots into the release.
    Rebooting,
    /// Runs the release; the result of the health checks is pending.
    Trying,
    /// Ran the release and did not reach the server. The previous version tries it again.
    Unconfirmed,
    /// Reports that it runs the release and is healthy; the server waits for evidence of its TPM.
    Proving,
    /// Runs the release and is healthy.
    Succeeded,
    /// Attestation failed: the evidence contradicts that it runs the release.
    AttestationFailed,
    /// Rolled back to its previous version.
    RolledBack {
        /// Why it rolled back.
        reason: update::RollbackReason,
    },
    /// Its certificate was revoked during the rollout.
    Revoked,
    /// Failed to install the release.
    Failed {
        /// Why it failed.
        code: update::FailureCode,
    },
}

impl DevicePhase {
    /// Whether the device has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Succeeded
            | Self::AttestationFailed
            | Self::RolledBack { .. }
            | Self::Revoked
            | Self::Failed { .. } => true,
            Self::Blocked
            | Self::Offered
            | Self::Staging
            | Self::Staged
            | Self::Rebooting
            | Self::Trying
            | Self::Unconfirmed
            | Self::Proving => false,
        }
    }
}

/// Number of devices in each category; those that wait are the rest of the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// All devices.
    pub total: usize,
    /// Devices that run the release.
    pub succeeded: usize,
    /// Devices that have finished and do not run the release.
    pub failed: usize,
    /// Devices that have not finished.
    pub moving: usize,
    /// Devices that ran the release but did not reach the server: neither a success nor a failure.
    #[serde(default)]
    pub unconfirmed: usize,
}

/// What the appraisal policy of its fleet permits a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligibility {
    /// Whether the release may be offered to it.
    pub may_update: bool,
    /// What is proved about the release that it runs.
    pub proof: Proof,
}

/// What is proved about the release that a device runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The fleet requires no proof: the device's report is sufficient.
    NotAsked,
    /// The device runs this release, at a sufficient level.
    Of(ReleaseName),
    /// No sufficient proof.
    Missing,
    /// Attestation failed.
    AttestationFailed,
}
