//! What a forecast is computed from, and what it has.

use crate::id::ReleaseName;
use crate::rollout::plan::{Plan, Size};
use crate::rollout::waves::Errors;
use crate::windows::{Job, Local, Opening, Windows};
use serde::{Deserialize, Serialize};

/// Time from the offer to the success of a device where none was measured, seconds.
pub const UPDATE_S: u64 = 900;

/// What a device is expected to do when it is offered the release.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutExpected)]
pub enum Expected {
    /// It updates.
    Updates,
    /// It updates, to each mandatory release on its way first.
    ByFloor,
    /// It runs the release already.
    RunsIt,
    /// It was not heard of for so long that it is unreached. It gets the release when it returns.
    Offline,
    /// Blocked: its attestation level is below the fleet's minimum for updates.
    BelowLevel,
    /// Held back: it runs a newer version.
    TooOld,
    /// Held back: its image line is another one.
    OtherLine,
    /// Held back: an operator holds its updates.
    OnHold,
    /// Held back: an operator pinned it to another release.
    Pinned,
    /// Held back: the way from what it runs is blocked.
    BlockedWay,
    /// Held back: the version failed on it, and its pause has not ended.
    InPenalty,
    /// It refuses the release, because it rolled it back before.
    RolledBackBefore,
}

impl Expected {
    /// All of them, in the order of lists.
    pub const ALL: [Self; 12] = [
        Self::Updates,
        Self::ByFloor,
        Self::RunsIt,
        Self::Offline,
        Self::BelowLevel,
        Self::TooOld,
        Self::OtherLine,
        Self::OnHold,
        Self::Pinned,
        Self::BlockedWay,
        Self::InPenalty,
        Self::RolledBackBefore,
    ];

    /// What such devices do, in words, as in `12 update`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Updates => "update",
            Self::ByFloor => "update, to the mandatory releases on their way first",
            Self::RunsIt => "run it already",
            Self::Offline => "are offline and get it when they return",
            Self::BelowLevel => "are blocked: attestation level below the minimum of the fleet",
            Self::TooOld => "are held back: they run a newer version",
            Self::OtherLine => "are held back: their image line is another one",
            Self::OnHold => "are held back: an operator holds their updates",
            Self::Pinned => "are held back: they are pinned to another release",
            Self::BlockedWay => "are held back: the way from what they run is blocked",
            Self::InPenalty => "are held back: the version failed on them",
            Self::RolledBackBefore => "refuse it: they rolled it back before",
        }
    }

    /// Whether such a device is an error of the rollout.
    #[must_use]
    pub fn is_error(self) -> bool {
        match self {
            Self::RolledBackBefore => true,
            Self::Updates
            | Self::ByFloor
            | Self::RunsIt
            | Self::Offline
            | Self::BelowLevel
            | Self::TooOld
            | Self::OtherLine
            | Self::OnHold
            | Self::Pinned
            | Self::BlockedWay
            | Self::InPenalty => false,
        }
    }
}

/// A number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutExpectedDevices)]
pub struct Group {
    /// What they are expected to do.
    pub expected: Expected,
    /// How many they are.
    pub devices: usize,
}

/// What a forecast is computed from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The release.
    pub release: &'a ReleaseName,
    /// The plan; `None` for everybody at once.
    pub plan: Option<&'a Plan>,
    /// Whether it is urgent.
    pub is_urgent: bool,
    /// Devices that no wave names.
    pub unlisted: Vec<Group>,
    /// Devices that waves name, and the wave of each.
    pub listed: Vec<(u32, Expected)>,
    /// When the rollout would start, Unix seconds.
    pub now_s: u64,
    /// How long a device takes.
    pub duration: Duration,
    /// Most floors on the way of a device.
    pub floors: usize,
    /// The windows of the fleet. Those without a zone count in UTC.
    pub windows: &'a Windows,
}

impl Facts<'_> {
    /// Whether windows make devices wait.
    pub(super) fn has_windows(&self) -> bool {
        !self.is_urgent && Job::ALL.into_iter().any(|job| !self.windows.of(job).is_empty())
    }

    /// When a device is done that is offered the release at a time. What it does takes its time after
    /// the download has begun; then it waits for the windows of the other jobs.
    pub(super) fn done_s(&self, offered_s: u64) -> u64 {
        let begins_s = |job, at_s| {
            let at = Local { now_s: at_s, zone: "Etc/UTC" };
            match self.windows.opening(job, at) {
                Opening::Closed { opens_s } if !self.is_urgent => opens_s.unwrap_or(at_s),
                Opening::Closed { .. } | Opening::Open { .. } => at_s,
            }
        };
        let downloaded_s = begins_s(Job::Download, offered_s).saturating_add(self.duration.seconds);
        begins_s(Job::Reboot, begins_s(Job::Install, downloaded_s))
    }
}

/// How long a device takes from the offer to its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutDuration)]
pub struct Duration {
    /// Seconds.
    pub seconds: u64,
    /// Number of devices that this was measured on, in the last rollout of the fleet; 0 for an
    /// assumption.
    pub measured: usize,
}

impl Duration {
    /// The time in which nine of ten devices were done; [`UPDATE_S`] without any.
    #[must_use]
    pub fn of(mut seconds: Vec<u64>) -> Self {
        seconds.sort_unstable();
        match seconds.get((seconds.len() * 9).div_ceil(10).saturating_sub(1)) {
            Some(most) => Self { seconds: *most, measured: seconds.len() },
            None => Self { seconds: UPDATE_S, measured: 0 },
        }
    }
}

/// What a wave is expected to come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutWaveForecast)]
pub struct WaveForecast {
    /// How far the rollout goes with it.
    pub size: Size,
    /// Whether an operator begins it. The time until then is not counted.
    pub is_by_hand: bool,
    /// When it begins, Unix seconds.
    pub begins_s: u64,
    /// Its devices; kinds without devices are left out.
    pub expected: Vec<Group>,
}

/// How a rollout is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = RolloutEnd)]
pub enum End {
    /// Every device that can have it has it.
    Succeeds {
        /// When, Unix seconds.
        at_s: u64,
    },
    /// Devices that refuse it are more errors than the plan accepts.
    Stops {
        /// When, Unix seconds.
        at_s: u64,
        /// Number of the wave, from 0.
        wave: u32,
        /// The errors.
        errors: Errors,
    },
    /// Every device has finished, and some do not run it: of a rollout without waves.
    Fails {
        /// When, Unix seconds.
        at_s: u64,
    },
    /// It stays open: devices that it waits for are offline or blocked.
    Waits {
        /// Since when nothing else happens, Unix seconds.
        from_s: u64,
        /// Number of the wave, from 0.
        wave: u32,
    },
    /// It takes longer than this could be computed.
    TooLong {
        /// How far it was computed, Unix seconds.
        at_s: u64,
    },
}

/// Kinds of devices, each once; kinds without devices are left out.
pub(super) fn sums(groups: impl Iterator<Item = Group> + Clone) -> Vec<Group> {
    let of = |expected: Expected| {
        let same = groups.clone().filter(|group| group.expected == expected);
        Group { expected, devices: same.map(|group| group.devices).sum() }
    };
    Expected::ALL.into_iter().map(of).filter(|group| group.devices > 0).collect()
}
