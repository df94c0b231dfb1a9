//! Rollouts in the HTTP API. Times are Unix seconds.

use crate::id::{DeviceId, FleetId, ReleaseName};
use crate::rollout;
use serde::{Deserialize, Serialize};

/// `POST /rollouts`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// The release to roll out.
    pub release: ReleaseName,
    /// The fleet to roll it out to.
    pub fleet: FleetId,
    /// Its waves; absent for everybody at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<rollout::plan::Plan>,
    /// Why it is urgent; absent if it is not. An urgent rollout does not soak, and its devices skip
    /// their update windows. Levels, proofs, health checks, limits and budgets count as always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent: Option<Urgent>,
}

/// Why a rollout is urgent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UrgentRollout)]
pub struct Urgent {
    /// The reason: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// How far an urgent rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UrgentRolloutCounts)]
pub struct UrgentCounts {
    /// Devices whose TPM has proved that they run the release.
    pub proved: usize,
    /// Devices that a gate holds back, or whose level is too low.
    pub blocked: usize,
    /// Devices that did not start in time.
    pub unreached: usize,
}

/// `POST /rollouts/{rollout}/next`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NextWave {
    /// Why, for the audit log: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
    /// Whether the wave begins without the answer of the webhook gate. Only for `next`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over_gate: bool,
}

/// Maximum number of rollouts that one `POST /rollout-pauses` looks at.
pub const PAUSES_MAX: u32 = 1000;

/// `POST /rollout-pauses`: pauses all rollouts that run.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRollouts {
    /// Why, for the audit log: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// What became of the rollouts that were to be paused: at most 1000 of the newest. Repeat the request
/// until both lists are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PausedRollouts {
    /// Rollouts that this request paused.
    pub paused: Vec<RolloutSummary>,
    /// Rollouts that cannot be paused yet: their devices join, or they wait for the end of another
    /// rollout. They begin to offer their release soon.
    pub left: Vec<RolloutSummary>,
}

/// Largest number of characters in a reason.
pub const REASON_MAX: usize = 200;

/// A rollout, with a page of its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Rollout id.
    pub id: String,
    /// The fleet of the rollout.
    pub fleet: FleetId,
    /// When the rollout started.
    pub created_s: u64,
    /// The release that is rolled out.
    pub release: ReleaseName,
    /// Phase of the rollout.
    pub phase: rollout::Phase,
    /// Number of devices in each category.
    pub counts: rollout::Counts,
    /// Its waves, as they were asked for; absent for everybody at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<rollout::plan::Plan>,
    /// How far its waves are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<rollout::waves::Waves>,
    /// The rollout that starts when the last offer of this one is withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// The rollout whose devices go back to what they ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_of: Option<String>,
    /// Why it is urgent; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent: Option<Urgent>,
    /// How far it is; absent if it is not urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent_counts: Option<UrgentCounts>,
    /// A page of the devices, ordered by id.
    pub devices: Vec<RolloutDevice>,
    /// The last device of this page, to pass as `after`; absent if no page follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DeviceId>,
}

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutDevice {
    /// Device id.
    pub device: DeviceId,
    /// Phase of the device.
    pub phase: rollout::DevicePhase,
    /// When the phase began.
    pub since_s: u64,
    /// The wave that took it, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// The mandatory release that it was last offered on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ReleaseName>,
    /// How often it failed and was, or will be, offered the release again; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Its group in the budget of the rollout; empty for a device without the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Selects the devices in `GET /rollouts/{rollout}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RolloutQuery {
    /// Return only devices of this category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub category: Option<rollout::Category>,
    /// The last device of the previous page; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<DeviceId>,
    /// Maximum number of devices in the page, 1 to 1000; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A rollout, without its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutSummary {
    /// Rollout id.
    pub id: String,
    /// The fleet of the rollout.
    pub fleet: FleetId,
    /// When the rollout started.
    pub created_s: u64,
    /// The release that is rolled out.
    pub release: ReleaseName,
    /// Phase of the rollout.
    pub phase: rollout::Phase,
    /// Number of devices in each category.
    pub counts: rollout::Counts,
    /// Its waves, as they were asked for; absent for everybody at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<rollout::plan::Plan>,
    /// How far its waves are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<rollout::waves::Waves>,
    /// The rollout that starts when the last offer of this one is withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// The rollout whose devices go back to what they ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_of: Option<String>,
    /// Why it is urgent; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent: Option<Urgent>,
}
