//! A rollout: one release, one fleet, and what each device made of it.
//!
//! One wave so far: every device of the fleet is granted the release when the rollout starts, and
//! the rollout ends when each of them has finished. [`step`] is pure; the server stores the state
//! and carries out the effects after the commit.

use crate::id::{DeviceId, ReleaseName};
use crate::update;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most devices of one rollout.
pub const DEVICES_MAX: usize = 100_000;

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutPhase)]
pub enum Phase {
    /// Not started.
    Ready,
    /// Devices are on their way.
    Running,
    /// Every device runs the release.
    Succeeded,
    /// Every device has finished and at least one does not run the release.
    Failed,
    /// An operator stopped it.
    Aborted,
}

impl Phase {
    /// Whether nothing can change any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Aborted => true,
            Self::Ready | Self::Running => false,
        }
    }
}

/// What one device made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DevicePhase {
    /// Not told: it is not trusted as far as its fleet asks for an update.
    Held,
    /// Told, nothing heard yet.
    Granted,
    /// Writes the other slot.
    Staging,
    /// Written, waits for its window.
    Staged,
    /// Reboots into it.
    Rebooting,
    /// Runs it, health not yet known.
    Trying,
    /// Ran it and did not reach the server; its old version tries it again.
    Unconfirmed,
    /// Runs it and is healthy by its own word; what its TPM says is waited for.
    Proving,
    /// Runs it and is healthy.
    Succeeded,
    /// What its TPM says contradicts that it runs it.
    Contradicted,
    /// Went back to its old version.
    RolledBack {
        /// Why.
        reason: update::RollbackReason,
    },
    /// Its certificate was revoked on the way.
    Revoked,
    /// Could not install it.
    Failed {
        /// Why.
        code: update::FailureCode,
    },
}

impl DevicePhase {
    /// Whether this device has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Succeeded
            | Self::Contradicted
            | Self::RolledBack { .. }
            | Self::Revoked
            | Self::Failed { .. } => true,
            Self::Held
            | Self::Granted
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
    /// What is rolled out.
    pub release: ReleaseName,
    /// Where it stands.
    pub phase: Phase,
    /// Every device of it.
    pub devices: BTreeMap<DeviceId, DevicePhase>,
}

/// How many devices of a rollout stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// Run the release.
    pub succeeded: usize,
    /// Have finished, and do not.
    pub failed: usize,
    /// Are on their way.
    pub moving: usize,
    /// Ran the release and did not reach the server with it: neither a success nor a failure.
    #[serde(default)]
    pub unconfirmed: usize,
}

impl State {
    /// How many devices stand where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { total: self.devices.len(), ..Counts::default() };
        for phase in self.devices.values() {
            match phase {
                DevicePhase::Held | DevicePhase::Granted => {}
                DevicePhase::Succeeded => counts.succeeded += 1,
                DevicePhase::Unconfirmed => counts.unconfirmed += 1,
                other if other.is_finished() => counts.failed += 1,
                _ => counts.moving += 1,
            }
        }
        counts
    }
}

/// How far a device is trusted, by what its fleet asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may be told of an update.
    pub may_update: bool,
    /// What is proved of what it runs.
    pub proof: Proof,
}

/// What is proved of what a device runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Its fleet asks for none: its own word counts.
    NotAsked,
    /// It runs this release, at the level that counts.
    Of(ReleaseName),
    /// None that counts.
    Missing,
    /// Something contradicts what was promised.
    Contradicted,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator starts it for these devices.
    Start(Vec<(DeviceId, Standing)>),
    /// It was found out anew how far devices are trusted, or their fleet asks for something else.
    Appraised(Vec<(DeviceId, Standing)>),
    /// A device told what it runs and where its update stands.
    Reported {
        /// Which device.
        device: DeviceId,
        /// What it runs.
        running: ReleaseName,
        /// Where its update stands.
        update: update::State,
        /// Whether the device had heard of its grant when it said so. What it said before is about
        /// something else.
        heard: bool,
        /// How far it is trusted.
        standing: Standing,
    },
    /// A device was revoked.
    Revoked(DeviceId),
    /// An operator stops it.
    Abort,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the release the desired state of the device, and push it.
    Grant(DeviceId, ReleaseName),
    /// Take the grant back.
    Withdraw(DeviceId),
    /// Ask the device's TPM what it runs: before an update and after it.
    Challenge(DeviceId),
    /// Tell watchers.
    Publish,
}

/// An event that has no place in a state: nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// Wrong phase.
    #[error("{event} does not apply to a rollout that is {phase:?}")]
    Phase {
        /// The event's name.
        event: &'static str,
        /// The rollout's phase.
        phase: Phase,
    },
    /// The device is not part of it.
    #[error("device {0} is not part of this rollout")]
    NotAMember(DeviceId),
    /// A rollout needs devices.
    #[error("the fleet has no device; enroll one first")]
    NoDevices,
    /// Too many devices.
    #[error("{0} devices are too many, {DEVICES_MAX} at the most")]
    TooMany(usize),
}

