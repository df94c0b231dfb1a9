use super::*;
use crate::windows::May;
use proptest::prelude::*;

fn v(s: &str) -> Version {
    s.parse().unwrap()
}

fn states() -> Vec<State> {
    vec![
        State::Idle,
        State::Staging { target: v("2"), attempt: 1 },
        State::Staging { target: v("2"), attempt: STAGE_ATTEMPTS_MAX },
        State::Staged { target: v("2"), arm_attempts: 0 },
        State::Staged { target: v("2"), arm_attempts: ARM_ATTEMPTS_MAX - 1 },
        State::Armed { target: v("2") },
        State::Trying { target: v("2") },
        State::Unconfirmed { target: v("2"), trials: 0, contact: Contact::Waiting },
        State::Unconfirmed { target: v("2"), trials: UNREACHED_MAX - 1, contact: Contact::Waiting },
        State::Unconfirmed { target: v("2"), trials: UNREACHED_MAX - 1, contact: Contact::Silent },
        State::Unconfirmed { target: v("2"), trials: 1, contact: Contact::Reached },
        State::RolledBack {
            target: v("2"),
            reason: RollbackReason::Health { evidence: "x".into() },
        },
        State::Failed { target: v("2"), code: FailureCode::StageFailed },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Desired(v("2")),
        Event::Desired(v("3")),
        Event::Desired(v("1")),
        Event::Desired(v("0")),
        Event::DesiredBack(v("2")),
        Event::DesiredBack(v("1")),
        Event::DesiredBack(v("0")),
        Event::Refused(v("2"), FailureCode::WrongImage),
        Event::Resumed,
        Event::Opened,
        Event::StageSucceeded,
        Event::StageFailed(FailureCode::Unreachable),
        Event::StageFailed(FailureCode::ManifestUntrusted),
        Event::MayActivate,
        Event::ArmSucceeded,
        Event::ArmFailed,
        Event::Booted(None),
        Event::Booted(Some(RollbackReason::Verity { evidence: "e".into() })),
        Event::Booted(Some(RollbackReason::ServerUnreachable { evidence: "e".into() })),
        Event::HealthConfirmed,
        Event::ServerReached,
        Event::ServerSilent,
        Event::Forgiven(v("2")),
    ]
}

/// ARCHITECTURE.md shows this table as its diagram, so the diagram cannot drift.
#[test]
fn the_transition_table_is_the_diagram() {
    let (one, rolled_back) = (v("1"), vec![]);
    let ctx =
        Context { running: &one, floor: &one, rolled_back: &rolled_back, trials: 0, may: May::ALL };
    let mut table = String::from("running version 1, floor 1\n");
    for state in states() {
        for event in events() {
            let line = match step(&state, event.clone(), &ctx) {
                Ok((next, effects)) if next == state && effects.is_empty() => {
                    "unchanged".to_owned()
                }
                Ok((next, effects)) => format!("{next:?} {effects:?}"),
                Err(_) => "rejected".to_owned(),
            };
            table.push_str(&format!("{state:?} + {event:?} -> {line}\n"));
        }
    }
    insta::assert_snapshot!(table.replace("Version(\"", "").replace("\")", ""));
}

fn any_event() -> impl Strategy<Value = Event> {
    let version = (0u8..5).prop_map(|n| v(&n.to_string()));
    let reason = prop_oneof![
        Just(None),
        Just(Some(RollbackReason::Verity { evidence: "e".into() })),
        Just(Some(RollbackReason::Health { evidence: "e".into() })),
        Just(Some(RollbackReason::ServerUnreachable { evidence: "e".into() })),
    ];
    prop_oneof![
        version.clone().prop_map(Event::Desired),
        version.clone().prop_map(Event::DesiredBack),
        Just(Event::Resumed),
        Just(Event::Opened),
        Just(Event::StageSucceeded),
        prop_oneof![
            Just(FailureCode::Unreachable),
            Just(FailureCode::StageFailed),
            Just(FailureCode::ManifestUntrusted)
        ]
        .prop_map(Event::StageFailed),
        Just(Event::MayActivate),
        Just(Event::ArmSucceeded),
        Just(Event::ArmFailed),
        reason.prop_map(Event::Booted),
        Just(Event::HealthConfirmed),
        Just(Event::ServerReached),
        Just(Event::ServerSilent),
        version.prop_map(Event::Forgiven),
    ]
}

fn any_may() -> impl Strategy<Value = May> {
    any::<(bool, bool, bool)>().prop_map(|(download, install, reboot)| May {
        download,
        install,
        reboot,
    })
}

