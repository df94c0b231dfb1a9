//! What the phase of a device means: whether it has an offer, uses a place, and how it is counted.

use crate::rollout::{Category, DevicePhase};

/// Whether the rollout withdrew its offer, or made none yet.
pub(super) fn is_without_offer(phase: &DevicePhase) -> bool {
    match phase {
        DevicePhase::Pending
        | DevicePhase::Queued
        | DevicePhase::Retrying { .. }
        | DevicePhase::Held
        | DevicePhase::Unreached
        | DevicePhase::Silent => true,
        DevicePhase::Blocked
        | DevicePhase::Offered
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Proving
        | DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => false,
    }
}

/// Whether the offer to a device in this phase can still be withdrawn.
pub(super) fn is_blockable(phase: &DevicePhase) -> bool {
    match phase {
        DevicePhase::Offered
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Unconfirmed => true,
        DevicePhase::Pending
        | DevicePhase::Queued
        | DevicePhase::Retrying { .. }
        | DevicePhase::Blocked
        | DevicePhase::Held
        | DevicePhase::Unreached
        | DevicePhase::Silent
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Proving
        | DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => false,
    }
}

impl DevicePhase {
    /// Whether the rollout offers its release to a device in this phase.
    #[must_use]
    pub fn has_offer(&self) -> bool {
        !self.is_finished() && *self != Self::Blocked && !is_without_offer(self)
    }

    /// Whether a device in this phase uses a place in the budget of its group.
    #[must_use]
    pub fn uses_place(&self) -> bool {
        match self {
            Self::Offered
            | Self::Staging
            | Self::Staged
            | Self::Rebooting
            | Self::Trying
            | Self::Unconfirmed
            | Self::Proving
            | Self::Silent => true,
            Self::Pending
            | Self::Queued
            | Self::Retrying { .. }
            | Self::Blocked
            | Self::Held
            | Self::Unreached
            | Self::Succeeded
            | Self::AttestationFailed
            | Self::RolledBack { .. }
            | Self::Revoked
            | Self::Failed { .. } => false,
        }
    }

    /// The category in which the header counts the device.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Pending => Category::Pending,
            Self::Queued | Self::Retrying { .. } => Category::Queued,
            Self::Held | Self::Unreached => Category::Unreached,
            Self::Blocked | Self::Offered => Category::Waiting,
            Self::Staging | Self::Staged | Self::Rebooting | Self::Trying | Self::Proving => {
                Category::Moving
            }
            Self::Unconfirmed => Category::Unconfirmed,
            Self::Succeeded => Category::Succeeded,
            Self::AttestationFailed
            | Self::Silent
            | Self::RolledBack { .. }
            | Self::Revoked
            | Self::Failed { .. } => Category::Failed,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Held => "held",
            Self::Offered => "offered",
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Retrying { .. } => "retrying",
            Self::Unreached => "unreached",
            Self::Silent => "silent",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Rebooting => "rebooting",
            Self::Trying => "trying",
            Self::Unconfirmed => "unconfirmed",
            Self::Proving => "proving",
            Self::Succeeded => "succeeded",
            Self::AttestationFailed => "attestation_failed",
            Self::RolledBack { .. } => "rolled_back",
            Self::Revoked => "revoked",
            Self::Failed { .. } => "failed",
        }
    }
}
