//! The states of an update.

use crate::id::Version;
use serde::{Deserialize, Serialize};

/// State of the update of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = UpdateState)]
pub enum State {
    /// The device runs its desired version.
    #[default]
    Idle,
    /// systemd-sysupdate writes the target to the other slot.
    Staging {
        /// The version that is staged.
        target: Version,
        /// Number of this attempt; 1 for the first.
        attempt: u8,
    },
    /// The other slot contains the target. The boot loader does not know it yet.
    Staged {
        /// The version that is staged.
        target: Version,
        /// Failed attempts to arm it.
        arm_attempts: u8,
    },
    /// The boot loader will start the target at the next boot.
    Armed {
        /// The version that will boot.
        target: Version,
    },
    /// The device runs the target; the result of the health checks is pending.
    Trying {
        /// The version that runs on trial.
        target: Version,
    },
    /// The target ran and did not reach the server in time. The device runs its previous version
    /// again. An outage is not the fault of the target, so the device tries it again after the
    /// server was reached.
    Unconfirmed {
        /// The version that was not kept.
        target: Version,
        /// How often the previous version reached the server at once, where the target did not.
        trials: u8,
        /// Whether the previous version reaches the server.
        contact: Contact,
    },
    /// The target failed, and the device runs its previous version again.
    RolledBack {
        /// The version that failed.
        target: Version,
        /// Why it failed.
        reason: RollbackReason,
    },
    /// The target could not be installed.
    Failed {
        /// The version that could not be installed.
        target: Version,
        /// Why it could not be installed.
        code: FailureCode,
    },
}

/// Whether the version that a device fell back to reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// Not known yet.
    Waiting,
    /// It did not reach the server in the time that the target had: an outage.
    Silent,
    /// It reached the server.
    Reached,
}

/// Why a boot of the target failed, as found afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RollbackReason {
    /// dm-verity found a block that does not match the root hash.
    Verity {
        /// The kernel's message.
        evidence: String,
    },
    /// A health check failed.
    Health {
        /// The health check and its output.
        evidence: String,
    },
    /// The target did not reach the server in time.
    ServerUnreachable {
        /// How long it tried.
        evidence: String,
    },
    /// The boot entry ran out of attempts before the target reached user space.
    BootRefused {
        /// The boot entry that remained.
        evidence: String,
    },
}

/// Why a target could not be installed. The name is a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The manifest has no valid signatures of this image's release keys.
    ManifestUntrusted,
    /// The version is older than the running one or below the minimum version.
    TooOld,
    /// The release is for another architecture or image line.
    WrongImage,
    /// systemd-sysupdate refused the version or could not write it.
    StageFailed,
    /// The staged files differ from the manifest, or could not be armed.
    ArmFailed,
    /// The server could not be reached, or the download stopped.
    Unreachable,
    /// The version was rolled back on this device before, and no operator has allowed it since.
    RolledBackBefore,
    /// The audit log does not contain the publication of this release.
    NotInLog,
    /// The newest checkpoint of the audit log is older than this device accepts: it may hide newer
    /// releases.
    LogStale,
    /// The audit log is not consistent with the checkpoint that the device knows: the server shows
    /// this device a forked log.
    LogSplit,
    /// The device learned that this release was revoked.
    Revoked,
}

impl FailureCode {
    /// Whether another attempt may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unreachable | Self::StageFailed | Self::ArmFailed | Self::LogStale => true,
            Self::ManifestUntrusted
            | Self::TooOld
            | Self::WrongImage
            | Self::RolledBackBefore
            | Self::NotInLog
            | Self::LogSplit
            | Self::Revoked => false,
        }
    }
}

impl State {
    /// The names of all states.
    pub const NAMES: [&'static str; 8] =
        ["idle", "staging", "staged", "armed", "trying", "unconfirmed", "rolled_back", "failed"];

    /// The name of the state.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Staging { .. } => "staging",
            Self::Staged { .. } => "staged",
            Self::Armed { .. } => "armed",
            Self::Trying { .. } => "trying",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::RolledBack { .. } => "rolled_back",
            Self::Failed { .. } => "failed",
        }
    }
    /// The version that the device updates to, or failed to install.
    #[must_use]
    pub fn target(&self) -> Option<&Version> {
        match self {
            Self::Idle => None,
            Self::Staging { target, .. }
            | Self::Staged { target, .. }
            | Self::Armed { target }
            | Self::Trying { target }
            | Self::Unconfirmed { target, .. }
            | Self::RolledBack { target, .. }
            | Self::Failed { target, .. } => Some(target),
        }
    }
}