proptest! {
    /// For any sequence of events and windows: nothing begins whose window is closed. What waits
    /// goes on when every window is open, whatever happened before.
    #[test]
    fn nothing_begins_outside_its_window(
        events in prop::collection::vec((any_event(), any_may()), 0..80)
    ) {
        let (running, floor) = (v("1"), v("1"));
        let mut state = State::Idle;
        for (event, may) in events {
            let ctx = Context { running: &running, floor: &floor, rolled_back: &[], trials: 0, may };
            let Ok((next, effects)) = step(&state, event, &ctx) else { continue };
            for effect in effects {
                match effect {
                    Effect::Stage(_) => prop_assert!(may.download),
                    Effect::Arm(_) => prop_assert!(may.install),
                    Effect::Reboot => prop_assert!(may.reboot),
                    Effect::Report => {}
                }
            }
            if !may.download {
                let is_new = next.name() == "staging" && state.name() != "staging";
                prop_assert!(!is_new, "{state:?} -> {next:?}");
            }
            state = next;
        }
        let ctx = Context {
            running: &running, floor: &floor, rolled_back: &[], trials: 0, may: May::ALL,
        };
        let effects = |event| step(&state, event, &ctx).map(|(_, effects)| effects).unwrap_or_default();
        match &state {
            State::Staging { target, .. } => {
                prop_assert_eq!(effects(Event::Opened), [Effect::Stage(target.clone())]);
            }
            State::Staged { target, .. } => {
                prop_assert_eq!(effects(Event::MayActivate), [Effect::Arm(target.clone())]);
            }
            State::Armed { .. } => prop_assert_eq!(effects(Event::Opened), [Effect::Reboot]),
            _ => {}
        }
    }

    #[test]
    fn the_running_slot_and_a_rolled_back_version_are_never_targets(
        events in prop::collection::vec(any_event(), 0..60)
    ) {
        let (running, floor, rolled_back) = (v("2"), v("1"), vec![v("4")]);
        let ctx = Context { running: &running, floor: &floor, rolled_back: &rolled_back, trials: 0, may: May::ALL };
        let (mut state, mut backs) = (State::Idle, Vec::new());
        for event in events {
            if let Event::DesiredBack(version) = &event { backs.push(version.clone()); }
            let Ok((next, effects)) = step(&state, event, &ctx) else { continue };
            for effect in &effects {
                if let Effect::Stage(t) | Effect::Arm(t) = effect {
                    prop_assert!(*t != running && *t >= floor, "{t} is running or too old");
                    prop_assert!(!rolled_back.contains(t), "{t} was rolled back here");
                    prop_assert_eq!(Some(t), next.target());
                }
                if let Effect::Stage(t) = effect {
                    prop_assert!(*t > running, "{t} is not newer than the running version");
                }
                if let Effect::Arm(t) = effect {
                    prop_assert!(*t > running || backs.contains(t), "nobody asked to go back to {t}");
                }
                if *effect == Effect::Reboot {
                    let armed = matches!(next, State::Armed { .. });
                    prop_assert!(armed);
                }
            }
            match &next {
                State::Staging { attempt, .. } => prop_assert!(*attempt <= STAGE_ATTEMPTS_MAX),
                State::Staged { arm_attempts, .. } => prop_assert!(*arm_attempts < ARM_ATTEMPTS_MAX),
                _ => {}
            }
            state = next;
        }
    }

    /// For any sequence of events: while the previous version does not reach the server either, no
    /// version is rolled back.
    #[test]
    fn an_outage_never_rolls_back(events in prop::collection::vec(any_event(), 0..120)) {
        let (running, floor) = (v("1"), v("1"));
        let mut state = State::Idle;
        let mut trials: u8 = 0;
        for event in events {
            // Each trial ends without the server, and so does the time of the previous version.
            let event = match event {
                Event::Booted(_) => Event::Booted(Some(RollbackReason::ServerUnreachable { evidence: "e".into() })),
                Event::ServerReached if matches!(state, State::Unconfirmed { contact: Contact::Waiting, .. }) => Event::ServerSilent,
                other => other,
            };
            let ctx = Context { running: &running, floor: &floor, rolled_back: &[], trials, may: May::ALL };
            let Ok((next, _)) = step(&state, event, &ctx) else { continue };
            prop_assert!(!matches!(next, State::RolledBack { .. }), "{state:?} -> {next:?}");
            if let State::Unconfirmed { trials: counted, .. } = &next {
                trials = *counted;
            }
            state = next;
        }
        prop_assert_eq!(trials, 0);
    }

    #[test]
    fn a_replayed_desired_is_harmless(events in prop::collection::vec(any_event(), 0..40), n in 0u8..5) {
        let (running, floor) = (v("1"), v("1"));
        let ctx = Context { running: &running, floor: &floor, rolled_back: &[], trials: 0, may: May::ALL };
        let mut state = State::Idle;
        for event in events {
            if let Ok((next, _)) = step(&state, event, &ctx) { state = next; }
        }
        let desired = || Event::Desired(v(&n.to_string()));
        if let Ok((once, _)) = step(&state, desired(), &ctx) {
            let (twice, effects) = step(&once, desired(), &ctx).unwrap();
            let retries = matches!(once, State::Failed { code, .. } if code.is_retryable());
            prop_assert!(retries || once == twice || effects == [Effect::Report], "{once:?} {twice:?} {effects:?}");
        }
    }
}

