use super::*;
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
        State::RolledBack { target: v("2"), reason: RollbackReason::Health { evidence: "x".into() } },
        State::Failed { target: v("2"), code: FailureCode::StageFailed },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Desired(v("2")),
        Event::Desired(v("3")),
        Event::Desired(v("1")),
        Event::Desired(v("0")),
        Event::Refused(v("2"), FailureCode::WrongImage),
        Event::Resumed,
        Event::StageSucceeded,
        Event::StageFailed(FailureCode::Unreachable),
        Event::StageFailed(FailureCode::ManifestUntrusted),
        Event::MayActivate,
        Event::ArmSucceeded,
        Event::ArmFailed,
        Event::Booted(None),
        Event::Booted(Some(RollbackReason::Verity { evidence: "e".into() })),
        Event::HealthConfirmed,
        Event::Forgiven(v("2")),
    ]
}

/// The diagram in ARCHITECTURE.md is this table, so it cannot drift.
#[test]
fn the_transition_table_is_the_diagram() {
    let (one, rolled_back) = (v("1"), vec![]);
    let ctx = Context { running: &one, floor: &one, rolled_back: &rolled_back };
    let mut table = String::from("running version 1, floor 1\n");
    for state in states() {
        for event in events() {
            let line = match step(&state, event.clone(), &ctx) {
                Ok((next, effects)) if next == state && effects.is_empty() => "unchanged".to_owned(),
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
    ];
    prop_oneof![
        version.clone().prop_map(Event::Desired),
        Just(Event::Resumed),
        Just(Event::StageSucceeded),
        prop_oneof![Just(FailureCode::Unreachable), Just(FailureCode::StageFailed), Just(FailureCode::ManifestUntrusted)]
            .prop_map(Event::StageFailed),
        Just(Event::MayActivate),
        Just(Event::ArmSucceeded),
        Just(Event::ArmFailed),
        reason.prop_map(Event::Booted),
        Just(Event::HealthConfirmed),
        version.prop_map(Event::Forgiven),
    ]
}

proptest! {
    #[test]
    fn the_running_slot_and_a_rolled_back_version_are_never_targets(
        events in prop::collection::vec(any_event(), 0..60)
    ) {
        let (running, floor, rolled_back) = (v("1"), v("1"), vec![v("4")]);
        let ctx = Context { running: &running, floor: &floor, rolled_back: &rolled_back };
        let mut state = State::Idle;
        for event in events {
            let Ok((next, effects)) = step(&state, event, &ctx) else { continue };
            for effect in &effects {
                if let Effect::Stage(t) | Effect::Arm(t) = effect {
                    prop_assert!(*t > running && *t >= floor, "{t} is not newer than the running version");
                    prop_assert!(!rolled_back.contains(t), "{t} was rolled back here");
                    prop_assert_eq!(Some(t), next.target());
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

    #[test]
    fn a_replayed_wish_is_harmless(events in prop::collection::vec(any_event(), 0..40), n in 0u8..5) {
        let (running, floor) = (v("1"), v("1"));
        let ctx = Context { running: &running, floor: &floor, rolled_back: &[] };
        let mut state = State::Idle;
        for event in events {
            if let Ok((next, _)) = step(&state, event, &ctx) { state = next; }
        }
        let wish = || Event::Desired(v(&n.to_string()));
        if let Ok((once, _)) = step(&state, wish(), &ctx) {
            let (twice, effects) = step(&once, wish(), &ctx).unwrap();
            let retries = matches!(once, State::Failed { code, .. } if code.is_retryable());
            prop_assert!(retries || once == twice || effects == [Effect::Report], "{once:?} {twice:?} {effects:?}");
        }
    }
}

#[test]
fn a_rolled_back_version_is_offered_again_only_after_an_operators_word() {
    let (running, floor) = (v("1"), v("1"));
    let ctx = Context { running: &running, floor: &floor, rolled_back: &[] };
    let state = State::RolledBack { target: v("2"), reason: RollbackReason::Verity { evidence: String::new() } };
    assert_eq!(step(&state, Event::Desired(v("2")), &ctx).unwrap(), (state.clone(), vec![Effect::Report]));
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
    let on = |running| Context { running, floor: &one, rolled_back: &[] };
    assert_eq!(step(&staged, Event::Booted(None), &on(&two)).unwrap().0, State::Trying { target: v("2") });
    let reason = RollbackReason::Health { evidence: "x".into() };
    let fell_back = step(&staged, Event::Booted(Some(reason.clone())), &on(&one)).unwrap().0;
    assert_eq!(fell_back, State::RolledBack { target: v("2"), reason });
    assert_eq!(step(&staged, Event::Booted(None), &on(&one)).unwrap().0, staged);
}
