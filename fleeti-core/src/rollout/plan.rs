//! How a rollout proceeds: its waves, and when it stops by itself.

use super::budget::{Budget, MinAvailable};
use crate::filter::{Filter, FilterError};
use crate::id::DeviceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Largest number of waves.
pub const WAVES_MAX: usize = 20;
/// Largest number of devices that the waves of a rollout name.
pub const LISTED_MAX: usize = 100;
/// Longest time in a plan: 30 days.
pub const SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Shortest time after which a device counts as silent or unreached.
pub const DEADLINE_S_MIN: u64 = 60;

/// Largest number of times that a device is offered the release again after a failure.
pub const RETRIES_MAX: u32 = 10;

/// Maximum length of the id of a webhook gate, bytes.
const GATE_MAX: usize = 100;
const SAMPLE: usize = 10;
const SILENT_S: u64 = 3600;
const UNREACHED_S: u64 = 900;

/// The plan of a rollout in waves. A rollout without a plan has one wave: everybody, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutPlan)]
pub struct Plan {
    /// The waves, in order, at most 20. The last one is 100 %.
    #[schema(min_items = 1, max_items = 20)]
    pub waves: Vec<Wave>,
    /// What stops the rollout: more errors than this among the devices that have finished, in the
    /// current wave or in the whole rollout. Default: no error is accepted.
    #[serde(default)]
    pub errors_max: ErrorsMax,
    /// Number of devices that must have finished before a percentage of errors counts. A smaller
    /// wave counts when it is complete.
    #[serde(default = "sample")]
    #[schema(minimum = 1)]
    pub sample_min: usize,
    /// Seconds after which a device that has started and is not heard of counts as an error.
    #[serde(default = "silent_s")]
    #[schema(minimum = 60, maximum = 2_592_000)]
    pub silent_s: u64,
    /// Seconds after which a device that has not started counts as unreached: the rollout goes on
    /// without it, and offers it the release again when it reports while the rollout runs.
    #[serde(default = "unreached_s")]
    #[schema(minimum = 60, maximum = 2_592_000)]
    pub unreached_s: u64,
    /// What happens when there are too many errors.
    #[serde(default)]
    pub on_error: OnError,
    /// Largest number of devices that update at the same time; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub moving_max: Option<usize>,
    /// Largest number of offers in a period; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many devices of each group must not update at the same time; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How often a device that failed to install the release is offered it again, after the pause
    /// of that version on it: 10 minutes, then twice as long each time. Only then it is an error. A
    /// version that was rolled back is not offered again. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(maximum = 10)]
    pub retries: u32,
    /// Id of a webhook with the event `rollout.gate`: the server asks it before each wave begins, and
    /// the wave waits until it allows that. Absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub gate: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A wave: the devices that the release is offered to until the next wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutWave)]
pub struct Wave {
    /// How far the rollout goes with this wave.
    pub size: Size,
    /// When it starts, once the wave before it has succeeded.
    #[serde(default)]
    pub start: Start,
    /// Seconds between its success and the next wave.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    pub soak_s: u64,
}

/// How far a rollout goes with a wave. Numbers count the devices of earlier waves, and leave out
/// those that are unreached: another device takes their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = RolloutWaveSize)]
pub enum Size {
    /// Until this many devices have it, in the order of their cohorts.
    Count {
        /// Number of devices.
        devices: usize,
    },
    /// Until this part of the devices has it, rounded up, in the order of their cohorts.
    Percent {
        /// 1 to 100.
        percent: u8,
    },
    /// These devices.
    List {
        /// Device ids.
        devices: Vec<DeviceId>,
    },
    /// The devices that a filter matches when the rollout starts, but those of lists and of earlier
    /// filters.
    Filter {
        /// A filter of devices: see the reference of filters.
        #[schema(min_length = 1, max_length = 1000)]
        filter: String,
    },
}

impl Size {
    /// Number of devices that have the release after the wave, of this many; `None` for a list or
    /// a filter.
    #[must_use]
    pub fn until(&self, total: usize) -> Option<usize> {
        match self {
            Self::Count { devices } => Some(*devices),
            Self::Percent { percent } => Some((total * usize::from(*percent)).div_ceil(100)),
            Self::List { .. } | Self::Filter { .. } => None,
        }
    }
}

/// When a wave starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = RolloutWaveStart)]
pub enum Start {
    /// When the wave before it has succeeded and soaked.
    #[default]
    AfterSuccess,
    /// Not before this time.
    At {
        /// Unix seconds.
        time_s: u64,
    },
    /// When an operator says so, with a reason.
    ByHand,
    /// When an operator says so, with a reason, and a second person approves that.
    ByApproval,
}

impl Start {
    /// Whether it waits for people.
    #[must_use]
    pub fn is_by_people(self) -> bool {
        match self {
            Self::ByHand | Self::ByApproval => true,
            Self::AfterSuccess | Self::At { .. } => false,
        }
    }
}

/// Number of errors that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = RolloutErrorsMax)]
pub enum ErrorsMax {
    /// This many devices.
    Count {
        /// Number of devices.
        devices: usize,
    },
    /// This part of the devices that have finished.
    Percent {
        /// 0 to 99.
        percent: u8,
    },
}

impl Default for ErrorsMax {
    fn default() -> Self {
        Self::Count { devices: 0 }
    }
}

/// What happens when there are too many errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutOnError)]
pub enum OnError {
    /// The rollout is paused: an operator resumes or aborts it.
    #[default]
    Pause,
    /// The rollout is aborted.
    Abort,
    /// The rollout is aborted, and another one takes its devices back to the release that they ran
    /// before.
    RollBack,
}

/// Largest number of offers in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutRate)]
pub struct Rate {
    /// Number of devices.
    #[schema(minimum = 1)]
    pub devices: usize,
    /// Length of a period, seconds.
    #[schema(minimum = 1, maximum = 2_592_000)]
    pub per_s: u64,
}

fn sample() -> usize {
    SAMPLE
}

fn silent_s() -> u64 {
    SILENT_S
}

fn unreached_s() -> u64 {
    UNREACHED_S
}

impl Plan {
    /// A plan with these waves and the defaults for everything else.
    #[must_use]
    pub fn of(waves: Vec<Wave>) -> Self {
        Self {
            waves,
            errors_max: ErrorsMax::default(),
            sample_min: SAMPLE,
            silent_s: SILENT_S,
            unreached_s: UNREACHED_S,
            on_error: OnError::default(),
            moving_max: None,
            rate: None,
            budget: None,
            retries: 0,
            gate: None,
        }
    }

