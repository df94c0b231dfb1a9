//! Drift and history of a device in the HTTP API. Times are Unix seconds.

use crate::alert::Severity;
use crate::drift::Difference;
use crate::id::{FleetId, ReleaseName};
use serde::{Deserialize, Serialize};

/// Maximum number of states that are kept of a device; the oldest are removed first.
pub const STATES_MAX: u32 = 500;
/// Seconds of a row of metrics that has its samples.
pub const HOUR_S: u64 = 3600;
/// Seconds of a row of metrics of a day.
pub const DAY_S: u64 = 86_400;
/// Samples are kept for this time, seconds.
pub const SAMPLES_KEPT_S: u64 = DAY_S;
/// Rows of hours are kept for this time, seconds.
pub const HOURS_KEPT_S: u64 = 30 * DAY_S;
/// Rows of days are kept for this time, seconds.
pub const DAYS_KEPT_S: u64 = 366 * DAY_S;
/// Maximum number of samples in an hour: a device sends one a minute.
pub const SAMPLES_MAX: u32 = 120;

/// How a device differs from what is desired of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Drift {
    /// The differences, the most severe first.
    pub differences: Vec<Difference>,
    /// The severity of the first one; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Since when the device reports another release than its desired one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
}

/// What a device was from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceState {
    /// From when on.
    pub at_s: u64,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ReleaseName>,
    /// Its boot.
    pub boot_id: String,
    /// Code of its attestation level, such as `L4`.
    pub level: String,
}

/// A row of metrics of a device: means and largest values of a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Metrics {
    /// When the span began.
    pub at_s: u64,
    /// Length of the span, seconds: an hour or a day.
    pub span_s: u64,
    /// Number of samples.
    pub samples: u64,
    /// Mean of the one-minute load average, thousandths.
    pub load_milli: u64,
    /// Its largest value.
    pub load_milli_max: u64,
    /// Mean of the used memory, percent.
    pub memory_percent: u64,
    /// Its largest value.
    pub memory_percent_max: u64,
    /// Mean of the used space of the data partition, percent.
    pub data_percent: u64,
    /// Its largest value.
    pub data_percent_max: u64,
    /// The samples of the last day, as they came.
    pub points: Vec<Sample>,
}

/// One sample: telemetry of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Sample {
    /// When.
    pub at_s: u64,
    /// One-minute load average, thousandths.
    pub load_milli: u64,
    /// Used memory, percent.
    pub memory_percent: u64,
    /// Used space of the data partition, percent.
    pub data_percent: u64,
}

/// `GET /devices/{device}/history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct History {
    /// What the device was, newest first.
    pub states: Vec<DeviceState>,
    /// Its metrics, oldest first: days, then hours.
    pub metrics: Vec<Metrics>,
}

/// Selects a part of the history in `GET /devices/{device}/history`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// From when on, Unix seconds; absent for the beginning. The first state is the one of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub from_s: Option<u64>,
    /// Until when, Unix seconds; absent for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub until_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Aspect;
    use serde_json::json;

    #[test]
    fn the_bodies_are_the_api() {
        let difference = Difference {
            aspect: Aspect::Release,
            severity: Severity::Warning,
            expected: "kiosk@2".into(),
            found: "kiosk@1".into(),
        };
        let drift = Drift {
            differences: vec![difference],
            severity: Some(Severity::Warning),
            since_s: Some(1),
        };
        let state = DeviceState {
            at_s: 1,
            fleet: "shop".parse().unwrap(),
            running: Some("kiosk@1".parse().unwrap()),
            boot_id: "b".into(),
            level: "L4".into(),
        };
        let point = Sample { at_s: 1, load_milli: 2, memory_percent: 3, data_percent: 4 };
        let metrics = Metrics {
            at_s: 0,
            span_s: HOUR_S,
            samples: 1,
            load_milli: 2,
            load_milli_max: 2,
            memory_percent: 3,
            memory_percent_max: 3,
            data_percent: 4,
            data_percent_max: 4,
            points: vec![point],
        };
        let history = History { states: vec![state], metrics: vec![metrics] };
        insta::assert_json_snapshot!(json!({ "drift": drift, "history": history }));
    }
}
