use super::*;
use crate::rollout::plan::Plan;
use crate::rollout::{Category, Limits};
use update::State as U;

fn release() -> ReleaseName {
    "kiosk@2".parse().unwrap()
}

fn at(now_s: u64, act: impl FnOnce(&Ctx<'_>)) {
    let (release, limits) = (release(), Limits::default());
    let plan = &Plan::of(Vec::new());
    act(&Ctx {
        now_s,
        release: &release,
        limits,
        plan: Some(plan),
        is_urgent: false,
        may_offer: true,
        room: Room::Free,
    });
}

fn usual() -> Eligibility {
    Eligibility {
        may_update: true,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::NotAsked,
    }
}

fn report(running: &str, update: U) -> Reported {
    Reported {
        running: running.parse().unwrap(),
        update,
        received_offer: true,
        eligibility: usual(),
    }
}

fn two() -> crate::id::Version {
    "2".parse().unwrap()
}

fn failed() -> U {
    U::Failed { target: two(), code: update::FailureCode::Unreachable }
}

fn updates() -> Vec<U> {
    vec![
        U::Idle,
        U::Staging { target: two(), attempt: 1 },
        U::Staged { target: two(), arm_attempts: 0 },
        U::Armed { target: two() },
        U::Trying { target: two() },
        U::Unconfirmed { target: two(), trials: 0, contact: update::Contact::Waiting },
        U::RolledBack {
            target: two(),
            reason: update::RollbackReason::Health { evidence: "x".into() },
        },
        failed(),
    ]
}

fn phases() -> Vec<DevicePhase> {
    vec![
        DevicePhase::Pending,
        DevicePhase::Blocked,
        DevicePhase::Held,
        DevicePhase::Offered,
        DevicePhase::Unreached,
        DevicePhase::Silent,
        DevicePhase::Queued,
        DevicePhase::Retrying { code: update::FailureCode::StageFailed, until_s: 9 },
        DevicePhase::Staging,
        DevicePhase::Staged,
        DevicePhase::Rebooting,
        DevicePhase::Trying,
        DevicePhase::Unconfirmed,
        DevicePhase::Proving,
        DevicePhase::Succeeded,
        DevicePhase::AttestationFailed,
        DevicePhase::RolledBack { reason: update::RollbackReason::Health { evidence: "x".into() } },
        DevicePhase::Revoked,
        DevicePhase::Failed { code: update::FailureCode::StageFailed },
    ]
}

fn in_phase(phase: DevicePhase) -> Device {
    Device::new(phase, 1, None)
}

/// The second wave takes it.
fn open(eligibility: &Eligibility) -> Event {
    Event::Opened { wave: Some(1), eligibility: eligibility.clone() }
}

/// Applies an event at second 2; the new phase and the effects.
fn after(phase: DevicePhase, event: Event) -> (DevicePhase, Vec<Effect>) {
    let mut found = None;
    at(2, |ctx| found = Some(step(&in_phase(phase), event, ctx).unwrap()));
    let (device, effects) = found.unwrap();
    (device.phase, effects)
}

fn all_events() -> Vec<(String, Event)> {
    let mut events = vec![
        ("revoked".to_owned(), Event::Revoked),
        ("aborted".to_owned(), Event::Aborted),
        ("paused".to_owned(), Event::Paused),
        ("freed".to_owned(), Event::Freed),
    ];
    let proofs = [
        ("not asked", Proof::NotAsked),
        ("kiosk@1", Proof::Of("kiosk@1".parse().unwrap())),
        ("kiosk@2", Proof::Of(release())),
        ("missing", Proof::Missing),
        ("attestation failed", Proof::AttestationFailed),
    ];
    for (may_update, is_held, may) in
        [(true, false, "may update"), (false, false, "may not update"), (false, true, "is held")]
    {
        for (name, proof) in &proofs {
            let eligibility =
                Eligibility { may_update, is_held, again_s: None, via: None, proof: proof.clone() };
            events.push((format!("opened: {may}, proof {name}"), open(&eligibility)));
            events.push((
                format!("appraised: {may}, proof {name}"),
                Event::Appraised(eligibility.clone()),
            ));
            for (running, update) in ["kiosk@1", "kiosk@2"]
                .into_iter()
                .flat_map(|running| updates().into_iter().map(move |u| (running, u)))
            {
                let name = format!("reported {} on {running}: {may}, proof {name}", update.name());
                let told = Reported { eligibility: eligibility.clone(), ..report(running, update) };
                events.push((name, Event::Reported(told)));
            }
        }
    }
    events
}

/// The diagram: for each phase, what every event leads to. Events that change nothing are left out.
#[test]
fn the_transition_table_of_a_device_is_the_diagram() {
    let mut table = String::new();
    for phase in phases() {
        let before = in_phase(phase.clone());
        for (name, event) in all_events() {
            // The proof is of no effect on most reports: two kinds show it.
            let is_shown = !name.starts_with("reported")
                || name.ends_with("proof not asked")
                || (name.ends_with("proof missing") && name.contains("idle on kiosk@2"));
            if !is_shown {
                continue;
            }
            at(2, |ctx| match step(&before, event, ctx) {
                Ok((next, effects)) if next == before && effects.is_empty() => {}
                Ok((next, effects)) => table.push_str(&format!(
                    "{} + {name} -> {} {effects:?}\n",
                    phase.name(),
                    next.phase.name()
                )),
                Err(Rejected::Finished { .. }) => assert!(phase.is_finished()),
            });
        }
        if phase.is_finished() {
            table.push_str(&format!("{} + anything -> rejected\n", phase.name()));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_second_event_of_the_same_kind_changes_nothing_and_finished_devices_stay_finished() {
    for phase in phases() {
        for (name, event) in all_events() {
            at(2, |ctx| match step(&in_phase(phase.clone()), event.clone(), ctx) {
                Err(Rejected::Finished { .. }) => assert!(phase.is_finished(), "{name}"),
                Ok((next, _)) => {
                    assert!(!phase.is_finished(), "{name}");
                    // A report of a device that is back is as that of one that joins.
                    let is_back = matches!(
                        phase,
                        DevicePhase::Unreached | DevicePhase::Silent | DevicePhase::Held
                    );
                    if is_back && matches!(next.phase, DevicePhase::Offered | DevicePhase::Blocked)
                    {
                        return;
                    }
                    match step(&next, event.clone(), ctx) {
                        Ok((again, effects)) => {
                            assert_eq!(again, next, "{phase:?} + {name}");
                            let has_offer = !is_without_offer(&next.phase);
                            let repeated = if event == Event::Aborted && has_offer {
                                vec![Effect::Withdraw]
                            } else {
                                Vec::new()
                            };
                            assert_eq!(effects, repeated, "{phase:?} + {name}");
                        }
                        Err(Rejected::Finished { .. }) => assert!(next.phase.is_finished()),
                    }
                }
            });
        }
    }
}

#[test]
fn a_phase_says_since_when_it_lasts() {
    at(7, |ctx| {
        let (device, _) = join(&usual(), ctx);
        let (device, _) = step(&device, open(&usual()), ctx).unwrap();
        assert_eq!(device, Device::new(DevicePhase::Offered, 7, Some(1)));
        let staging = report("kiosk@1", U::Staging { target: two(), attempt: 1 });
        at(9, |ctx| {
            let (device, _) = step(&device, Event::Reported(staging.clone()), ctx).unwrap();
            assert_eq!((device.phase.name(), device.since_s), ("staging", 9));
            at(11, |ctx| {
                let (again, _) = step(&device, Event::Reported(staging.clone()), ctx).unwrap();
                assert_eq!(again.since_s, 9);
            });
        });
    });
}

#[test]
fn an_old_failure_that_is_reported_again_does_not_end_a_new_rollout() {
    let old = Reported { received_offer: false, ..report("kiosk@1", failed()) };
    assert_eq!(
        after(DevicePhase::Offered, Event::Reported(old)),
        (DevicePhase::Offered, Vec::new())
    );
    let (phase, effects) =
        after(DevicePhase::Offered, Event::Reported(report("kiosk@1", failed())));
    assert_eq!((phase.name(), effects), ("failed", vec![Effect::Withdraw, Effect::Publish]));
}

#[test]
fn a_device_below_the_minimum_level_is_blocked_until_it_reaches_it() {
    let below = Eligibility {
        may_update: false,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::Missing,
    };
    at(1, |ctx| {
        let (device, _) = join(&below, ctx);
        let (device, effects) = step(&device, open(&below), ctx).unwrap();
        // It is challenged, so that it may prove itself.
        assert_eq!((device.phase, effects), (DevicePhase::Blocked, vec![Effect::Challenge]));
    });
    // A device that continues by itself still has no offer.
    let staging = U::Staging { target: two(), attempt: 1 };
    let continues = Event::Reported(report("kiosk@1", staging.clone()));
    assert_eq!(after(DevicePhase::Blocked, continues), (DevicePhase::Blocked, Vec::new()));
    assert_eq!(
        after(DevicePhase::Blocked, Event::Appraised(below.clone())),
        (DevicePhase::Blocked, Vec::new())
    );
    let reached = Eligibility {
        may_update: true,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::Missing,
    };
    assert_eq!(
        after(DevicePhase::Blocked, Event::Appraised(reached)),
        (DevicePhase::Offered, vec![Effect::Offer, Effect::Publish])
    );
    let attestation_failed = Eligibility {
        may_update: false,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::AttestationFailed,
    };
    for phase in [DevicePhase::Offered, DevicePhase::Staging, DevicePhase::Staged] {
        assert_eq!(
            after(phase, Event::Appraised(attestation_failed.clone())),
            (DevicePhase::Blocked, vec![Effect::Withdraw, Effect::Publish])
        );
    }
    // The server no longer serves the download, so it fails.
    assert_eq!(
        after(DevicePhase::Blocked, Event::Reported(report("kiosk@1", failed()))),
        (DevicePhase::Blocked, Vec::new())
    );
    // After the device reboots into the release, the offer cannot be withdrawn.
    assert_eq!(
        after(DevicePhase::Rebooting, Event::Appraised(attestation_failed)),
        (DevicePhase::Rebooting, Vec::new())
    );
}

#[test]
fn a_device_whose_level_has_expired_is_blocked_and_does_not_fail() {
    let expired = Eligibility {
        may_update: false,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::Missing,
    };
    let told = Reported { eligibility: expired, ..report("kiosk@1", failed()) };
    assert_eq!(
        after(DevicePhase::Staging, Event::Reported(told)),
        (DevicePhase::Blocked, vec![Effect::Withdraw, Effect::Publish])
    );
}

#[test]
fn where_a_proof_is_required_a_report_alone_is_no_success() {
    let of = |release: &str| Proof::Of(release.parse().unwrap());
    let may =
        |proof| Eligibility { may_update: true, is_held: false, again_s: None, via: None, proof };
    for proof in [Proof::Missing, of("kiosk@1"), of("kiosk@2"), Proof::AttestationFailed] {
        let idle = Reported { eligibility: may(proof), ..report("kiosk@2", U::Idle) };
        assert_eq!(
            after(DevicePhase::Offered, Event::Reported(idle)),
            (DevicePhase::Proving, vec![Effect::Challenge, Effect::Publish])
        );
    }
    let appraised = |proof| after(DevicePhase::Proving, Event::Appraised(may(proof)));
    assert_eq!(appraised(Proof::Missing), (DevicePhase::Proving, Vec::new()));
    assert_eq!(appraised(of("kiosk@1")), (DevicePhase::Proving, Vec::new()));
    assert_eq!(appraised(of("kiosk@2")), (DevicePhase::Succeeded, vec![Effect::Publish]));
    assert_eq!(
        appraised(Proof::AttestationFailed),
        (DevicePhase::AttestationFailed, vec![Effect::Withdraw, Effect::Publish])
    );
}

#[test]
fn a_device_of_an_outage_is_neither_success_nor_failure() {
    let unconfirmed =
        U::Unconfirmed { target: two(), trials: 0, contact: update::Contact::Waiting };
    let (phase, _) = after(DevicePhase::Trying, Event::Reported(report("kiosk@1", unconfirmed)));
    assert_eq!((phase.category(), phase.is_finished()), (Category::Unconfirmed, false));
}

#[test]
fn the_name_of_a_phase_is_that_of_its_json_and_its_category_says_whether_it_is_finished() {
    for phase in phases() {
        let json = serde_json::to_value(&phase).unwrap();
        assert_eq!(json["type"], phase.name());
        let is_over = matches!(phase.category(), Category::Failed | Category::Succeeded);
        // A silent device is an error until it returns.
        let is_over = is_over && phase != DevicePhase::Silent;
        assert_eq!(phase.is_finished(), is_over, "{phase:?}");
    }
}

#[test]
fn a_device_without_a_plan_is_offered_the_release_when_it_joins() {
    let (release, limits) = (release(), Limits::default());
    let ctx = Ctx {
        now_s: 7,
        release: &release,
        limits,
        plan: None,
        is_urgent: false,
        may_offer: true,
        room: Room::Free,
    };
    let (device, effects) = join(&usual(), &ctx);
    assert_eq!(device, Device::new(DevicePhase::Offered, 7, None));
    assert_eq!(effects, [Effect::Offer, Effect::Challenge]);
    // It enrolls while the rollout is paused.
    let (device, effects) = join(&usual(), &Ctx { may_offer: false, ..ctx });
    assert_eq!((device.phase, effects), (DevicePhase::Pending, Vec::new()));
    // Nothing is ever silent there.
    let staging = in_phase(DevicePhase::Staging);
    let (after, _) =
        step(&staging, Event::Checked { seen_s: 0 }, &Ctx { now_s: 9_000_000_000, ..ctx }).unwrap();
    assert_eq!(after, staging);
}

#[test]
fn only_a_device_that_has_started_is_an_error_when_it_falls_silent() {
    let checked = |phase: DevicePhase, seen_s, now_s| {
        let mut found = None;
        at(now_s, |ctx| {
            let (device, effects) = step(&in_phase(phase), Event::Checked { seen_s }, ctx).unwrap();
            found = Some((device.phase, effects));
        });
        found.unwrap()
    };
    let withdrawn = |phase| (phase, vec![Effect::Withdraw, Effect::Publish]);
    // 900 s and 3,600 s; the phase began at second 1.
    assert_eq!(checked(DevicePhase::Offered, 0, 900), (DevicePhase::Offered, Vec::new()));
    assert_eq!(checked(DevicePhase::Offered, 0, 901), withdrawn(DevicePhase::Unreached));
    assert_eq!(checked(DevicePhase::Offered, 500, 1399), (DevicePhase::Offered, Vec::new()));
    assert_eq!(checked(DevicePhase::Blocked, 900, 901), withdrawn(DevicePhase::Unreached));
    assert_eq!(checked(DevicePhase::Staging, 0, 3600), (DevicePhase::Staging, Vec::new()));
    assert_eq!(checked(DevicePhase::Rebooting, 0, 3601), withdrawn(DevicePhase::Silent));
    assert_eq!(checked(DevicePhase::Trying, 100, 3601), (DevicePhase::Trying, Vec::new()));
    assert_eq!(checked(DevicePhase::Proving, 3600, 3601), withdrawn(DevicePhase::Silent));
    assert_eq!(DevicePhase::Unreached.category(), Category::Unreached);
    assert_eq!(DevicePhase::Silent.category(), Category::Failed);
}

/// It was rolled back in an earlier rollout of the same release.
#[test]
fn a_device_that_no_wave_has_taken_cannot_fail() {
    let target = two();
    let reason = update::RollbackReason::Health { evidence: "x".into() };
    let old = Event::Reported(report("kiosk@1", U::RolledBack { target, reason }));
    assert_eq!(after(DevicePhase::Pending, old.clone()), (DevicePhase::Pending, Vec::new()));
    at(2, |ctx| {
        let taken = Device { wave: Some(0), ..in_phase(DevicePhase::Pending) };
        let (device, _) = step(&taken, old, ctx).unwrap();
        assert_eq!(device.phase.name(), "rolled_back");
    });
}

#[test]
fn a_device_that_returns_is_offered_the_release_when_there_is_a_place() {
    let idle = || Event::Reported(report("kiosk@1", U::Idle));
    for phase in [DevicePhase::Unreached, DevicePhase::Silent] {
        assert_eq!(
            after(phase.clone(), idle()),
            (DevicePhase::Offered, vec![Effect::Offer, Effect::Publish])
        );
        at(2, |ctx| {
            let full = Ctx { may_offer: false, ..*ctx };
            let (device, effects) = step(&in_phase(phase.clone()), idle(), &full).unwrap();
            assert_eq!(device.phase, DevicePhase::Pending);
            assert!(!effects.contains(&Effect::Offer));
        });
        // Commit succeeded, the report got lost: only the report is repeated.
        let done = Event::Reported(report("kiosk@2", U::Idle));
        assert_eq!(after(phase, done), (DevicePhase::Succeeded, vec![Effect::Publish]));
    }
}
