//! Alerts, their rules and silences in the HTTP API. Times are Unix seconds.

use crate::alert::state::State;
use crate::alert::{Kind, Rule, Severity};
use crate::id::{DeviceId, FleetId};
use serde::{Deserialize, Serialize};

/// Maximum number of alerts in a page.
pub const PAGE_MAX: u32 = 500;
/// Maximum number of entries in the history of an alert; the oldest are removed first.
pub const HISTORY_MAX: u32 = 100;
/// Maximum number of silences.
pub const SILENCES_MAX: usize = 200;
/// Maximum length of a silence, seconds.
pub const SILENCE_S_MAX: u64 = 90 * 86_400;
/// Maximum length of a note or reason, bytes.
pub const NOTE_MAX: usize = 200;
/// Maximum number of devices that a message names.
pub const NAMED_MAX: u32 = 20;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Alert {
    /// Alert id.
    pub id: String,
    /// The rule that raised it.
    pub rule: String,
    /// What the rule watches.
    pub kind: Kind,
    /// Severity of the rule when the alert began.
    pub severity: Severity,
    /// The device that it is about; absent if it is about a fleet or the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The fleet of the device, or the fleet that it is about; absent if it is about the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// State of the alert.
    pub state: State,
    /// What it is about, in words.
    pub detail: String,
    /// When it began.
    pub since_s: u64,
    /// When its state began.
    pub changed_s: u64,
    /// How often it opened: more than once if it came back within an hour of its end.
    pub times: u32,
    /// Until when nobody is told of it; absent if people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until_s: Option<u64>,
}

/// An alert with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlertDetails {
    /// The alert.
    pub alert: Alert,
    /// What happened to it, oldest first.
    pub history: Vec<AlertChange>,
}

/// What happened to an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlertChange {
    /// When.
    pub at_s: u64,
    /// Its state from then on.
    pub state: State,
    /// Who changed it: an account, or `server`.
    pub by: String,
    /// Why, in words.
    pub note: String,
}

/// Selects alerts in `GET /alerts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertQuery {
    /// Return also resolved alerts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Return only alerts about this fleet and its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// The last alert of the previous page; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 64, pattern = "^[a-z0-9-]*$")]
    pub after: Option<String>,
    /// Maximum number of alerts in the page, 1 to 500; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// `POST /alerts/{alert}/acknowledge`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAlert {
    /// What the operator does about it; may be empty.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub note: String,
}

/// `PUT /alert-rules/{rule}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRule {
    /// What it watches. A shipped rule keeps its kind.
    pub kind: Kind,
    /// From which value on it raises an alert, in the unit of its kind.
    pub threshold: u64,
    /// How severe its alerts are.
    pub severity: Severity,
    /// Fleets whose devices it watches; empty for all.
    #[serde(default)]
    pub fleets: Vec<FleetId>,
    /// Whether it raises alerts.
    pub enabled: bool,
}

impl SetRule {
    /// The rule with this id.
    #[must_use]
    pub fn rule(self, id: &str) -> Rule {
        let Self { kind, threshold, severity, fleets, enabled } = self;
        Rule { id: id.to_owned(), kind, threshold, severity, fleets, enabled }
    }
}

/// A rule as it counts now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleStatus {
    /// The rule.
    pub rule: Rule,
    /// The unit of its threshold.
    pub unit: String,
    /// Whether it is as it was shipped.
    pub is_shipped: bool,
}

/// `POST /silences`: nobody is told of alerts that begin in this time. A silence that begins later
/// is a maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSilence {
    /// Only alerts of this rule; absent for all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only alerts about devices of this fleet; absent for all fleets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// Only alerts about this device; absent for all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// When it begins; absent for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_s: Option<u64>,
    /// Seconds until it ends, from its beginning: at most 90 days.
    #[schema(minimum = 60, maximum = 7_776_000)]
    pub valid_s: u64,
    /// Why: 1 to 200 bytes.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// A silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Silence {
    /// Silence id.
    pub id: String,
    /// Only alerts of this rule; absent for all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only alerts about devices of this fleet; absent for all fleets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// Only alerts about this device; absent for all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// When it begins.
    pub from_s: u64,
    /// When it ends.
    pub until_s: u64,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub by: String,
}

