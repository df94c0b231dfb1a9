//! What the gates read.

use super::path::{Floor, Paths, ReleaseFacts};
use super::penalty::Penalty;
use crate::attestation::Level;
use crate::attestation::policy::Policy;
use crate::id::ReleaseName;
use crate::rollout::{DevicePhase, Phase};
use crate::update::State;
use crate::windows::Wait;
use serde::{Deserialize, Serialize};

/// An operator holds the updates of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdateHold)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// When it ends, Unix seconds; absent until an operator ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<u64>,
}

impl Hold {
    /// Whether it holds updates at a time.
    #[must_use]
    pub fn is_on(&self, now_s: u64) -> bool {
        self.until_s.is_none_or(|until_s| now_s < until_s)
    }
}

/// An operator pinned a device, or a fleet, to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdatePin)]
pub struct Pin {
    /// The release.
    pub release: ReleaseName,
    /// Why.
    pub reason: String,
    /// Whether it is a downgrade of a device: it goes back to a lower version, which its other slot has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downgrade: bool,
}

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whether it is revoked.
    pub is_revoked: bool,
    /// The release that it runs; `None` before its first report.
    pub running: Option<ReleaseName>,
    /// The release that it is offered.
    pub desired: Option<ReleaseName>,
    /// The state of its update.
    pub update: State,
    /// What its update waits for, as it reports.
    pub waits: Option<Wait>,
    /// Its time zone, as it reports; UTC before.
    pub time_zone: Option<String>,
    /// Until when it may skip its windows, Unix seconds.
    pub skip_windows_until_s: Option<u64>,
    /// Until when it may skip them for the release that it is offered, which is urgent, Unix seconds.
    pub urgent_until_s: Option<u64>,
    /// Its hold.
    pub hold: Option<Hold>,
    /// Its pin.
    pub pin: Option<Pin>,
    /// Its penalty.
    pub penalty: Option<Penalty>,
    /// Its level now, as it counts for updates.
    pub level: Level,
}

/// Where a target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TargetSource)]
pub enum Source {
    /// An operator pinned the device.
    Pin,
    /// An operator takes the device back to a release that it ran before.
    Downgrade,
    /// An active rollout.
    Rollout,
    /// An active rollout that takes devices back to what they ran before.
    WayBack,
    /// An operator pinned the fleet.
    FleetPin,
    /// The channel of the fleet: the release of the last rollout that succeeded.
    Channel,
}

impl Source {
    /// Whether the device goes back to what its other slot has.
    #[must_use]
    pub fn is_back(self) -> bool {
        match self {
            Self::Downgrade | Self::WayBack => true,
            Self::Pin | Self::Rollout | Self::FleetPin | Self::Channel => false,
        }
    }
}

/// The release that a device should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdateTarget)]
pub struct Target {
    /// The release.
    pub release: ReleaseName,
    /// Where it comes from.
    pub source: Source,
}

/// What the devices of a fleet should run when no rollout updates them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetTarget {
    /// The release of the last rollout that succeeded.
    pub channel: Option<ReleaseName>,
    /// The release that an operator pinned.
    pub pin: Option<Pin>,
}

/// The active rollout of a fleet, as a device sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Its id.
    pub rollout: String,
    /// Its release.
    pub release: ReleaseName,
    /// Its phase.
    pub phase: Phase,
    /// Whether it has waves.
    pub has_waves: bool,
    /// Whether it takes its devices back to what they ran before.
    pub is_back: bool,
    /// Whether it is urgent.
    pub is_urgent: bool,
    /// Phase and wave of the device; `None` if the device is no part of it.
    pub row: Option<(DevicePhase, Option<u32>)>,
}

/// The part of a device in a rollout that has not finished with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Id of the rollout.
    pub rollout: String,
    /// Phase of the rollout.
    pub rollout_phase: Phase,
    /// Phase of the device.
    pub phase: DevicePhase,
    /// Its wave.
    pub wave: Option<u32>,
    /// Whether the rollout is urgent.
    pub is_urgent: bool,
    /// What its webhook gate said, if a wave waits for that; `None` where it is only explained.
    pub gate: Option<GateWait>,
}

/// A wave that waits for the webhook gate of its rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateWait {
    /// Number of the wave, from 0.
    pub wave: u32,
    /// What the gate said.
    pub said: String,
}

/// What the gates are computed from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Unix seconds.
    pub now_s: u64,
    /// Whether the device is connected; `None` where that decides nothing.
    pub is_online: Option<bool>,
    /// The device.
    pub known: &'a Known,
    /// What it should run.
    pub target: Option<&'a Target>,
    /// The release of the target.
    pub release: ReleaseFacts,
    /// The policy of its fleet.
    pub policy: &'a Policy,
    /// The ways to the releases of the target's image line.
    pub paths: &'a Paths,
    /// Its part in a rollout of the target.
    pub part: Option<Part>,
}

impl<'a> Facts<'a> {
    /// The floor that the device must run before its target. A device that goes back passes none.
    #[must_use]
    pub fn floor(&self) -> Option<&'a Floor> {
        let target = self.target.filter(|target| !target.source.is_back())?;
        let running = match &self.known.running {
            Some(running) if running.line != target.release.line => return None,
            running => running.as_ref().map(|running| &running.version),
        };
        self.paths.floor(running, &target.release.version)
    }

    /// The release that the device is to be offered: a floor, or its target.
    #[must_use]
    pub fn next(&self) -> Option<&'a ReleaseName> {
        let floor = self.floor().map(|floor| &floor.release);
        floor.or_else(|| self.target.map(|target| &target.release))
    }
}

/// The release that a device should run, and its part in a rollout of that.
///
/// A pin goes first. A device that is part of the active rollout waits for that. A rollout without
/// waves is for everybody, also for devices that came later. Other devices run what their fleet is
/// pinned to, or the channel of their fleet.
#[must_use]
pub fn target(
    pin: Option<&Pin>,
    active: Option<&Active>,
    fleet: &FleetTarget,
) -> (Option<Target>, Option<Part>) {
    let own = active.and_then(|active| Some((active, active.row.as_ref()?)));
    let own = own.filter(|(_, (phase, _))| !phase.is_finished());
    if let Some((active, (phase, wave))) = own
        && pin.is_none_or(|pin| pin.release == active.release)
    {
        let part = Part {
            rollout: active.rollout.clone(),
            rollout_phase: active.phase,
            phase: phase.clone(),
            wave: *wave,
            is_urgent: active.is_urgent,
            gate: None,
        };
        let release = active.release.clone();
        let source = if active.is_back { Source::WayBack } else { Source::Rollout };
        return (Some(Target { release, source }), Some(part));
    }
    let is_for_all =
        |active: &&Active| active.phase == Phase::Running && !active.has_waves && !active.is_back;
    let of = |release: &ReleaseName, source| Some(Target { release: release.clone(), source });
    let found = pin
        .and_then(|pin| {
            of(&pin.release, if pin.downgrade { Source::Downgrade } else { Source::Pin })
        })
        .or_else(|| active.filter(is_for_all).and_then(|a| of(&a.release, Source::Rollout)))
        .or_else(|| fleet.pin.as_ref().and_then(|pin| of(&pin.release, Source::FleetPin)))
        .or_else(|| fleet.channel.as_ref().and_then(|r| of(r, Source::Channel)));
    (found, None)
}
