//! A rollout: one release to one fleet.
//!
//! A rollout is a header and one row for each device. [`device::step`] reads and writes one row;
//! [`header::step`] moves the rollout by the difference. Both are pure: the server stores what they
//! return, and applies the effects after the commit.
//!
//! A rollout has one wave: the server offers the release to every device of the fleet when the
//! rollout starts, and the rollout ends when every device has finished.

pub mod device;
pub mod header;

use crate::id::{DeviceId, ReleaseName};
use crate::update;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Largest number of devices in one rollout.
pub const DEVICES_MAX: usize = 100_000;

/// Phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutPhase)]
pub enum Phase {
    /// Not started.
    Ready,
    /// Starts: devices join in chunks. Those that have joined already update.
    Starting,
    /// All devices have joined, and update.
    Running,
    /// Every device runs the release.
    Succeeded,
    /// Every device has finished, and at least one does not run the release.
    Failed,
    /// An operator stopped it; offers are withdrawn in chunks.
    Aborting,
    /// An operator stopped it, and all offers are withdrawn.
    Aborted,
}

impl Phase {
    /// Whether the phase is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Aborted => true,
            Self::Ready | Self::Starting | Self::Running | Self::Aborting => false,
        }
    }

    /// All phases.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Aborting,
        Self::Aborted,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the header of a rollout counts, in the order of attention.
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
#[schema(as = RolloutCategory)]
pub enum Category {
    /// Has finished, and does not run the release.
    Failed,
    /// Ran the release and did not reach the server: neither a success nor a failure.
    Unconfirmed,
    /// Updates.
    Moving,
    /// Blocked, or offered and not yet reported.
    Waiting,
    /// Runs the release.
    Succeeded,
}

impl Category {
    /// All categories, in the order of attention.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Unconfirmed, Self::Moving, Self::Waiting, Self::Succeeded];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
            Self::Moving => "moving",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
        }
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;
    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let found = Self::ALL.into_iter().find(|category| category.name() == text);
        found.ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

/// A text that names no [`Category`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not failed, unconfirmed, moving, waiting or succeeded")]
pub struct UnknownCategory(String);

/// Bounds of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of devices.
    pub devices_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices_max: DEVICES_MAX }
    }
}

/// What both machines of a rollout need beside their state.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// Unix seconds.
    pub now_s: u64,
    /// The release that is rolled out.
    pub release: &'a ReleaseName,
    /// The limits.
    pub limits: Limits,
}

/// State of a device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DevicePhase {
    /// Blocked: the attestation level is below the fleet's minimum for updates, so the server does
    /// not offer the release.
    Blocked,
    /// Offered; no report received yet.
    Offered,
    /// Writes the release to the other slot.
    Staging,
    /// Written to the other slot; waits for its maintenance window.
    Staged,
    /// Reboots into the release.
    Rebooting,
    /// Runs the release; the result of the health checks is pending.
    Trying,
    /// Ran the release and did not reach the server. The previous version tries it again.
    Unconfirmed,
    /// Reports that it runs the release and is healthy; the server waits for evidence of its TPM.
    Proving,
    /// Runs the release and is healthy.
    Succeeded,
    /// Attestation failed: the evidence contradicts that it runs the release.
    AttestationFailed,
    /// Rolled back to its previous version.
    RolledBack {
        /// Why it rolled back.
        reason: update::RollbackReason,
    },
    /// Its certificate was revoked during the rollout.
    Revoked,
    /// Failed to install the release.
    Failed {
        /// Why it failed.
        code: update::FailureCode,
    },
}

impl DevicePhase {
    /// Whether the device has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Succeeded
            | Self::AttestationFailed
            | Self::RolledBack { .. }
            | Self::Revoked
            | Self::Failed { .. } => true,
            Self::Blocked
            | Self::Offered
            | Self::Staging
            | Self::Staged
            | Self::Rebooting
            | Self::Trying
            | Self::Unconfirmed
            | Self::Proving => false,
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutState)]
pub struct State {
    /// The release that is rolled out.
    pub release: ReleaseName,
    /// Phase of the rollout.
    pub phase: Phase,
    /// State of each device.
    pub devices: BTreeMap<DeviceId, DevicePhase>,
}

/// Number of devices in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// All devices.
    pub total: usize,
    /// Devices that run the release.
    pub succeeded: usize,
    /// Devices that have finished and do not run the release.
    pub failed: usize,
    /// Devices that have not finished.
    pub moving: usize,
    /// Devices that ran the release but did not reach the server: neither a success nor a failure.
    #[serde(default)]
    pub unconfirmed: usize,
}

impl State {
    /// Counts the devices in each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { total: self.devices.len(), ..Counts::default() };
        for phase in self.devices.values() {
            match phase {
                DevicePhase::Blocked | DevicePhase::Offered => {}
                DevicePhase::Succeeded => counts.succeeded += 1,
                DevicePhase::Unconfirmed => counts.unconfirmed += 1,
                other if other.is_finished() => counts.failed += 1,
                _ => counts.moving += 1,
            }
        }
        counts
    }
}

