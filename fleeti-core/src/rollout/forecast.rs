//! What a rollout is expected to come to, before it starts: the machine of the header over a
//! virtual clock. It knows numbers of devices, and no device: which ones are in a wave depends on
//! the id that the rollout will get.
//!
//! Code map: `parts` (what it has) · `clock` (the virtual clock) · `mix` (devices of a kind, evenly through the waves).

mod clock;
mod mix;
mod parts;

pub use parts::{Duration, End, Expected, Facts, Group, UPDATE_S, WaveForecast};

use super::gates::{self, Gate};
use crate::id::{FleetId, ReleaseName};
use clock::Simulation;
use parts::sums;
use serde::{Deserialize, Serialize};

/// What a rollout is expected to come to. It assumes that nothing changes: devices that are offline
/// stay offline, and no device fails that has no known reason to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutForecast)]
pub struct Forecast {
    /// The release.
    pub release: ReleaseName,
    /// The fleet.
    pub fleet: FleetId,
    /// Number of devices.
    pub devices: usize,
    /// What they are expected to do; kinds without devices are left out.
    pub expected: Vec<Group>,
    /// The waves that begin; one for everybody at once.
    pub waves: Vec<WaveForecast>,
    /// How it ends.
    pub end: End,
    /// How long a device takes.
    pub duration: Duration,
    /// Whether the update windows of the fleet are in the times. Windows without a zone count in UTC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_windows: bool,
    /// The active rollout of the fleet, which must end before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
}

impl Forecast {
    /// Computes a forecast.
    #[must_use]
    pub fn of(fleet: &FleetId, facts: &Facts<'_>) -> Self {
        let (waves, end) = Simulation::new(facts).run();
        let listed =
            facts.listed.iter().map(|(_, expected)| Group { expected: *expected, devices: 1 });
        let expected = sums(facts.unlisted.iter().copied().chain(listed));
        Self {
            release: facts.release.clone(),
            fleet: fleet.clone(),
            devices: expected.iter().map(|group| group.devices).sum(),
            expected,
            waves,
            end,
            duration: facts.duration,
            in_windows: facts.has_windows(),
            active: None,
        }
    }
}

/// What the server knows of a device, or of many that are alike.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// What the gates read.
    pub facts: gates::Facts<'a>,
    /// Whether it was not heard of for so long that it is unreached.
    pub is_offline: bool,
    /// Whether it rolled the release back.
    pub has_rolled_back: bool,
}

impl Known<'_> {
    /// What such a device is expected to do: what the gates say, which decide in the rollout.
    #[must_use]
    pub fn expected(&self) -> Expected {
        match gates::first_closed(&self.facts).map(|(gate, _)| gate) {
            _ if self.is_offline => Expected::Offline,
            Some(Gate::Runs) => Expected::RunsIt,
            Some(Gate::Hold) => Expected::OnHold,
            Some(Gate::Pin) => Expected::Pinned,
            Some(Gate::Line) => Expected::OtherLine,
            Some(Gate::Version) => Expected::TooOld,
            Some(Gate::Floor | Gate::Edge) => Expected::BlockedWay,
            Some(Gate::Penalty) => Expected::InPenalty,
            Some(Gate::Level) => Expected::BelowLevel,
            None if self.has_rolled_back => Expected::RolledBackBefore,
            None if self.facts.floor().is_some() => Expected::ByFloor,
            // What is asked of the release or of the rollout is refused before.
            None
            | Some(
                Gate::Revoked
                | Gate::Target
                | Gate::Offline
                | Gate::Release
                | Gate::Proof
                | Gate::Rollout
                | Gate::Hook
                | Gate::Wave
                | Gate::Cap
                | Gate::Budget
                | Gate::Heard
                | Gate::Window
                | Gate::Device,
            ) => Expected::Updates,
        }
    }
}

#[cfg(test)]
mod tests;
