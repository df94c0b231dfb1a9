//! What a rollout is expected to come to, before it starts: the machine of the header over a
//! virtual clock. It knows numbers of devices, and no device: which ones are in a wave depends on
//! the id that the rollout will get.
//!
//! Code map: `parts` (what it has) · `clock` (the virtual clock) · `mix` (devices of a kind, evenly through the waves).

mod clock;
mod mix;
mod parts;

pub use parts::{Duration, End, Expected, Facts, Group, UPDATE_S, WaveForecast};

use crate::id::{DeviceId, FleetId, ReleaseName};
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
            active: None,
        }
    }
}

/// What the server knows of a device, or of many that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The release that it runs; `None` before its first report.
    pub running: Option<ReleaseName>,
    /// Whether it was not heard of for so long that it is unreached.
    pub is_offline: bool,
    /// Whether it rolled the release back.
    pub has_rolled_back: bool,
    /// Whether the policy of its fleet permits updates.
    pub may_update: bool,
}

impl Known {
    /// What such a device is expected to do.
    #[must_use]
    pub fn expected(&self, release: &ReleaseName) -> Expected {
        let Self { running, is_offline, has_rolled_back, may_update } = self;
        match running {
            _ if *is_offline => Expected::Offline,
            Some(running) if running == release => Expected::RunsIt,
            Some(running) if running.line != release.line => Expected::OtherLine,
            Some(running) if running.version > release.version => Expected::TooOld,
            _ if !may_update => Expected::BelowLevel,
            _ if *has_rolled_back => Expected::RolledBackBefore,
            Some(_) | None => Expected::Updates,
        }
    }
}

/// A device that a wave names.
pub type Listed = (DeviceId, Known);

#[cfg(test)]
mod tests;