    /// The wave that names a device.
    #[must_use]
    pub fn wave_of(&self, device: &DeviceId) -> Option<u32> {
        let names = |wave: &Wave| match &wave.size {
            Size::List { devices } => devices.contains(device),
            Size::Count { .. } | Size::Percent { .. } | Size::Filter { .. } => false,
        };
        self.waves.iter().position(names).and_then(|n| u32::try_from(n).ok())
    }

    /// All devices that the waves name.
    pub fn listed(&self) -> impl Iterator<Item = &DeviceId> {
        self.waves.iter().flat_map(|wave| match &wave.size {
            Size::List { devices } => devices.as_slice(),
            Size::Count { .. } | Size::Percent { .. } | Size::Filter { .. } => &[],
        })
    }

    /// The filters of waves, each with the number of its wave, from 0.
    pub fn filters(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(&self.waves).filter_map(|(n, wave)| match &wave.size {
            Size::Filter { filter } => Some((n, filter.as_str())),
            Size::Count { .. } | Size::Percent { .. } | Size::List { .. } => None,
        })
    }

    /// Checks a plan that an operator wrote.
    ///
    /// # Errors
    /// [`PlanError`] for the first part that is out of bounds or can never be reached.
    pub fn check(&self) -> Result<(), PlanError> {
        within("number of waves", self.waves.len() as u64, 1, WAVES_MAX as u64)?;
        if !matches!(self.waves.last(), Some(Wave { size: Size::Percent { percent: 100 }, .. })) {
            return Err(PlanError::NotEverybody);
        }
        within("silent_s", self.silent_s, DEADLINE_S_MIN, SECONDS_MAX)?;
        within("unreached_s", self.unreached_s, DEADLINE_S_MIN, SECONDS_MAX)?;
        within("sample_min", self.sample_min as u64, 1, super::DEVICES_MAX as u64)?;
        if let ErrorsMax::Percent { percent } = self.errors_max {
            within("errors_max.percent", percent.into(), 0, 99)?;
        }
        if let Some(moving_max) = self.moving_max {
            within("moving_max", moving_max as u64, 1, super::DEVICES_MAX as u64)?;
        }
        if let Some(Rate { devices, per_s }) = self.rate {
            within("rate.devices", devices as u64, 1, super::DEVICES_MAX as u64)?;
            within("rate.per_s", per_s, 1, SECONDS_MAX)?;
        }
        within("retries", self.retries.into(), 0, RETRIES_MAX.into())?;
        if let Some(gate) = &self.gate {
            let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if !(1..=GATE_MAX).contains(&gate.len()) || !gate.chars().all(is_id) {
                return Err(PlanError::Gate);
            }
        }
        match self.budget.as_ref().map(|budget| budget.min_available) {
            Some(MinAvailable::Count { devices }) => {
                within("min_available", devices as u64, 1, super::DEVICES_MAX as u64)?;
            }
            Some(MinAvailable::Percent { percent }) => {
                within("min_available.percent", percent.into(), 1, 99)?;
            }
            None => {}
        }
        self.check_sizes()
    }

