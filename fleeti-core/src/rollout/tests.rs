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
    Event::Reported {
        device: device(n),
        running: running.parse().unwrap(),
        update,
        heard: true,
        eligibility: usual(),
    }
}
fn usual() -> Eligibility {
    Eligibility { may_update: true, proof: Proof::NotAsked }
}
fn start(devices: &[u8]) -> Event {
    Event::Start(devices.iter().map(|n| (device(*n), usual())).collect())
}
fn appraised(n: u8, may_update: bool, proof: Proof) -> Event {
    Event::Appraised(vec![(device(n), Eligibility { may_update, proof })])
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
        U::RolledBack {
            target: two(),
            reason: update::RollbackReason::Health { evidence: "x".into() },
        },
        U::Failed { target: two(), code: update::FailureCode::StageFailed },
    ]
}

#[test]
fn the_transition_table_is_the_diagram() {
    let running = step(&rollout(), start(&[1])).unwrap().0;
    let mut table = String::new();
    let mut events = vec![
        ("start", start(&[1])),
        ("revoked", Event::Revoked(device(1))),
        ("abort", Event::Abort),
    ];
    events.extend(updates().into_iter().flat_map(|u| {
        let old = ("reported on kiosk@1", report(1, "kiosk@1", u.clone()));
        [old, ("reported on kiosk@2", report(1, "kiosk@2", u))]
    }));
    for phase in [Phase::Ready, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Aborted] {
        for (name, event) in &events {
            let state = State { phase, ..running.clone() };
            let update = match event {
                Event::Reported { update, .. } => format!(" {}", update.name()),
                Event::Start(_) | Event::Appraised(_) | Event::Revoked(_) | Event::Abort => {
                    String::new()
                }
            };
            let line = match step(&state, event.clone()) {
                Ok((next, effects)) => {
                    format!("{:?} {:?} {effects:?}", next.phase, next.devices.values().next())
                }
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
    let Event::Reported { device: d, running, update, eligibility, .. } =
        report(1, "kiosk@1", failed.clone())
    else {
        unreachable!()
    };
    let (s, _) =
        step(&s, Event::Reported { device: d, running, update, heard: false, eligibility })
            .unwrap();
    assert_eq!(s.phase, Phase::Running);
    let (s, effects) = step(&s, report(1, "kiosk@1", failed)).unwrap();
    assert_eq!(
        (s.phase, effects),
        (Phase::Failed, vec![Effect::Withdraw(device(1)), Effect::Publish])
    );
}

#[test]
fn a_device_that_is_not_trusted_far_enough_is_held_until_it_is() {
    let held = Eligibility { may_update: false, proof: Proof::Missing };
    let (s, effects) =
        step(&rollout(), Event::Start(vec![(device(1), held), (device(2), usual())])).unwrap();
    assert_eq!(s.devices[&device(1)], DevicePhase::Blocked);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Offer(d, _) if *d == device(1))),
        "{effects:?}"
    );
    assert!(
        effects.contains(&Effect::Challenge(device(1))),
        "it is asked, so that it may prove itself"
    );
    // A device that continues by itself still has no offer.
    let (s, _) = step(&s, report(1, "kiosk@1", U::Staging { target: two(), attempt: 1 })).unwrap();
    assert_eq!(s.devices[&device(1)], DevicePhase::Blocked);
    assert_eq!(step(&s, appraised(1, false, Proof::Missing)).unwrap(), (s.clone(), vec![]));
    let (s, effects) = step(&s, appraised(1, true, Proof::Missing)).unwrap();
    assert_eq!(
        effects,
        vec![Effect::Offer(device(1), "kiosk@2".parse().unwrap()), Effect::Publish]
    );
    for update in [
        U::Idle,
        U::Staging { target: two(), attempt: 1 },
        U::Staged { target: two(), arm_attempts: 0 },
    ] {
        let (s, _) = step(&s, report(1, "kiosk@1", update)).unwrap();
        let (s, effects) = step(&s, appraised(1, false, Proof::AttestationFailed)).unwrap();
        assert_eq!(
            (s.devices[&device(1)].clone(), effects),
            (DevicePhase::Blocked, vec![Effect::Withdraw(device(1)), Effect::Publish])
        );
        // The server no longer serves the download, so it fails.
        let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
        assert_eq!(step(&s, report(1, "kiosk@1", failed)).unwrap(), (s, vec![]));
    }
    // After the device reboots into the release, the offer cannot be withdrawn.
    let (s, _) = step(&s, report(1, "kiosk@1", U::Armed { target: two() })).unwrap();
    assert_eq!(step(&s, appraised(1, false, Proof::AttestationFailed)).unwrap().1, vec![]);
}

