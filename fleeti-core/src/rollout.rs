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
            Self::Succeeded | Self::Contradicted | Self::RolledBack { .. } | Self::Revoked | Self::Failed { .. } => true,
            Self::Held | Self::Granted | Self::Staging | Self::Staged | Self::Rebooting | Self::Trying | Self::Proving => false,
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
                DevicePhase::Held | DevicePhase::Granted => {}
                DevicePhase::Succeeded => counts.succeeded += 1,
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
        /// Whether the device had heard of its grant when it said so. What it said before is about something else.
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
            let Some(before) = state.devices.get(&device) else { return Err(Rejected::NotAMember(device)) };
            // Levels grow old without an event: it is held from the next thing that it says.
            let is_held = !standing.may_update && matches!(before, DevicePhase::Granted | DevicePhase::Staging | DevicePhase::Staged);
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
        (phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Appraised(_)) => {
            Err(Rejected::Phase { event: "appraised", phase })
        }
        (phase @ (Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Revoked(_)) => {
            Err(Rejected::Phase { event: "revoked", phase })
        }
        (phase @ (Phase::Succeeded | Phase::Failed | Phase::Aborted), Event::Abort) => Err(Rejected::Phase { event: "abort", phase }),
    }
}

fn start(state: &State, devices: Vec<(DeviceId, Standing)>) -> Result<(State, Vec<Effect>), Rejected> {
    if devices.is_empty() {
        return Err(Rejected::NoDevices);
    }
    if devices.len() > DEVICES_MAX {
        return Err(Rejected::TooMany(devices.len()));
    }
    let told = |standing: &Standing| if standing.may_update { DevicePhase::Granted } else { DevicePhase::Held };
    let devices: BTreeMap<_, _> = devices.into_iter().map(|(d, standing)| (d, told(&standing))).collect();
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

/// What is newly known of devices moves those that are held or wait for it, and holds those that have not written anything
/// that counts.
fn appraised(state: &State, standings: Vec<(DeviceId, Standing)>) -> (State, Vec<Effect>) {
    use DevicePhase as P;
    let after = |(device, standing): (DeviceId, Standing)| {
        let before = state.devices.get(&device)?;
        let after = match (before, standing.proof) {
            (P::Held, _) if standing.may_update => P::Granted,
            (P::Granted | P::Staging | P::Staged, _) if !standing.may_update => P::Held,
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
        let Some(before) = next.devices.get_mut(&device).filter(|before| !before.is_finished() && **before != after) else { continue };
        match &after {
            DevicePhase::Granted => effects.push(Effect::Grant(device, state.release.clone())),
            DevicePhase::Held => effects.push(Effect::Withdraw(device)),
            DevicePhase::Proving => effects.push(Effect::Challenge(device)),
            // A device that did not get there is not to try again behind the operator's back.
            finished if finished.is_finished() && *finished != DevicePhase::Succeeded => effects.push(Effect::Withdraw(device)),
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
    let ours = update.target().is_some_and(|t| *t == state.release.version) && running.line == state.release.line;
    match update {
        // What it runs counts, also when an older try of something else ended badly. A proof from before its word is none, and
        // neither is a contradiction: the TPM is asked anew.
        U::Idle | U::RolledBack { .. } | U::Failed { .. } if *running == state.release => match proof {
            Proof::NotAsked => DevicePhase::Succeeded,
            Proof::Of(_) | Proof::Missing | Proof::Contradicted => DevicePhase::Proving,
        },
        U::Trying { .. } if *running == state.release => DevicePhase::Trying,
        // It goes on until it hears that it is held, and what it cannot fetch then is no failure of its own.
        U::Staging { .. } | U::Staged { .. } | U::Failed { .. } if *before == DevicePhase::Held => DevicePhase::Held,
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
        Event::Reported { device: device(n), running: running.parse().unwrap(), update, heard: true, standing: usual() }
    }
    fn usual() -> Standing {
        Standing { may_update: true, proof: Proof::NotAsked }
    }
    fn start(devices: &[u8]) -> Event {
        Event::Start(devices.iter().map(|n| (device(*n), usual())).collect())
    }
    fn appraised(n: u8, may_update: bool, proof: Proof) -> Event {
        Event::Appraised(vec![(device(n), Standing { may_update, proof })])
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
        let running = step(&rollout(), start(&[1])).unwrap().0;
        let mut table = String::new();
        let mut events = vec![("start", start(&[1])), ("revoked", Event::Revoked(device(1))), ("abort", Event::Abort)];
        events.extend(updates().into_iter().flat_map(|u| {
            let old = ("reported on kiosk@1", report(1, "kiosk@1", u.clone()));
            [old, ("reported on kiosk@2", report(1, "kiosk@2", u))]
        }));
        for phase in [Phase::Ready, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Aborted] {
            for (name, event) in &events {
                let state = State { phase, ..running.clone() };
                let update = match event {
                    Event::Reported { update, .. } => format!(" {}", update.name()),
                    Event::Start(_) | Event::Appraised(_) | Event::Revoked(_) | Event::Abort => String::new(),
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
        let (s, effects) = step(&rollout(), start(&[1, 2])).unwrap();
        assert_eq!(effects.len(), 5);
        let (s, _) = step(&s, report(1, "kiosk@2", U::Idle)).unwrap();
        assert_eq!(s.phase, Phase::Running);
        let reason = update::RollbackReason::Verity { evidence: "block 0".into() };
        let (s, _) = step(&s, report(2, "kiosk@1", U::RolledBack { target: two(), reason })).unwrap();
        assert_eq!(s.phase, Phase::Failed);
    }

    #[test]
    fn an_old_failure_that_is_heard_again_does_not_end_a_new_rollout() {
        let (s, _) = step(&rollout(), start(&[1])).unwrap();
        let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
        let Event::Reported { device: d, running, update, standing, .. } = report(1, "kiosk@1", failed.clone()) else { unreachable!() };
        let (s, _) = step(&s, Event::Reported { device: d, running, update, heard: false, standing }).unwrap();
        assert_eq!(s.phase, Phase::Running);
        let (s, effects) = step(&s, report(1, "kiosk@1", failed)).unwrap();
        assert_eq!((s.phase, effects), (Phase::Failed, vec![Effect::Withdraw(device(1)), Effect::Publish]));
    }

    #[test]
    fn a_device_that_is_not_trusted_far_enough_is_held_until_it_is() {
        let held = Standing { may_update: false, proof: Proof::Missing };
        let (s, effects) = step(&rollout(), Event::Start(vec![(device(1), held), (device(2), usual())])).unwrap();
        assert_eq!(s.devices[&device(1)], DevicePhase::Held);
        assert!(!effects.iter().any(|e| matches!(e, Effect::Grant(d, _) if *d == device(1))), "{effects:?}");
        assert!(effects.contains(&Effect::Challenge(device(1))), "it is asked, so that it may prove itself");
        // A device that goes on by itself is still not one that was told.
        let (s, _) = step(&s, report(1, "kiosk@1", U::Staging { target: two(), attempt: 1 })).unwrap();
        assert_eq!(s.devices[&device(1)], DevicePhase::Held);
        assert_eq!(step(&s, appraised(1, false, Proof::Missing)).unwrap(), (s.clone(), vec![]));
        let (s, effects) = step(&s, appraised(1, true, Proof::Missing)).unwrap();
        assert_eq!(effects, vec![Effect::Grant(device(1), "kiosk@2".parse().unwrap()), Effect::Publish]);
        for update in [U::Idle, U::Staging { target: two(), attempt: 1 }, U::Staged { target: two(), arm_attempts: 0 }] {
            let (s, _) = step(&s, report(1, "kiosk@1", update)).unwrap();
            let (s, effects) = step(&s, appraised(1, false, Proof::Contradicted)).unwrap();
            assert_eq!((s.devices[&device(1)].clone(), effects), (DevicePhase::Held, vec![Effect::Withdraw(device(1)), Effect::Publish]));
            // What it was downloading is refused to it now.
            let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
            assert_eq!(step(&s, report(1, "kiosk@1", failed)).unwrap(), (s, vec![]));
        }
        // Once it restarts into it, nothing can be taken back.
        let (s, _) = step(&s, report(1, "kiosk@1", U::Armed { target: two() })).unwrap();
        assert_eq!(step(&s, appraised(1, false, Proof::Contradicted)).unwrap().1, vec![]);
    }

    #[test]
    fn a_device_whose_level_has_grown_old_is_held_and_does_not_fail() {
        let (s, _) = step(&rollout(), start(&[1])).unwrap();
        let (s, _) = step(&s, report(1, "kiosk@1", U::Staging { target: two(), attempt: 1 })).unwrap();
        let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
        let Event::Reported { device: d, running, update, heard, .. } = report(1, "kiosk@1", failed) else { unreachable!() };
        let old = Standing { may_update: false, proof: Proof::Missing };
        let (s, effects) = step(&s, Event::Reported { device: d, running, update, heard, standing: old }).unwrap();
        assert_eq!((s.devices[&device(1)].clone(), effects), (DevicePhase::Held, vec![Effect::Withdraw(device(1)), Effect::Publish]));
    }

    #[test]
    fn where_a_proof_is_asked_the_word_of_a_device_is_not_success() {
        let (s, _) = step(&rollout(), start(&[1])).unwrap();
        let idle = |proof| {
            let Event::Reported { device, running, update, heard, .. } = report(1, "kiosk@2", U::Idle) else { unreachable!() };
            Event::Reported { device, running, update, heard, standing: Standing { may_update: true, proof } }
        };
        let of = |release: &str| Proof::Of(release.parse().unwrap());
        for proof in [Proof::Missing, of("kiosk@1"), of("kiosk@2"), Proof::Contradicted] {
            let (proving, effects) = step(&s, idle(proof)).unwrap();
            assert_eq!(proving.devices[&device(1)], DevicePhase::Proving);
            assert_eq!(effects, vec![Effect::Challenge(device(1)), Effect::Publish]);
            assert_eq!(step(&proving, appraised(1, true, Proof::Missing)).unwrap().1, vec![]);
            assert_eq!(step(&proving, appraised(1, true, of("kiosk@1"))).unwrap().1, vec![]);
            assert_eq!(step(&proving, appraised(1, true, of("kiosk@2"))).unwrap().0.phase, Phase::Succeeded);
            let (wrong, effects) = step(&proving, appraised(1, false, Proof::Contradicted)).unwrap();
            assert_eq!((wrong.phase, effects), (Phase::Failed, vec![Effect::Withdraw(device(1)), Effect::Publish]));
        }
    }

    #[test]
    fn a_fleet_without_devices_cannot_start() {
        assert_eq!(step(&rollout(), start(&[])), Err(Rejected::NoDevices));
    }

    proptest! {
        #[test]
        fn terminal_states_absorb_and_finished_devices_stay_finished(
            picks in prop::collection::vec((0u8..4, 0usize..7, any::<bool>(), 0usize..6), 0..60)
        ) {
            let proofs = [
                Proof::NotAsked, Proof::Missing, Proof::Contradicted, Proof::Of("kiosk@1".parse().unwrap()), Proof::Of("kiosk@2".parse().unwrap()),
            ];
            let mut s = step(&rollout(), start(&[0, 1, 2])).unwrap().0;
            for (n, u, newer, p) in picks {
                let event = match (n, proofs.get(p)) {
                    (3, None) => Event::Abort,
                    (3, Some(proof)) => appraised(u8::try_from(u % 3).unwrap(), newer, proof.clone()),
                    (n, proof) => {
                        let reported = report(n, if newer { "kiosk@2" } else { "kiosk@1" }, updates()[u].clone());
                        let Event::Reported { device, running, update, heard, standing } = reported else { unreachable!() };
                        let proof = proof.cloned().unwrap_or(standing.proof);
                        Event::Reported { device, running, update, heard, standing: Standing { may_update: true, proof } }
                    }
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