    fn check_sizes(&self) -> Result<(), PlanError> {
        let (mut count, mut part, mut listed) = (0, 0, BTreeSet::new());
        for (n, Wave { size, soak_s, .. }) in (1..).zip(&self.waves) {
            within("soak_s", *soak_s, 0, SECONDS_MAX)?;
            match size {
                Size::Count { devices } => {
                    within("devices of a wave", *devices as u64, 1, super::DEVICES_MAX as u64)?;
                    if std::mem::replace(&mut count, *devices) >= *devices {
                        return Err(PlanError::NotLarger { wave: n });
                    }
                }
                Size::Percent { percent } => {
                    within("percent of a wave", (*percent).into(), 1, 100)?;
                    if std::mem::replace(&mut part, *percent) >= *percent {
                        return Err(PlanError::NotLarger { wave: n });
                    }
                }
                Size::List { devices } => {
                    within("devices of a list", devices.len() as u64, 1, LISTED_MAX as u64)?;
                    if let Some(device) = devices.iter().find(|d| !listed.insert(*d)) {
                        return Err(PlanError::Twice(device.clone()));
                    }
                }
                Size::Filter { filter } => check_filter(n, filter)?,
            }
        }
        within("devices of all lists", listed.len() as u64, 0, LISTED_MAX as u64)
    }
}

fn check_filter(wave: usize, text: &str) -> Result<(), PlanError> {
    match text.parse::<Filter>() {
        Ok(filter) if filter.is_empty() => Err(PlanError::NoFilter { wave }),
        Ok(_) => Ok(()),
        Err(error) => Err(PlanError::Filter { wave, error }),
    }
}

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), PlanError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(PlanError::Bounds { what, value, min, max })
}

/// A plan that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A number is out of bounds.
    #[error("{what} is {value}, must be {min} to {max}")]
    Bounds {
        /// The number's name.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// Some devices are in no wave.
    #[error("the last wave must be 100%: a wave that starts by hand leaves the rest to you")]
    NotEverybody,
    /// A wave that no device can be in.
    #[error("wave {wave} is not larger than an earlier one: sizes include the waves before them")]
    NotLarger {
        /// Number of the wave, from 1.
        wave: usize,
    },
    /// A gate that is no id.
    #[error(
        "gate: expected the id of a webhook with the event rollout.gate, see `fleeti webhook list`"
    )]
    Gate,
    /// A device is listed twice.
    #[error("{0} is listed twice")]
    Twice(DeviceId),
    /// A filter is wrong.
    #[error("filter of wave {wave}: {error}: {}", error.hint)]
    Filter {
        /// Number of the wave, from 1.
        wave: usize,
        /// What is wrong.
        error: FilterError,
    },
    /// A filter that matches every device.
    #[error("the filter of wave {wave} is empty: write 100% for all devices")]
    NoFilter {
        /// Number of the wave, from 1.
        wave: usize,
    },
}

/// A text that is no size, number of errors or rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct UnknownSize {
    text: String,
    wanted: &'static str,
}

fn unknown(text: &str, wanted: &'static str) -> UnknownSize {
    UnknownSize { text: text.to_owned(), wanted }
}

const SIZES: &str =
    "a number of devices (5), a part (10%), a list (devices:ID,ID) or a filter (filter:site=lab)";

impl FromStr for Size {
    type Err = UnknownSize;
    fn from_str(text: &str) -> Result<Self, UnknownSize> {
        let wrong = || unknown(text, SIZES);
        if let Some(ids) = text.strip_prefix("devices:") {
            let devices = ids.split(',').map(|id| id.parse().map_err(|_| wrong()));
            return Ok(Self::List { devices: devices.collect::<Result<_, _>>()? });
        }
        if let Some(filter) = text.strip_prefix("filter:") {
            return Ok(Self::Filter { filter: filter.to_owned() });
        }
        match text.strip_suffix('%') {
            Some(percent) => Ok(Self::Percent { percent: percent.parse().map_err(|_| wrong())? }),
            None => Ok(Self::Count { devices: text.parse().map_err(|_| wrong())? }),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count { devices: 1 } => f.write_str("1 device"),
            Self::Count { devices } => write!(f, "{devices} devices"),
            Self::Percent { percent } => write!(f, "{percent} %"),
            Self::List { devices } if devices.len() == 1 => f.write_str("1 listed device"),
            Self::List { devices } => write!(f, "{} listed devices", devices.len()),
            Self::Filter { filter } => write!(f, "devices of {filter}"),
        }
    }
}

impl FromStr for ErrorsMax {
    type Err = UnknownSize;
    fn from_str(text: &str) -> Result<Self, UnknownSize> {
        let wrong = || unknown(text, "a number of devices (5) or a part (2%)");
        match text.strip_suffix('%') {
            Some(percent) => Ok(Self::Percent { percent: percent.parse().map_err(|_| wrong())? }),
            None => Ok(Self::Count { devices: text.parse().map_err(|_| wrong())? }),
        }
    }
}

impl std::fmt::Display for ErrorsMax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count { devices } => write!(f, "{devices}"),
            Self::Percent { percent } => write!(f, "{percent} %"),
        }
    }
}

#[cfg(test)]
mod tests;
