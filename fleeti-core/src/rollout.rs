//! A rollout: one release to one fleet.
//!
//! A rollout is a header and one row for each device. [`device::step`] reads and writes one row;
//! [`header::step`] moves the rollout by the difference. Both are pure: the server stores what they
//! return, and applies the effects after the commit.
//!
//! Without a [`plan::Plan`] the server offers the release to every device of the fleet when the
//! rollout starts, and the rollout ends when every device has finished. With one, devices are pending
//! until their wave; [`waves`] says how far it is.

pub mod asked;
pub mod budget;
pub mod cohort;
mod counts;
pub mod device;
pub mod forecast;
pub mod gates;
pub mod header;
pub mod plan;
pub mod waves;

pub use counts::{Category, Counts, UnknownCategory};

use crate::id::ReleaseName;
use crate::update;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// An operator, or too many errors, pauses it: offers are withdrawn in chunks.
    Pausing,
    /// Paused: no device is offered the release.
    Paused,
    /// Every device runs the release; in waves: the last wave ended with no more errors than the
    /// plan accepts.
    Succeeded,
    /// Every device has finished, and at least one does not run the release.
    Failed,
    /// It was aborted; offers are withdrawn in chunks.
    Aborting,
    /// It was aborted, and all offers are withdrawn.
    Aborted,
}

impl Phase {
    /// Whether the phase is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Aborted => true,
            Self::Ready
            | Self::Starting
            | Self::Running
            | Self::Pausing
            | Self::Paused
            | Self::Aborting => false,
        }
    }

    /// All phases.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Pausing,
        Self::Paused,
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
            Self::Pausing => "pausing",
            Self::Paused => "paused",
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
    /// How it proceeds; `None` for everybody at once.
    pub plan: Option<&'a plan::Plan>,
    /// Whether it is urgent: its waves do not soak. Nothing else differs.
    pub is_urgent: bool,
    /// Whether the release may be offered to one more device now: see [`header::may_offer`].
    pub may_offer: bool,
    /// Whether the group of the device has a place for it.
    pub room: budget::Room,
}

/// State of a device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DevicePhase {
    /// Waits for its wave, for a place, or for the rollout to be resumed.
    Pending,
    /// Waits until the [budget] of its group has a place for it.
    Queued,
    /// Failed to install the release, and is offered it again after a pause.
    Retrying {
        /// Why it failed.
        code: update::FailureCode,
        /// When the pause ends, Unix seconds.
        until_s: u64,
    },
    /// Blocked: the attestation level is below the fleet's minimum for updates, so the server does
    /// not offer the release.
    Blocked,
    /// Offered; no report received yet.
    Offered,
    /// Held back by a [gate](gates) other than the level: the rollout goes on without it. It is
    /// offered the release if the gate opens while the rollout runs.
    Held,
    /// Was offered the release, did not start, and is not heard of. It is offered again when it
    /// returns.
    Unreached,
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
    /// Started, and is not heard of: an error until it returns.
    Silent,
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
            Self::Pending
            | Self::Queued
            | Self::Retrying { .. }
            | Self::Blocked
            | Self::Offered
            | Self::Held
            | Self::Unreached
            | Self::Silent
            | Self::Staging
            | Self::Staged
            | Self::Rebooting
            | Self::Trying
            | Self::Unconfirmed
            | Self::Proving => false,
        }
    }
}

/// What the gates permit a device, and the appraisal policy of its fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligibility {
    /// Whether the release may be offered to it.
    pub may_update: bool,
    /// Whether a gate other than the level is closed.
    pub is_held: bool,
    /// When that gate opens by itself, because the version failed on the device, Unix seconds.
    pub again_s: Option<u64>,
    /// The release that the device must run before the one of the rollout.
    pub via: Option<ReleaseName>,
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

#[cfg(test)]
mod tests;
