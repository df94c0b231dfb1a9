//! Acts that need the approval of a second person, in the HTTP API. Times are Unix seconds.

use super::api::RevocationReason;
use super::labels::ChangeDevices;
use super::rollout::{CreateRollout, NextWave};
use super::updates::{PinFleet, UpdateOrder};
use super::vault::ShowRecoveryKey;
use crate::approval::State;
use crate::foreign::Foreign;
use crate::id::{AccountName, DeviceId, FleetId, ReleaseName};
use crate::rollout::gates::ReleasePath;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum length of a reason or note, characters.
pub const REASON_MAX: usize = 200;
/// Validity of a pending act, if its requester names none, seconds.
pub const VALID_S: u32 = 86_400;
/// Maximum validity of a pending act, seconds.
pub const VALID_S_MAX: u32 = 7 * 86_400;
/// Maximum number of acts of an account that wait.
pub const WAITING_MAX: usize = 20;
/// Maximum number of pending acts in a list.
pub const LIST_MAX: u32 = 500;
/// Maximum number of fleets whose rollouts need a second person.
pub const FLEETS_MAX: usize = 500;
/// The time within which the revocations of an account are counted, seconds.
pub const REVOKED_WITHIN_S: u64 = 3600;

/// Which acts need the approval of a second person. Without any, none does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// Number of devices that an account revokes within an hour without a second person; absent
    /// for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1000)]
    pub revoked_max: Option<u32>,
    /// Fleets to which a rollout, a pin or a move of a device away needs a second person.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub rollout_fleets: Vec<FleetId>,
    /// Whether a recovery key is shown only with a second person.
    #[serde(default)]
    pub recovery_keys: bool,
    /// Whether an urgent rollout needs a second person, to any fleet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent_rollouts: bool,
    /// Whether a change of the floors and blocked ways of a release needs a second person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub release_paths: bool,
}

impl ApprovalPolicy {
    /// Whether no act needs a second person.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An act for which an approval is requested, as its own request has it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AskedAct {
    /// Revoke the devices that a filter matches now.
    RevokeDevices {
        /// The request, with the number of its preview.
        request: ChangeDevices,
    },
    /// Start a rollout.
    StartRollout {
        /// The request.
        request: CreateRollout,
    },
    /// Start a rollout in place of an active one.
    SupersedeRollout {
        /// The active rollout.
        rollout: String,
        /// The request.
        request: CreateRollout,
    },
    /// Begin the next wave of a rollout, which waits for approval.
    NextWave {
        /// The rollout.
        rollout: String,
        /// The request.
        request: NextWave,
    },
    /// Pin a fleet to a release, or end that.
    PinFleet {
        /// The fleet.
        fleet: FleetId,
        /// The request.
        request: PinFleet,
    },
    /// Order something for the updates of a device.
    OrderUpdates {
        /// The device.
        device: DeviceId,
        /// The request.
        request: UpdateOrder,
    },
    /// Replace the floors and blocked ways of a release.
    SetReleasePath {
        /// The release.
        release: ReleaseName,
        /// The request.
        path: ReleasePath,
    },
    /// Show the recovery key of a device. The requester collects it after the approval.
    ShowRecoveryKey {
        /// The device.
        device: DeviceId,
        /// The request.
        request: ShowRecoveryKey,
    },
    /// Change which acts need a second person.
    SetPolicy {
        /// The policy.
        policy: ApprovalPolicy,
    },
}