/// What the appraisal policy of its fleet permits a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligibility {
    /// Whether the release may be offered to it.
    pub may_update: bool,
    /// What is proved about the release that it runs.
    pub proof: Proof,
}

/// What is proved about the release that a device runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The fleet requires no proof: the device's report is sufficient.
    NotAsked,
    /// The device runs this release, at a sufficient level.
    Of(ReleaseName),
    /// No sufficient proof.
    Missing,
    /// Attestation failed.
    AttestationFailed,
}

/// What happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator starts the rollout for these devices.
    Start(Vec<(DeviceId, Eligibility)>),
    /// The levels of these devices, or the policy of their fleet, changed.
    Appraised(Vec<(DeviceId, Eligibility)>),
    /// A device sent a report.
    Reported {
        /// The device.
        device: DeviceId,
        /// The release that it runs.
        running: ReleaseName,
        /// State of its update.
        update: update::State,
        /// Whether the device had received the offer when it sent the report. An earlier report is
        /// about another release.
        heard: bool,
        /// What the policy permits the device.
        eligibility: Eligibility,
    },
    /// The certificate of a device was revoked.
    Revoked(DeviceId),
    /// An operator aborts the rollout.
    Abort,
}

/// What the server must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Set the release as the desired version of the device and send it.
    Offer(DeviceId, ReleaseName),
    /// Withdraw the offer.
    Withdraw(DeviceId),
    /// Challenge the device's TPM to prove what it runs: before an update and after it.
    Challenge(DeviceId),
    /// Publish a change event.
    Publish,
}

/// An event that does not apply in a state. The state does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The phase does not permit the event.
    #[error("{event} does not apply to a rollout that is {phase:?}")]
    Phase {
        /// The event's name.
        event: &'static str,
        /// The rollout's phase.
        phase: Phase,
    },
    /// The device is not part of the rollout.
    #[error("device {0} is not part of this rollout")]
    NotAMember(DeviceId),
    /// The rollout has no devices.
    #[error("the fleet has no devices; enroll one first")]
    NoDevices,
    /// The rollout has too many devices.
    #[error("{0} devices, expected at most {DEVICES_MAX}")]
    TooMany(usize),
}

/// Applies an event to a rollout.
///
/// # Errors
/// [`Rejected`] if the event does not apply in the state. The caller keeps its state.
pub fn step(state: &State, event: Event) -> Result<(State, Vec<Effect>), Rejected> {
    match (state.phase, event) {
        (Phase::Ready, Event::Start(devices)) => start(state, devices),
        (Phase::Running, Event::Reported { device, running, update, heard, eligibility }) => {
            let Some(before) = state.devices.get(&device) else {
                return Err(Rejected::NotAMember(device));
            };
            // Levels expire without an event, so the report of a device can be the first sign that
            // it is now blocked.
            let is_blocked = !eligibility.may_update
                && matches!(
                    before,
                    DevicePhase::Offered
                        | DevicePhase::Staging
                        | DevicePhase::Staged
                        | DevicePhase::Unconfirmed
                );
            let before = if is_blocked { &DevicePhase::Blocked } else { before };
            let after = reported(state, before, (&running, &update, heard), &eligibility.proof);
            Ok(moved(state, vec![(device, after)]))
        }
        (Phase::Running, Event::Appraised(eligible)) => Ok(appraised(state, eligible)),
        (Phase::Running, Event::Revoked(device)) => match state.devices.contains_key(&device) {
            true => Ok(moved(state, vec![(device, DevicePhase::Revoked)])),
            false => Err(Rejected::NotAMember(device)),
        },
        (Phase::Ready | Phase::Running, Event::Abort) => {
            let mut effects: Vec<_> = state
                .devices
                .iter()
                .filter(|(_, p)| !p.is_finished())
                .map(|(d, _)| Effect::Withdraw(d.clone()))
                .collect();
            effects.push(Effect::Publish);
            Ok((State { phase: Phase::Aborted, ..state.clone() }, effects))
        }
        (
            phase @ (Phase::Starting
            | Phase::Running
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted),
            Event::Start(_),
        ) => Err(Rejected::Phase { event: "start", phase }),
        (
            phase @ (Phase::Ready
            | Phase::Starting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted),
            Event::Reported { .. },
        ) => Err(Rejected::Phase { event: "reported", phase }),
        (
            phase @ (Phase::Ready
            | Phase::Starting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted),
            Event::Appraised(_),
        ) => Err(Rejected::Phase { event: "appraised", phase }),
        (
            phase @ (Phase::Ready
            | Phase::Starting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted),
            Event::Revoked(_),
        ) => Err(Rejected::Phase { event: "revoked", phase }),
        (
            phase @ (Phase::Starting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted),
            Event::Abort,
        ) => Err(Rejected::Phase { event: "abort", phase }),
    }
}