#[test]
fn a_device_goes_back_only_to_a_version_that_it_may_run_and_when_it_is_told_to() {
    let (running, floor) = (v("3"), v("2"));
    let ctx =
        Context { running: &running, floor: &floor, rolled_back: &[], trials: 0, may: May::ALL };
    let on = |event| step(&State::Idle, event, &ctx).unwrap().0;
    let failed = |n: &str, code| State::Failed { target: v(n), code };
    assert_eq!(on(Event::Desired(v("2"))), failed("2", FailureCode::TooOld));
    let staged = State::Staged { target: v("2"), arm_attempts: 0 };
    assert_eq!(on(Event::DesiredBack(v("2"))), staged);
    let too_old = failed("2", FailureCode::TooOld);
    assert_eq!(step(&too_old, Event::DesiredBack(v("2")), &ctx).unwrap().0, staged);
    assert_eq!(on(Event::DesiredBack(v("1"))), failed("1", FailureCode::TooOld));
    assert_eq!(on(Event::DesiredBack(v("3"))), State::Idle);
    // A device that missed the newer release gets the older one as any other.
    assert_eq!(on(Event::DesiredBack(v("4"))), State::Staging { target: v("4"), attempt: 1 });
    let armed = step(&staged, Event::ArmSucceeded, &ctx).unwrap();
    assert_eq!(armed, (State::Armed { target: v("2") }, vec![Effect::Report, Effect::Reboot]));
    let two = v("2");
    let back = Context { running: &two, ..ctx.clone() };
    let tried = step(&armed.0, Event::Booted(None), &back).unwrap().0;
    assert_eq!(step(&tried, Event::HealthConfirmed, &back).unwrap().0, State::Idle);
    let known = Context { rolled_back: &[v("2")], ..ctx.clone() };
    let refused = step(&State::Idle, Event::DesiredBack(v("2")), &known).unwrap().0;
    assert_eq!(refused, failed("2", FailureCode::RolledBackBefore));
}

#[test]
fn a_rolled_back_version_is_offered_again_only_after_an_operators_word() {
    let (running, floor) = (v("1"), v("1"));
    let ctx =
        Context { running: &running, floor: &floor, rolled_back: &[], trials: 0, may: May::ALL };
    let state = State::RolledBack {
        target: v("2"),
        reason: RollbackReason::Verity { evidence: String::new() },
    };
    assert_eq!(
        step(&state, Event::Desired(v("2")), &ctx).unwrap(),
        (state.clone(), vec![Effect::Report])
    );
    let known = Context { rolled_back: &[v("2")], ..ctx.clone() };
    let (failed, _) = step(&State::Idle, Event::Desired(v("2")), &known).unwrap();
    assert_eq!(failed, State::Failed { target: v("2"), code: FailureCode::RolledBackBefore });
    let (idle, _) = step(&state, Event::Forgiven(v("2")), &ctx).unwrap();
    let (next, _) = step(&idle, Event::Desired(v("2")), &ctx).unwrap();
    assert_eq!(next, State::Staging { target: v("2"), attempt: 1 });
}

#[test]
fn a_power_cut_between_arming_and_keeping_that_is_made_good_at_the_next_boot() {
    let staged = State::Staged { target: v("2"), arm_attempts: 0 };
    let (one, two) = (v("1"), v("2"));
    let on = |running| Context { running, floor: &one, rolled_back: &[], trials: 0, may: May::ALL };
    assert_eq!(
        step(&staged, Event::Booted(None), &on(&two)).unwrap().0,
        State::Trying { target: v("2") }
    );
    let reason = RollbackReason::Health { evidence: "x".into() };
    let fell_back = step(&staged, Event::Booted(Some(reason.clone())), &on(&one)).unwrap().0;
    assert_eq!(fell_back, State::RolledBack { target: v("2"), reason });
    assert_eq!(step(&staged, Event::Booted(None), &on(&one)).unwrap().0, staged);
}