impl Silence {
    /// Whether it covers alerts of a rule about a fleet and device now; none of them for the server.
    #[must_use]
    pub fn covers(
        &self,
        rule: &str,
        (fleet, device): (Option<&FleetId>, Option<&DeviceId>),
        now_s: u64,
    ) -> bool {
        (self.from_s..self.until_s).contains(&now_s)
            && self.rule.as_ref().is_none_or(|only| only == rule)
            && self.fleet.as_ref().is_none_or(|only| Some(only) == fleet)
            && self.device.as_ref().is_none_or(|only| Some(only) == device)
    }
}

/// The event `alerts.raised` or `alerts.resolved`: alerts of one rule in one fleet, in one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlertMessage {
    /// The rule.
    pub rule: String,
    /// What it watches.
    pub kind: Kind,
    /// How severe its alerts are.
    pub severity: Severity,
    /// The fleet; absent for an alert about the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// Number of alerts that this message is about.
    pub count: u64,
    /// The newest of them, at most [`NAMED_MAX`].
    pub devices: Vec<DeviceId>,
    /// What the newest one is about, in words.
    pub detail: String,
    /// When the first one of these began; absent in messages of older servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn silence() -> Silence {
        Silence {
            id: "silence-1".into(),
            rule: None,
            fleet: None,
            device: None,
            from_s: 100,
            until_s: 200,
            reason: "power work".into(),
            by: "alice".into(),
        }
    }

    #[test]
    fn the_bodies_are_the_api() {
        let fleet: FleetId = "shop".parse().unwrap();
        let device: DeviceId = "device-1".parse().unwrap();
        let alert = Alert {
            id: "alert-1".into(),
            rule: "offline".into(),
            kind: Kind::Offline,
            severity: Severity::Warning,
            device: Some(device.clone()),
            fleet: Some(fleet.clone()),
            state: State::Open,
            detail: "offline for more than 60 min".into(),
            since_s: 1,
            changed_s: 2,
            times: 1,
            silenced_until_s: Some(3),
        };
        let change =
            AlertChange { at_s: 1, state: State::Open, by: "server".into(), note: "n".into() };
        let message = AlertMessage {
            rule: "offline".into(),
            kind: Kind::Offline,
            severity: Severity::Warning,
            fleet: Some(fleet),
            count: 40,
            devices: vec![device],
            detail: "offline".into(),
            since_s: Some(1),
        };
        insta::assert_json_snapshot!(json!({
            "details": AlertDetails { alert, history: vec![change] },
            "message": message,
            "silence": silence(),
            "rule": Rule::shipped()[0],
        }));
    }

    #[test]
    fn a_silence_covers_its_time_and_what_it_names_and_nothing_else() {
        let (shop, lab) = ("shop".parse().unwrap(), "lab".parse().unwrap());
        let (one, two) = ("device-1".parse().unwrap(), "device-2".parse().unwrap());
        let all = silence();
        let of_shop = (Some(&shop), Some(&one));
        let server = (None, None);
        assert!(all.covers("disk", server, 100) && all.covers("disk", of_shop, 199));
        assert!(!all.covers("disk", server, 99) && !all.covers("disk", server, 200));
        let narrow = Silence {
            rule: Some("disk".into()),
            fleet: Some("shop".parse().unwrap()),
            device: Some("device-1".parse().unwrap()),
            ..all
        };
        assert!(narrow.covers("disk", of_shop, 150));
        for (rule, about) in [
            ("offline", of_shop),
            ("disk", (Some(&lab), Some(&one))),
            ("disk", (Some(&shop), Some(&two))),
            ("disk", (Some(&shop), None)),
            ("disk", server),
        ] {
            assert!(!narrow.covers(rule, about, 150), "{rule} {about:?}");
        }
    }
}
