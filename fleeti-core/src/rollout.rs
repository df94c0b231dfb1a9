//! A rollout: one release, one fleet, and what each device made of it.
//!
//! One wave so far: every device of the fleet is granted the release when the rollout starts, and the
//! rollout ends when each of them has finished. [`step`] is pure; the server stores the state and
//! carries out the effects after the commit.

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
    /// Runs it and is healthy.
    Succeeded,
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
            Self::Succeeded | Self::RolledBack { .. } | Self::Revoked | Self::Failed { .. } => true,
            Self::Granted | Self::Staging | Self::Staged | Self::Rebooting | Self::Trying => false,
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
}

impl State {
    /// How many devices stand where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { total: self.devices.len(), ..Counts::default() };
        for phase in self.devices.values() {
            match phase {
                DevicePhase::Granted => {}
                DevicePhase::Succeeded => counts.succeeded += 1,
                other if other.is_finished() => counts.failed += 1,
                _ => counts.moving += 1,
            }
        }
        counts
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator starts it for these devices.
    Start(Vec<DeviceId>),
    /// A device told what it runs and where its update stands.
    Reported {
        /// Which device.
        device: DeviceId,
        /// What it runs.
        running: ReleaseName,
        /// Where its update stands.
        update: update::State,
        /// Whether the device had heard of its grant when it said so. What it said before is about something else.
        heard: bool,
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
        (Phase::Running, Event::Reported { device, running, update, heard }) => reported(state, device, &running, &update, heard),
        (Phase::Running, Event::Revoked(device)) => finished(state, device, DevicePhase::Revoked),
        (Phase::Ready | Phase::Running, Event::Abort) => {
            let mut effects: Vec<_> =
                state.devices.iter().filter(|(_, p)| !p.is_finished()).map(|(d, _)| Effect::Withdraw(d.clone())).collect();
            effects.push(Effect::Publish);
            Ok((State { phase: Phase::Aborted, ..state.clone() }, effects))
        }
        (phase @ (Phase::Running | Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Start(_)) => {
            Err(Rejected::Phase { event: "start", phase })
        }
        (phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Reported { .. }) => {
            Err(Rejected::Phase { event: "reported", phase })
        }
        (phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Revoked(_)) => {
            Err(Rejected::Phase { event: "revoked", phase })
        }
        (phase @ (Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Abort) => Err(Rejected::Phase { event: "abort", phase }),
    }
}

fn start(state: &State, devices: Vec<DeviceId>) -> Result<(State, Vec<Effect>), Rejected> {
    if devices.is_empty() {
        return Err(Rejected::NoDevices);
    }
    if devices.len() > DEVICES_MAX {
        return Err(Rejected::TooMany(devices.len()));
    }
    let devices: BTreeMap<_, _> = devices.into_iter().map(|d| (d, DevicePhase::Granted)).collect();
    let mut effects: Vec<_> = devices.keys().map(|d| Effect::Grant(d.clone(), state.release.clone())).collect();
    effects.push(Effect::Publish);
    Ok((State { phase: Phase::Running, devices, release: state.release.clone() }, effects))
}

fn reported(
    state: &State,
    device: DeviceId,
    running: &ReleaseName,
    update: &update::State,
    heard: bool,
) -> Result<(State, Vec<Effect>), Rejected> {
    let Some(before) = state.devices.get(&device) else { return Err(Rejected::NotAMember(device)) };
    let after = device_phase(state, before, running, update, heard);
    finished(state, device, after)
}

/// A device's new phase, which may be the last one that the rollout waited for.
fn finished(state: &State, device: DeviceId, after: DevicePhase) -> Result<(State, Vec<Effect>), Rejected> {
    let Some(before) = state.devices.get(&device) else { return Err(Rejected::NotAMember(device)) };
    // Reports may arrive twice or late; a device that has finished stays finished.
    if before.is_finished() || after == *before {
        return Ok((state.clone(), vec![]));
    }
    let mut effects = Vec::new();
    // A device that did not get there is not to try again behind the operator's back.
    if after.is_finished() && after != DevicePhase::Succeeded {
        effects.push(Effect::Withdraw(device.clone()));
    }
    effects.push(Effect::Publish);
    let mut next = state.clone();
    next.devices.insert(device, after);
    if next.devices.values().all(DevicePhase::is_finished) {
        let all = next.devices.values().all(|p| *p == DevicePhase::Succeeded);
        next.phase = if all { Phase::Succeeded } else { Phase::Failed };
    }
    Ok((next, effects))
}

fn device_phase(state: &State, before: &DevicePhase, running: &ReleaseName, update: &update::State, heard: bool) -> DevicePhase {
    use update::State as U;
    let ours = update.target().is_some_and(|t| *t == state.release.version) && running.line == state.release.line;
    match update {
        // What it runs counts, also when an older try of something else ended badly.
        U::Idle | U::RolledBack { .. } | U::Failed { .. } if *running == state.release => DevicePhase::Succeeded,
        U::Trying { .. } if *running == state.release => DevicePhase::Trying,
        U::Staging { .. } if ours => DevicePhase::Staging,
        U::Staged { .. } if ours => DevicePhase::Staged,
        U::Armed { .. } if ours => DevicePhase::Rebooting,
        U::RolledBack { reason, .. } if ours && heard => DevicePhase::RolledBack { reason: reason.clone() },
        // Another image line shows as a refusal of the version that was asked for.
        U::Failed { code, target } if heard && *target == state.release.version => DevicePhase::Failed { code: *code },
        U::Idle | U::Trying { .. } | U::Staging { .. } | U::Staged { .. } | U::Armed { .. } | U::RolledBack { .. } | U::Failed { .. } => {
            before.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use update::State as U;

    fn rollout() -> State {
        State { release: "kiosk@2".parse().unwrap(), phase: Phase::Ready, devices: BTreeMap::new() }
    }
    fn device(n: u8) -> DeviceId {
        format!("d{n}").parse().unwrap()
    }
    fn report(n: u8, running: &str, update: U) -> Event {
        Event::Reported { device: device(n), running: running.parse().unwrap(), update, heard: true }
    }
    fn two() -> crate::id::Version {
        "2".parse().unwrap()
    }
    fn updates() -> Vec<U> {
        vec![
            U::Idle,
            U::Staging { target: two(), attempt: 1 },
            U::Staged { target: two(), arm_attempts: 0 },
            U::Armed { target: two() },
            U::Trying { target: two() },
            U::RolledBack { target: two(), reason: update::RollbackReason::Health { evidence: "x".into() } },
            U::Failed { target: two(), code: update::FailureCode::StageFailed },
        ]
    }

    #[test]
    fn the_transition_table_is_the_diagram() {
        let running = step(&rollout(), Event::Start(vec![device(1)])).unwrap().0;
        let mut table = String::new();
        let mut events = vec![("start", Event::Start(vec![device(1)])), ("revoked", Event::Revoked(device(1))), ("abort", Event::Abort)];
        events.extend(updates().into_iter().flat_map(|u| {
            let old = ("reported on kiosk@1", report(1, "kiosk@1", u.clone()));
            [old, ("reported on kiosk@2", report(1, "kiosk@2", u))]
        }));
        for phase in [Phase::Ready, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Aborted] {
            for (name, event) in &events {
                let state = State { phase, ..running.clone() };
                let update = match event {
                    Event::Reported { update, .. } => format!(" {}", update.name()),
                    Event::Start(_) | Event::Revoked(_) | Event::Abort => String::new(),
                };
                let line = match step(&state, event.clone()) {
                    Ok((next, effects)) => format!("{:?} {:?} {effects:?}", next.phase, next.devices.values().next()),
                    Err(e) => format!("rejected: {e}"),
                };
                table.push_str(&format!("{phase:?} + {name}{update} -> {line}\n"));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_rollout_ends_when_the_last_device_has_finished() {
        let (s, effects) = step(&rollout(), Event::Start(vec![device(1), device(2)])).unwrap();
        assert_eq!(effects.len(), 3);
        let (s, _) = step(&s, report(1, "kiosk@2", U::Idle)).unwrap();
        assert_eq!(s.phase, Phase::Running);
        let reason = update::RollbackReason::Verity { evidence: "block 0".into() };
        let (s, _) = step(&s, report(2, "kiosk@1", U::RolledBack { target: two(), reason })).unwrap();
        assert_eq!(s.phase, Phase::Failed);
    }

    #[test]
    fn an_old_failure_that_is_heard_again_does_not_end_a_new_rollout() {
        let (s, _) = step(&rollout(), Event::Start(vec![device(1)])).unwrap();
        let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
        let Event::Reported { device: d, running, update, .. } = report(1, "kiosk@1", failed.clone()) else { unreachable!() };
        let (s, _) = step(&s, Event::Reported { device: d, running, update, heard: false }).unwrap();
        assert_eq!(s.phase, Phase::Running);
        let (s, effects) = step(&s, report(1, "kiosk@1", failed)).unwrap();
        assert_eq!((s.phase, effects), (Phase::Failed, vec![Effect::Withdraw(device(1)), Effect::Publish]));
    }

    #[test]
    fn a_fleet_without_devices_cannot_start() {
        assert_eq!(step(&rollout(), Event::Start(vec![])), Err(Rejected::NoDevices));
    }

    proptest! {
        #[test]
        fn terminal_states_absorb_and_finished_devices_stay_finished(
            picks in prop::collection::vec((0u8..4, 0usize..7, any::<bool>()), 0..60)
        ) {
            let mut s = step(&rollout(), Event::Start(vec![device(0), device(1), device(2)])).unwrap().0;
            for (n, u, newer) in picks {
                let event = if n == 3 { Event::Abort } else {
                    report(n, if newer { "kiosk@2" } else { "kiosk@1" }, updates()[u].clone())
                };
                match step(&s, event) {
                    Ok((next, _)) => {
                        prop_assert!(!s.phase.is_terminal());
                        for (d, p) in &s.devices {
                            if p.is_finished() { prop_assert_eq!(p, &next.devices[d]); }
                        }
                        s = next;
                    }
                    Err(_) => prop_assert!(s.phase.is_terminal()),
                }
            }
        }
    }
}
