use super::*;
use proptest::prelude::*;

const NOW_S: u64 = 1000;
const LEASE_S: u64 = 60;

fn at(now_s: u64) -> Ctx {
    Ctx { now_s, lease_s: LEASE_S }
}

fn holder(worker: &str) -> Holder {
    Holder { worker: worker.into(), lease: format!("lease of {worker}") }
}

/// A running build; its lease ends at this second.
fn running(until_s: u64, attempt: u8) -> State {
    State::Running { holder: holder("one"), until_s, attempt }
}

fn succeeded(signing: Signing) -> State {
    State::Succeeded { files: Files::Kept, signing }
}

fn states() -> Vec<(&'static str, State)> {
    let signing = |until_s, attempt| succeeded(Signing::Running { until_s, attempt });
    let removed = |signing| State::Succeeded { files: Files::Removed, signing };
    vec![
        ("queued", State::Queued),
        ("running", running(NOW_S, 1)),
        ("running, lease ended", running(NOW_S - 1, 1)),
        ("running, last lease ended", running(NOW_S - 1, ATTEMPTS_MAX)),
        ("failed", State::Failed),
        ("succeeded", succeeded(Signing::NotRequested)),
        ("succeeded, files removed", removed(Signing::NotRequested)),
        ("signing queued", succeeded(Signing::Queued)),
        ("signing", signing(NOW_S, 1)),
        ("signing, lease ended", signing(NOW_S - 1, 1)),
        ("signing, last lease ended", signing(NOW_S - 1, SIGNING_ATTEMPTS_MAX)),
        ("signed", succeeded(Signing::Succeeded)),
        ("signed, files removed", removed(Signing::Succeeded)),
        ("signing failed", succeeded(Signing::Failed)),
        ("signing failed, files removed", removed(Signing::Failed)),
    ]
}

fn events() -> Vec<(String, Event)> {
    let mut events = Vec::new();
    for worker in ["one", "two"] {
        events.push((format!("worker {worker} claims"), Event::Claim(holder(worker))));
        events.push((format!("worker {worker} renews"), Event::Renew(holder(worker))));
        for outcome in [Outcome::Succeeded, Outcome::Failed] {
            let finish = Event::Finish { holder: holder(worker), outcome };
            events.push((format!("worker {worker} finishes, {outcome:?}"), finish));
        }
    }
    for attempt in [1, 2] {
        let name = format!("attempt {attempt} renews the signing lease");
        events.push((name, Event::RenewSigning { attempt }));
        for outcome in [Outcome::Succeeded, Outcome::Failed] {
            let finish = Event::FinishSigning { attempt, outcome };
            events.push((format!("attempt {attempt} ends signing, {outcome:?}"), finish));
        }
    }
    let rest = [
        ("give up", Event::GiveUp),
        ("request approvals", Event::RequestApprovals),
        ("approve, more are needed", Event::Approve(Approvals::TooFew)),
        ("approve, enough", Event::Approve(Approvals::Enough)),
        ("request signature", Event::RequestSignature),
        ("claim signing", Event::ClaimSigning),
        ("remove files", Event::RemoveFiles),
    ];
    events.extend(rest.map(|(name, event)| (name.to_owned(), event)));
    events
}

fn shown(state: &State) -> String {
    match state {
        State::Running { holder, until_s, attempt } => {
            format!("running by {}, attempt {attempt}, until {until_s}", holder.worker)
        }
        State::Succeeded { files, signing } => {
            let signing = match signing {
                Signing::Running { until_s, attempt } => {
                    format!("running, attempt {attempt}, until {until_s}")
                }
                Signing::NotRequested | Signing::Queued | Signing::Succeeded | Signing::Failed => {
                    signing.name().to_owned()
                }
            };
            format!("succeeded, files {files:?}, signing {signing}")
        }
        State::Queued | State::Failed => state.name().to_owned(),
    }
}