/// One step of a rollout.
///
/// # Errors
/// [`Rejected`] when the event has no place in the state; the caller keeps the state it has.
pub fn step(state: &State, event: Event) -> Result<(State, Vec<Effect>), Rejected> {
    match (state.phase, event) {
        (Phase::Ready, Event::Start(devices)) => start(state, devices),
        (Phase::Running, Event::Reported { device, running, update, heard, standing }) => {
            let Some(before) = state.devices.get(&device) else {
                return Err(Rejected::NotAMember(device));
            };
            // Levels grow old without an event: it is held from the next thing that it says.
            let is_held = !standing.may_update
                && matches!(
                    before,
                    DevicePhase::Granted
                        | DevicePhase::Staging
                        | DevicePhase::Staged
                        | DevicePhase::Unconfirmed
                );
            let before = if is_held { &DevicePhase::Held } else { before };
            let after = reported(state, before, (&running, &update, heard), &standing.proof);
            Ok(moved(state, vec![(device, after)]))
        }
        (Phase::Running, Event::Appraised(standings)) => Ok(appraised(state, standings)),
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
            phase @ (Phase::Running | Phase::Succeeded | Phase::Failed | Phase::Aborted),
            Event::Start(_),
        ) => Err(Rejected::Phase { event: "start", phase }),
        (
            phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted),
            Event::Reported { .. },
        ) => Err(Rejected::Phase { event: "reported", phase }),
        (
            phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted),
            Event::Appraised(_),
        ) => Err(Rejected::Phase { event: "appraised", phase }),
        (
            phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted),
            Event::Revoked(_),
        ) => Err(Rejected::Phase { event: "revoked", phase }),
        (phase @ (Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Abort) => {
            Err(Rejected::Phase { event: "abort", phase })
        }
    }
}

fn start(
    state: &State,
    devices: Vec<(DeviceId, Standing)>,
) -> Result<(State, Vec<Effect>), Rejected> {
    if devices.is_empty() {
        return Err(Rejected::NoDevices);
    }
    if devices.len() > DEVICES_MAX {
        return Err(Rejected::TooMany(devices.len()));
    }
    let told = |standing: &Standing| {
        if standing.may_update { DevicePhase::Granted } else { DevicePhase::Held }
    };
    let devices: BTreeMap<_, _> =
        devices.into_iter().map(|(d, standing)| (d, told(&standing))).collect();
    let mut effects = Vec::new();
    for (device, phase) in &devices {
        if *phase == DevicePhase::Granted {
            effects.push(Effect::Grant(device.clone(), state.release.clone()));
        }
        effects.push(Effect::Challenge(device.clone()));
    }
    effects.push(Effect::Publish);
    Ok((State { phase: Phase::Running, devices, release: state.release.clone() }, effects))
}

/// What is newly known of devices moves those that are held or wait for it, and holds those that
/// have not written anything that counts.
fn appraised(state: &State, standings: Vec<(DeviceId, Standing)>) -> (State, Vec<Effect>) {
    use DevicePhase as P;
    let after = |(device, standing): (DeviceId, Standing)| {
        let before = state.devices.get(&device)?;
        let after = match (before, standing.proof) {
            (P::Held, _) if standing.may_update => P::Granted,
            (P::Granted | P::Staging | P::Staged | P::Unconfirmed, _) if !standing.may_update => {
                P::Held
            }
            (P::Proving, Proof::NotAsked) => P::Succeeded,
            (P::Proving, Proof::Of(release)) if release == state.release => P::Succeeded,
            (P::Proving, Proof::Contradicted) => P::Contradicted,
            _ => return None,
        };
        Some((device, after))
    };
    moved(state, standings.into_iter().filter_map(after).collect())
}

/// Devices in their new phases, which may be the last ones that the rollout waited for.
fn moved(state: &State, moves: Vec<(DeviceId, DevicePhase)>) -> (State, Vec<Effect>) {
    let mut next = state.clone();
    let mut effects = Vec::new();
    for (device, after) in moves {
        // Reports may arrive twice or late; a device that has finished stays finished.
        let Some(before) = next
            .devices
            .get_mut(&device)
            .filter(|before| !before.is_finished() && **before != after)
        else {
            continue;
        };
        match &after {
            DevicePhase::Granted => effects.push(Effect::Grant(device, state.release.clone())),
            DevicePhase::Held => effects.push(Effect::Withdraw(device)),
            DevicePhase::Proving => effects.push(Effect::Challenge(device)),
            // A device that did not get there is not to try again behind the operator's back.
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
        // What it runs counts, also when an older try of something else ended badly. A proof from
        // before its word is none, and neither is a contradiction: the TPM is asked anew.
        U::Idle | U::RolledBack { .. } | U::Failed { .. } if *running == state.release => {
            match proof {
                Proof::NotAsked => DevicePhase::Succeeded,
                Proof::Of(_) | Proof::Missing | Proof::Contradicted => DevicePhase::Proving,
            }
        }
        U::Trying { .. } if *running == state.release => DevicePhase::Trying,
        // It goes on until it hears that it is held, and what it cannot fetch then is no failure of
        // its own.
        U::Staging { .. } | U::Staged { .. } | U::Unconfirmed { .. } | U::Failed { .. }
            if *before == DevicePhase::Held =>
        {
            DevicePhase::Held
        }
        U::Staging { .. } if ours => DevicePhase::Staging,
        U::Staged { .. } if ours => DevicePhase::Staged,
        U::Armed { .. } if ours => DevicePhase::Rebooting,
        // Neither a success nor an error: an outage is not the release's fault.
        U::Unconfirmed { .. } if ours => DevicePhase::Unconfirmed,
        U::RolledBack { reason, .. } if ours && heard => {
            DevicePhase::RolledBack { reason: reason.clone() }
        }
        // Another image line shows as a refusal of the version that was asked for.
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