/// An act as it is approved: nothing in it is looked up again when it is performed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuardedAct {
    /// Revoke these devices.
    RevokeDevices {
        /// The devices.
        devices: Vec<DeviceId>,
        /// The filter that they matched.
        filter: String,
        /// The reason.
        reason: RevocationReason,
    },
    /// Start a rollout.
    StartRollout {
        /// The request.
        request: CreateRollout,
    },
    /// Start a rollout in place of an active one.
    SupersedeRollout {
        /// The active rollout.
        rollout: String,
        /// The request.
        request: CreateRollout,
    },
    /// Begin this wave of a rollout.
    NextWave {
        /// The rollout.
        rollout: String,
        /// Number of the wave, from 0.
        wave: u32,
        /// The request.
        request: NextWave,
    },
    /// Pin a fleet to a release, or end that.
    PinFleet {
        /// The fleet.
        fleet: FleetId,
        /// The request.
        request: PinFleet,
    },
    /// Order something for the updates of a device.
    OrderUpdates {
        /// The device.
        device: DeviceId,
        /// The request.
        request: UpdateOrder,
    },
    /// Replace the floors and blocked ways of a release.
    SetReleasePath {
        /// The release.
        release: ReleaseName,
        /// The request.
        path: ReleasePath,
    },
    /// Show the recovery key that the server got at this time.
    ShowRecoveryKey {
        /// The device.
        device: DeviceId,
        /// The request.
        request: ShowRecoveryKey,
        /// When the server got the newest key of the device.
        kept_s: u64,
    },
    /// Change which acts need a second person.
    SetPolicy {
        /// The policy.
        policy: ApprovalPolicy,
    },
}

fn urgent_words(request: &CreateRollout) -> &'static str {
    if request.urgent.is_some() { "an urgent rollout" } else { "a rollout" }
}

fn gate_words(request: &CreateRollout) -> String {
    match request.plan.as_ref().and_then(|plan| plan.gate.as_ref()) {
        Some(gate) => format!("with gate {}", Foreign::log(gate)),
        None => "without a webhook gate".to_owned(),
    }
}

impl fmt::Display for GuardedAct {
    /// The act in one line, for people and the audit log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RevokeDevices { devices, filter, reason } => {
                let of = Foreign::log(filter);
                write!(f, "revoke {} devices of {of} for {}", devices.len(), reason.as_str())
            }
            Self::StartRollout { request } => {
                let (urgent, gate) = (urgent_words(request), gate_words(request));
                write!(f, "start {urgent} of {} to {} {gate}", request.release, request.fleet)
            }
            Self::SupersedeRollout { rollout, request } => {
                let (rollout, fleet) = (Foreign::log(rollout), &request.fleet);
                let (urgent, gate) = (urgent_words(request), gate_words(request));
                let release = &request.release;
                write!(f, "supersede {rollout} by {urgent} of {release} to {fleet} {gate}")
            }
            Self::NextWave { rollout, wave, request } => {
                let (rollout, reason) = (Foreign::log(rollout), Foreign::log(&request.reason));
                let over = if request.over_gate { " over its webhook gate" } else { "" };
                write!(f, "begin wave {} of {rollout}{over}: {reason}", wave + 1)
            }
            Self::PinFleet { fleet, request } => match &request.release {
                Some(release) => write!(f, "pin fleet {fleet} to {release}"),
                None => write!(f, "end the pin of fleet {fleet}"),
            },
            Self::OrderUpdates { device, request } => match request {
                UpdateOrder::Hold { .. } => write!(f, "hold {device}"),
                UpdateOrder::Unhold {} => write!(f, "end the hold of {device}"),
                UpdateOrder::Pin { release, .. } => write!(f, "pin {device} to {release}"),
                UpdateOrder::Downgrade { release, .. } => {
                    write!(f, "downgrade {device} to {release}")
                }
                UpdateOrder::Unpin {} => write!(f, "end the pin of {device}"),
                UpdateOrder::SkipWindows { .. } => write!(f, "skip the windows of {device}"),
                UpdateOrder::ObserveWindows {} => write!(f, "observe the windows of {device}"),
                UpdateOrder::Move { fleet, .. } => write!(f, "move {device} to fleet {fleet}"),
            },
            Self::SetReleasePath { release, path } => {
                let floor = if path.floor.is_some() { "a floor" } else { "no floor" };
                let ways = path.blocked.len();
                write!(f, "make {release} {floor} with {ways} blocked ways")
            }
            Self::ShowRecoveryKey { device, request, .. } => {
                let which = if request.previous { "previous recovery key" } else { "recovery key" };
                write!(f, "show the {which} of {device}")
            }
            Self::SetPolicy { policy } => {
                let json = serde_json::to_string(policy).unwrap_or_default();
                write!(f, "set the approval policy {json}")
            }
        }
    }
}