/// Runs a trial that does not reach the server, as the driver counts it. Then the previous version
/// reaches it, or does not in time.
fn trial(state: &State, trials: &mut u8, is_outage: bool) -> State {
    let one = v("1");
    let on =
        |trials| Context { running: &one, floor: &one, rolled_back: &[], trials, may: May::ALL };
    let mut state = step(state, Event::Desired(v("2")), &on(*trials)).unwrap().0;
    let reason = RollbackReason::ServerUnreachable { evidence: "e".into() };
    for event in [Event::StageSucceeded, Event::ArmSucceeded, Event::Booted(Some(reason))] {
        state = step(&state, event, &on(*trials)).unwrap().0;
    }
    // Until the server is reached, its desired version changes nothing.
    assert_eq!(step(&state, Event::Desired(v("2")), &on(*trials)).unwrap().0, state);
    let events = if is_outage {
        vec![Event::ServerSilent, Event::ServerReached]
    } else {
        vec![Event::ServerReached]
    };
    for event in events {
        state = step(&state, event, &on(*trials)).unwrap().0;
    }
    if let State::Unconfirmed { trials: counted, .. } = &state {
        *trials = *counted;
    }
    state
}

#[test]
fn a_version_that_never_reaches_the_server_is_rolled_back_after_three_trials_and_outages_do_not_count()
 {
    let (mut state, mut trials) = (State::Idle, 0);
    for _ in 0..10 {
        state = trial(&state, &mut trials, true);
        assert_eq!(
            state,
            State::Unconfirmed { target: v("2"), trials: 0, contact: Contact::Reached }
        );
    }
    for n in 1..UNREACHED_MAX {
        state = trial(&state, &mut trials, false);
        assert_eq!(
            state,
            State::Unconfirmed { target: v("2"), trials: n, contact: Contact::Reached }
        );
        // The server comes and goes: the trial was counted already.
        let one = v("1");
        let ctx = Context { running: &one, floor: &one, rolled_back: &[], trials, may: May::ALL };
        assert_eq!(step(&state, Event::ServerReached, &ctx).unwrap().0, state);
    }
    state = trial(&state, &mut trials, false);
    assert!(
        matches!(state, State::RolledBack { reason: RollbackReason::ServerUnreachable { .. }, .. }),
        "{state:?}"
    );
}

#[test]
fn an_update_waits_for_each_window_in_turn_also_across_reboots() {
    let (one, target) = (v("1"), v("2"));
    let closed = May { download: false, install: false, reboot: false };
    let on = |state: &State, event, may| {
        let ctx = Context { running: &one, floor: &one, rolled_back: &[], trials: 0, may };
        step(state, event, &ctx).unwrap()
    };
    let desired = || Event::Desired(v("2"));
    assert_eq!(on(&State::Idle, desired(), closed), (State::Idle, vec![]));
    let download = May { download: true, ..closed };
    let (staging, effects) = on(&State::Idle, desired(), download);
    assert_eq!(effects, [Effect::Report, Effect::Stage(target.clone())]);
    // A power cut, or a failure, outside the window: it goes on when the window opens.
    assert_eq!(on(&staging, Event::Booted(None), closed), (staging.clone(), vec![Effect::Report]));
    let (again, effects) = on(&staging, Event::StageFailed(FailureCode::Unreachable), closed);
    assert_eq!(effects, [Effect::Report]);
    assert_eq!(on(&again, Event::Opened, download).1, [Effect::Stage(target.clone())]);
    // A download that began in its window ends outside.
    let (staged, _) = on(&staging, Event::StageSucceeded, closed);
    assert_eq!(on(&staged, Event::MayActivate, closed), (staged.clone(), vec![]));
    let install = May { install: true, ..closed };
    assert_eq!(on(&staged, Event::MayActivate, install).1, [Effect::Arm(target.clone())]);
    let (armed, effects) = on(&staged, Event::ArmSucceeded, install);
    assert_eq!(effects, [Effect::Report]);
    for event in [Event::Resumed, Event::Opened] {
        assert!(!on(&armed, event, install).1.contains(&Effect::Reboot));
    }
    assert_eq!(on(&armed, Event::Opened, May { reboot: true, ..closed }).1, [Effect::Reboot]);
}