/// The diagram. Events that the state does not permit at all are left out: they are rejected.
#[test]
fn the_transition_table_of_a_build_is_the_diagram() {
    let mut table = format!("now {NOW_S}, lease {LEASE_S} s\n");
    for (before, state) in states() {
        for (name, event) in events() {
            let line = match step(&state, event, at(NOW_S)) {
                Ok((next, effects)) if next == state => format!("unchanged {effects:?}"),
                Ok((next, effects)) => format!("{} {effects:?}", shown(&next)),
                Err(Rejected::Phase { .. } | Rejected::Signing { .. }) => continue,
                Err(e) => format!("rejected: {e}"),
            };
            table.push_str(&format!("{before} + {name} -> {line}\n"));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_build_that_ends_every_worker_fails_after_the_last_attempt() {
    let mut state = State::Queued;
    for attempt in 1..=u64::from(ATTEMPTS_MAX) {
        let now = at(attempt * 100);
        assert!(step(&state, Event::GiveUp, now).is_err(), "attempt {attempt}");
        let worker = Event::Claim(holder(&format!("worker {attempt}")));
        state = step(&state, worker, now).unwrap().0;
    }
    let late = at(1000);
    let claim = Event::Claim(holder("one more"));
    assert_eq!(step(&state, claim, late), Err(Rejected::AttemptsSpent));
    assert_eq!(step(&state, Event::GiveUp, late).unwrap().0, State::Failed);
}

#[test]
fn a_worker_that_repeats_its_claim_gets_the_same_attempt() {
    let claim = || Event::Claim(holder("one"));
    let first = step(&State::Queued, claim(), at(10)).unwrap().0;
    let again = step(&first, claim(), at(10 + LEASE_S)).unwrap().0;
    assert_eq!(again, running(10 + 2 * LEASE_S, 1));
    let other = step(&first, Event::Claim(holder("two")), at(10 + LEASE_S));
    assert_eq!(other, Err(Rejected::Leased));
}

#[test]
fn a_signing_job_that_was_replaced_changes_nothing() {
    let first = succeeded(Signing::Running { until_s: 10, attempt: 1 });
    let second = step(&first, Event::ClaimSigning, at(11)).unwrap().0;
    for late in [
        Event::RenewSigning { attempt: 1 },
        Event::FinishSigning { attempt: 1, outcome: Outcome::Succeeded },
    ] {
        assert_eq!(step(&second, late, at(12)), Err(Rejected::LeaseLost));
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let worker = || prop_oneof![Just("one"), Just("two"), Just("three")].prop_map(holder);
    let outcome = || prop_oneof![Just(Outcome::Succeeded), Just(Outcome::Failed)];
    prop_oneof![
        3 => worker().prop_map(Event::Claim),
        1 => worker().prop_map(Event::Renew),
        1 => (worker(), outcome()).prop_map(|(holder, outcome)| Event::Finish { holder, outcome }),
        1 => Just(Event::GiveUp),
        1 => Just(Event::RequestApprovals),
        1 => prop_oneof![Just(Approvals::TooFew), Just(Approvals::Enough)].prop_map(Event::Approve),
        1 => Just(Event::RequestSignature),
        3 => Just(Event::ClaimSigning),
        1 => (0u8..5).prop_map(|attempt| Event::RenewSigning { attempt }),
        1 => (0u8..5, outcome())
            .prop_map(|(attempt, outcome)| Event::FinishSigning { attempt, outcome }),
        1 => Just(Event::RemoveFiles),
    ]
}

/// Rank of a state: no event leads to a lower one.
fn rank(state: &State) -> u8 {
    match state {
        State::Queued => 0,
        State::Running { .. } => 1,
        State::Succeeded { .. } | State::Failed => 2,
    }
}

proptest! {
    /// For any sequence of events and times: attempts are bounded, one worker at a time has an
    /// unexpired lease, ended builds stay ended, and what is signed stays signed.
    #[test]
    fn a_build_goes_forward_in_bounded_attempts(
        events in prop::collection::vec((any_event(), 0u64..200), 0..80)
    ) {
        let (mut state, mut now_s) = (State::Queued, 0);
        for (event, later_s) in events {
            now_s += later_s;
            let ctx = at(now_s);
            let Ok((next, effects)) = step(&state, event.clone(), ctx) else { continue };
            prop_assert!(rank(&next) >= rank(&state), "{state:?} + {event:?} -> {next:?}");
            match &next {
                State::Running { attempt, until_s, .. } => {
                    prop_assert!((1..=ATTEMPTS_MAX).contains(attempt));
                    prop_assert_eq!(*until_s, now_s + LEASE_S);
                }
                State::Succeeded { signing: Signing::Running { attempt, .. }, files } => {
                    prop_assert!((1..=SIGNING_ATTEMPTS_MAX).contains(attempt));
                    prop_assert_eq!(*files, Files::Kept, "nothing is signed without its files");
                }
                State::Queued | State::Succeeded { .. } | State::Failed => {}
            }
            match (&state, &next) {
                (
                    State::Running { holder: before, until_s, .. },
                    State::Running { holder: after, .. },
                ) => prop_assert!(before == after || *until_s < now_s),
                (State::Failed, after) => prop_assert_eq!(after, &State::Failed),
                (
                    State::Succeeded { signing: Signing::Succeeded, .. },
                    State::Succeeded { signing, .. },
                ) => prop_assert_eq!(*signing, Signing::Succeeded),
                (
                    State::Succeeded { files: Files::Removed, .. },
                    State::Succeeded { files, .. },
                ) => prop_assert_eq!(*files, Files::Removed),
                (State::Queued | State::Running { .. } | State::Succeeded { .. }, _) => {}
            }
            if effects.contains(&Effect::Sign) {
                let is_signing =
                    matches!(next, State::Succeeded { signing: Signing::Running { .. }, .. });
                prop_assert!(is_signing);
            }
            state = next;
        }
    }

    /// Repeating an event at once is rejected, or changes nothing more.
    #[test]
    fn an_event_that_is_repeated_is_harmless(
        events in prop::collection::vec(any_event(), 0..40),
        event in any_event(),
    ) {
        let mut state = State::Queued;
        for (n, event) in (0u64..).zip(events) {
            if let Ok((next, _)) = step(&state, event, at(n * 40)) { state = next; }
        }
        let ctx = at(5000);
        if let Ok((once, _)) = step(&state, event.clone(), ctx)
            && let Ok((twice, _)) = step(&once, event, ctx)
        {
            prop_assert_eq!(once, twice);
        }
    }
}