/// `POST /approvals`: requests the approval of a second person.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestApproval {
    /// The act.
    pub act: AskedAct,
    /// Why, for the second person: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
    /// Seconds within which it is approved; one day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 604_800)]
    pub valid_s: Option<u32>,
}

/// `POST /approvals/{approval}/approve` and `/deny`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// A note, which may be empty.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub note: String,
}

/// An act that waits for a second person, or waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// The act, in one line.
    pub act: String,
    /// The fleets that it concerns; absent for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleets: Option<Vec<FleetId>>,
    /// The account that requested it.
    pub requester: AccountName,
    /// The credential of the request.
    pub via: String,
    /// Why.
    pub reason: String,
    /// When it was requested.
    pub requested_s: u64,
    /// When it expires.
    pub expires_s: u64,
    /// Its state.
    pub state: State,
    /// The account that approved or denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<AccountName>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_s: Option<u64>,
    /// The note of that account.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What became of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
}

/// An approval with the whole act.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalDetails {
    /// The approval.
    pub approval: Approval,
    /// Exactly what is performed.
    pub act: GuardedAct,
    /// Whether the caller may approve and deny it.
    pub may_decide: bool,
    /// Why not; absent if the caller may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// Whether the caller requested it.
    pub is_own: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bodies_are_the_api() {
        let approval = Approval {
            id: "approval-1".into(),
            act: "show the recovery key of device-1".into(),
            fleets: Some(vec!["shop".parse().unwrap()]),
            requester: "alice".parse().unwrap(),
            via: "token tok-1".into(),
            reason: "repair".into(),
            requested_s: 1,
            expires_s: 2,
            state: State::Done,
            decided_by: Some("bob".parse().unwrap()),
            decided_s: Some(2),
            note: "n".into(),
            outcome: "shown".into(),
        };
        let request = ShowRecoveryKey { reason: "repair".into(), previous: false };
        let act =
            GuardedAct::ShowRecoveryKey { device: "device-1".parse().unwrap(), request, kept_s: 1 };
        let policy = ApprovalPolicy {
            revoked_max: Some(5),
            rollout_fleets: vec!["shop".parse().unwrap()],
            recovery_keys: true,
            ..ApprovalPolicy::default()
        };
        let asked = AskedAct::SetPolicy { policy };
        insta::assert_json_snapshot!(json!({
            "details": ApprovalDetails { approval, act, may_decide: true, why_not: None, is_own: false },
            "request": RequestApproval { act: asked, reason: "because".into(), valid_s: Some(60) },
        }));
    }

    /// What is stored is what is performed.
    #[test]
    fn a_stored_act_is_read_as_it_was_written_and_in_no_other_form() {
        let request = json!({"release": "kiosk@2", "fleet": "shop"});
        let text = json!({"type": "start_rollout", "request": request});
        let act: GuardedAct = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&act).unwrap(), text);
        assert_eq!(act.to_string(), "start a rollout of kiosk@2 to shop without a webhook gate");
        let urgent = json!({"type": "start_rollout", "request": {"release": "kiosk@2", "fleet": "shop", "urgent": {"reason": "a hole"}}});
        let act: GuardedAct = serde_json::from_value(urgent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&act).unwrap(), urgent);
        assert_eq!(
            act.to_string(),
            "start an urgent rollout of kiosk@2 to shop without a webhook gate"
        );
        let plan =
            json!({"waves": [{"size": {"type": "percent", "percent": 100}}], "gate": "hook-1"});
        let gated = json!({"type": "start_rollout", "request": {"release": "kiosk@2", "fleet": "shop", "plan": plan}});
        let act: GuardedAct = serde_json::from_value(gated).unwrap();
        assert_eq!(act.to_string(), "start a rollout of kiosk@2 to shop with gate hook-1");
        let more = json!({"type": "start_rollout", "request": request, "also": 1});
        assert!(serde_json::from_value::<GuardedAct>(more).is_err());
        assert!(ApprovalPolicy::default().is_empty());
    }
}