#[test]
fn a_device_whose_level_has_grown_old_is_held_and_does_not_fail() {
    let (s, _) = step(&rollout(), start(&[1])).unwrap();
    let (s, _) = step(&s, report(1, "kiosk@1", U::Staging { target: two(), attempt: 1 })).unwrap();
    let failed = U::Failed { target: two(), code: update::FailureCode::Unreachable };
    let Event::Reported { device: d, running, update, heard, .. } = report(1, "kiosk@1", failed)
    else {
        unreachable!()
    };
    let old = Eligibility { may_update: false, proof: Proof::Missing };
    let (s, effects) =
        step(&s, Event::Reported { device: d, running, update, heard, eligibility: old }).unwrap();
    assert_eq!(
        (s.devices[&device(1)].clone(), effects),
        (DevicePhase::Blocked, vec![Effect::Withdraw(device(1)), Effect::Publish])
    );
}

#[test]
fn where_a_proof_is_asked_the_word_of_a_device_is_not_success() {
    let (s, _) = step(&rollout(), start(&[1])).unwrap();
    let idle = |proof| {
        let Event::Reported { device, running, update, heard, .. } = report(1, "kiosk@2", U::Idle)
        else {
            unreachable!()
        };
        Event::Reported {
            device,
            running,
            update,
            heard,
            eligibility: Eligibility { may_update: true, proof },
        }
    };
    let of = |release: &str| Proof::Of(release.parse().unwrap());
    for proof in [Proof::Missing, of("kiosk@1"), of("kiosk@2"), Proof::AttestationFailed] {
        let (proving, effects) = step(&s, idle(proof)).unwrap();
        assert_eq!(proving.devices[&device(1)], DevicePhase::Proving);
        assert_eq!(effects, vec![Effect::Challenge(device(1)), Effect::Publish]);
        assert_eq!(step(&proving, appraised(1, true, Proof::Missing)).unwrap().1, vec![]);
        assert_eq!(step(&proving, appraised(1, true, of("kiosk@1"))).unwrap().1, vec![]);
        assert_eq!(
            step(&proving, appraised(1, true, of("kiosk@2"))).unwrap().0.phase,
            Phase::Succeeded
        );
        let (wrong, effects) =
            step(&proving, appraised(1, false, Proof::AttestationFailed)).unwrap();
        assert_eq!(
            (wrong.phase, effects),
            (Phase::Failed, vec![Effect::Withdraw(device(1)), Effect::Publish])
        );
    }
}

#[test]
fn devices_of_an_outage_are_counted_as_neither_success_nor_failure() {
    let (s, _) = step(&rollout(), start(&[1, 2, 3, 4])).unwrap();
    let unconfirmed =
        U::Unconfirmed { target: two(), trials: 0, contact: update::Contact::Waiting };
    let (s, _) = step(&s, report(1, "kiosk@1", unconfirmed)).unwrap();
    let (s, _) = step(&s, report(2, "kiosk@2", U::Idle)).unwrap();
    let (s, _) = step(&s, report(3, "kiosk@1", U::Armed { target: two() })).unwrap();
    assert_eq!(s.counts(), Counts { total: 4, succeeded: 1, failed: 0, moving: 1, unconfirmed: 1 });
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
            Proof::NotAsked, Proof::Missing, Proof::AttestationFailed, Proof::Of("kiosk@1".parse().unwrap()), Proof::Of("kiosk@2".parse().unwrap()),
        ];
        let mut s = step(&rollout(), start(&[0, 1, 2])).unwrap().0;
        for (n, u, newer, p) in picks {
            let event = match (n, proofs.get(p)) {
                (3, None) => Event::Abort,
                (3, Some(proof)) => appraised(u8::try_from(u % 3).unwrap(), newer, proof.clone()),
                (n, proof) => {
                    let reported = report(n, if newer { "kiosk@2" } else { "kiosk@1" }, updates()[u].clone());
                    let Event::Reported { device, running, update, heard, eligibility } = reported else { unreachable!() };
                    let proof = proof.cloned().unwrap_or(eligibility.proof);
                    Event::Reported { device, running, update, heard, eligibility: Eligibility { may_update: true, proof } }
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