fn start(
    state: &State,
    devices: Vec<(DeviceId, Eligibility)>,
) -> Result<(State, Vec<Effect>), Rejected> {
    if devices.is_empty() {
        return Err(Rejected::NoDevices);
    }
    if devices.len() > DEVICES_MAX {
        return Err(Rejected::TooMany(devices.len()));
    }
    let told = |eligibility: &Eligibility| {
        if eligibility.may_update { DevicePhase::Offered } else { DevicePhase::Blocked }
    };
    let devices: BTreeMap<_, _> =
        devices.into_iter().map(|(d, eligibility)| (d, told(&eligibility))).collect();
    let mut effects = Vec::new();
    for (device, phase) in &devices {
        if *phase == DevicePhase::Offered {
            effects.push(Effect::Offer(device.clone(), state.release.clone()));
        }
        effects.push(Effect::Challenge(device.clone()));
    }
    effects.push(Effect::Publish);
    Ok((State { phase: Phase::Running, devices, release: state.release.clone() }, effects))
}

/// Applies new levels: offers the release to blocked devices that may have it now, finishes devices
/// that wait for proof, and blocks devices that have not yet installed anything and may no longer
/// update.
fn appraised(state: &State, eligible: Vec<(DeviceId, Eligibility)>) -> (State, Vec<Effect>) {
    use DevicePhase as P;
    let after = |(device, eligibility): (DeviceId, Eligibility)| {
        let before = state.devices.get(&device)?;
        let after = match (before, eligibility.proof) {
            (P::Blocked, _) if eligibility.may_update => P::Offered,
            (P::Offered | P::Staging | P::Staged | P::Unconfirmed, _)
                if !eligibility.may_update =>
            {
                P::Blocked
            }
            (P::Proving, Proof::NotAsked) => P::Succeeded,
            (P::Proving, Proof::Of(release)) if release == state.release => P::Succeeded,
            (P::Proving, Proof::AttestationFailed) => P::AttestationFailed,
            _ => return None,
        };
        Some((device, after))
    };
    moved(state, eligible.into_iter().filter_map(after).collect())
}

/// Sets the new states of devices, and ends the rollout if all devices have finished.
fn moved(state: &State, moves: Vec<(DeviceId, DevicePhase)>) -> (State, Vec<Effect>) {
    let mut next = state.clone();
    let mut effects = Vec::new();
    for (device, after) in moves {
        // Reports may arrive twice or late. A device that has finished stays finished.
        let Some(before) = next
            .devices
            .get_mut(&device)
            .filter(|before| !before.is_finished() && **before != after)
        else {
            continue;
        };
        match &after {
            DevicePhase::Offered => effects.push(Effect::Offer(device, state.release.clone())),
            DevicePhase::Blocked => effects.push(Effect::Withdraw(device)),
            DevicePhase::Proving => effects.push(Effect::Challenge(device)),
            // Withdraw the offer, so that a device that failed does not try again without the
            // operator.
            finished if finished.is_finished() && *finished != DevicePhase::Succeeded => {
                effects.push(Effect::Withdraw(device))
            }
            _ => {}
        }
        *before = after;
    }
    if next == *state {
        return (next, Vec::new());
    }
    effects.push(Effect::Publish);
    if next.devices.values().all(DevicePhase::is_finished) {
        let all = next.devices.values().all(|p| *p == DevicePhase::Succeeded);
        next.phase = if all { Phase::Succeeded } else { Phase::Failed };
    }
    (next, effects)
}

fn reported(
    state: &State,
    before: &DevicePhase,
    (running, update, heard): (&ReleaseName, &update::State, bool),
    proof: &Proof,
) -> DevicePhase {
    use update::State as U;
    let ours = update.target().is_some_and(|t| *t == state.release.version)
        && running.line == state.release.line;
    match update {
        // The running release counts, even if an older attempt at something else failed. A proof
        // from before this report does not count, and neither does a failed attestation: the TPM is
        // challenged again.
        U::Idle | U::RolledBack { .. } | U::Failed { .. } if *running == state.release => {
            match proof {
                Proof::NotAsked => DevicePhase::Succeeded,
                Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => DevicePhase::Proving,
            }
        }
        U::Trying { .. } if *running == state.release => DevicePhase::Trying,
        // The device continues until it learns that it is blocked. A download that fails for this
        // reason is not a failure of the device.
        U::Staging { .. } | U::Staged { .. } | U::Unconfirmed { .. } | U::Failed { .. }
            if *before == DevicePhase::Blocked =>
        {
            DevicePhase::Blocked
        }
        U::Staging { .. } if ours => DevicePhase::Staging,
        U::Staged { .. } if ours => DevicePhase::Staged,
        U::Armed { .. } if ours => DevicePhase::Rebooting,
        // Neither a success nor a failure: an outage is not the fault of the release.
        U::Unconfirmed { .. } if ours => DevicePhase::Unconfirmed,
        U::RolledBack { reason, .. } if ours && heard => {
            DevicePhase::RolledBack { reason: reason.clone() }
        }
        // A device of another image line refuses the version that it was offered.
        U::Failed { code, target } if heard && *target == state.release.version => {
            DevicePhase::Failed { code: *code }
        }
        U::Idle
        | U::Trying { .. }
        | U::Staging { .. }
        | U::Staged { .. }
        | U::Armed { .. }
        | U::Unconfirmed { .. }
        | U::RolledBack { .. }
        | U::Failed { .. } => before.clone(),
    }
}

#[cfg(test)]
mod tests;
