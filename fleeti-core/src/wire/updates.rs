//! What decides about the updates of a device, in the HTTP API. Times are Unix seconds.

use crate::id::{DeviceId, FleetId, ReleaseName};
use crate::rollout::gates::{Check, Gate, Hold, Penalty, Pin, Target};
use serde::{Deserialize, Serialize};

/// Longest time for which a device may skip its windows, seconds: a week.
pub const SKIP_WINDOWS_S_MAX: u64 = 7 * 86_400;

/// `GET /devices/{device}/why`: why a device is, or is not, offered a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Why {
    /// Device id.
    pub device: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it runs; absent before its first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ReleaseName>,
    /// The release that it is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<ReleaseName>,
    /// The release that it should run, and where that comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The mandatory release that it must run on its way to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ReleaseName>,
    /// The rollout that updates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The first gate that is closed; if none is, the first at which the offer waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Gate>,
    /// All gates, in the order in which they are read.
    pub gates: Vec<Check>,
    /// Its hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Its pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// The version that failed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<Penalty>,
    /// Until when it may skip its windows, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_windows_until_s: Option<u64>,
}

impl Why {
    /// The gate that decides.
    #[must_use]
    pub fn deciding(&self) -> Option<&Check> {
        self.gates.iter().find(|check| Some(check.gate) == self.first)
    }
}

/// `POST /devices/{device}/updates`: what an operator orders for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum UpdateOrder {
    /// Offer it no release.
    Hold {
        /// Why: 1 to 200 characters.
        #[schema(min_length = 1, max_length = 200)]
        reason: String,
        /// When the hold ends; absent for until it is ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_s: Option<u64>,
    },
    /// End its hold.
    Unhold {},
    /// Offer it this release and no other.
    Pin {
        /// The release.
        release: ReleaseName,
        /// Why: 1 to 200 characters.
        #[schema(min_length = 1, max_length = 200)]
        reason: String,
    },
    /// Take it back to a lower version of its line that it ran before, and pin it to that. Its other
    /// slot must still have it; no image is downloaded. Never below a floor that it has passed, nor
    /// below the minimum version of what it runs.
    Downgrade {
        /// The release.
        release: ReleaseName,
        /// Why: 1 to 200 characters.
        #[schema(min_length = 1, max_length = 200)]
        reason: String,
    },
    /// End its pin.
    Unpin {},
    /// Let it download, install and reboot whatever its windows say, and without waiting for a
    /// user.
    SkipWindows {
        /// Until when, Unix seconds: at most a week from now.
        until_s: u64,
        /// Why: 1 to 200 characters.
        #[schema(min_length = 1, max_length = 200)]
        reason: String,
    },
    /// Let it observe its windows again.
    ObserveWindows {},
    /// Move it to another fleet.
    Move {
        /// The fleet.
        fleet: FleetId,
        /// Why: 1 to 200 characters.
        #[schema(min_length = 1, max_length = 200)]
        reason: String,
    },
}

/// `GET /fleets/{fleet}/channel`: what the devices of a fleet should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Channel {
    /// The fleet.
    pub fleet: FleetId,
    /// The release of the last rollout that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// That rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// What an operator pinned the fleet to: it goes before the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
}

/// `PUT /fleets/{fleet}/channel`: pins a fleet to a release, or ends that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinFleet {
    /// The release; absent to follow the channel again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// Why: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}
