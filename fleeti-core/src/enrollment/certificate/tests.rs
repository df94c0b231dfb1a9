use super::*;
use proptest::prelude::*;

const NOW_S: u64 = 1_800_000_000;
const DAY_S: u64 = 86_400;

fn current() -> State {
    State::Current { key_sha256: "first".into() }
}

fn renewed() -> State {
    State::Renewed { key_sha256: "first".into(), next_sha256: "next".into() }
}

/// Certificates whose newest is this old, with this number of successors until now.
fn certificates(state: State, age_days: u64, count: u32) -> Certificates {
    Certificates {
        state,
        place: KeyPlace::File,
        not_after_s: NOW_S + (30 - age_days) * DAY_S,
        successors: Successors { count, last_s: NOW_S },
    }
}

fn request(key: &str, authority: Authority) -> Request {
    Request {
        key_sha256: key.into(),
        key_owner: KeyOwner::NoOther,
        place: KeyPlace::File,
        authority,
        stored: Stored::Yes,
        commanded: Commanded::No,
    }
}

fn by_certificate(key: &str) -> Event {
    Event::Request(request(key, Authority::Certificate))
}

fn readmission(key: &str, until_s: Option<u64>) -> Authority {
    Authority::Readmission { key_sha256: key.into(), until_s }
}

/// What the device gets for this key: the first effect, or when it is due.
fn due(certificates: &Certificates, key: &str, now_s: u64) -> Result<Effect, u64> {
    match step(certificates, by_certificate(key), now_s) {
        Ok((_, effects)) => Ok(effects.into_iter().next().unwrap()),
        Err(Rejected::Early { at_s }) => Err(at_s),
        Err(e) => panic!("{e}"),
    }
}

fn states() -> Vec<(&'static str, Certificates)> {
    let in_tpm = |c: Certificates| Certificates { place: KeyPlace::Tpm, ..c };
    vec![
        ("current, fresh", certificates(current(), 0, 0)),
        ("current, due", certificates(current(), 10, 0)),
        ("current, due, three successors", certificates(current(), 10, SUCCESSORS_MAX)),
        ("current in TPM, due", in_tpm(certificates(current(), 10, 0))),
        ("renewed", certificates(renewed(), 0, 1)),
        ("renewed, three successors", certificates(renewed(), 0, SUCCESSORS_MAX)),
        ("revoked", certificates(State::Revoked, 10, 0)),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (tpm, open) = (Authority::Tpm, readmission("first", Some(NOW_S)));
    let other =
        Request { key_owner: KeyOwner::OtherDevice, ..request("other", Authority::Certificate) };
    let lost = Request { stored: Stored::No, ..request("first", Authority::Certificate) };
    let issued = |key: &str, key_owner| Event::Issued {
        key_sha256: key.into(),
        key_owner,
        not_after_s: NOW_S + 30 * DAY_S,
    };
    vec![
        ("request for the key in use", by_certificate("first")),
        ("request for the key in use, certificate not stored", Event::Request(lost)),
        ("request for the next key", by_certificate("next")),
        ("request for a new key", by_certificate("new")),
        (
            "request for a new key in the TPM",
            Event::Request(Request { place: KeyPlace::Tpm, ..request("new", tpm(Anchor::Counts)) }),
        ),
        (
            "request by the TPM, CA ended",
            Event::Request(Request { place: KeyPlace::Tpm, ..request("new", tpm(Anchor::Ended)) }),
        ),
        ("request for the key of another device", Event::Request(other)),
        ("request by readmission", Event::Request(request("new", open))),
        (
            "request by readmission that has ended",
            Event::Request(request("new", readmission("first", Some(NOW_S - 1)))),
        ),
        (
            "request by readmission, signed by another key",
            Event::Request(request("new", readmission("other", Some(NOW_S)))),
        ),
        ("request without readmission", Event::Request(request("new", readmission("first", None)))),
        ("signing failed", Event::SigningFailed),
        ("issued for the key in use", issued("first", KeyOwner::NoOther)),
        ("issued for the next key", issued("next", KeyOwner::NoOther)),
        ("issued for a new key", issued("new", KeyOwner::NoOther)),
        ("issued for a key that another device got", issued("new", KeyOwner::OtherDevice)),
        ("use of the key in use", Event::Use("first".into())),
        ("use of the next key", Event::Use("next".into())),
        ("use of another key", Event::Use("other".into())),
    ]
}

fn shown(certificates: &Certificates) -> String {
    let state = match &certificates.state {
        State::Current { key_sha256 } => format!("current {key_sha256}"),
        State::Renewed { key_sha256, next_sha256 } => {
            format!("renewed {key_sha256}, next {next_sha256}")
        }
        State::Revoked => "revoked".to_owned(),
    };
    format!("{state}, successors {}", certificates.successors.count)
}

#[test]
fn the_transition_table_of_certificates_is_the_diagram() {
    let mut table = String::new();
    for (name, before) in states() {
        for (event, applied) in events() {
            let line = match step(&before, applied, NOW_S) {
                Ok((after, effects)) if after == before => format!("unchanged {effects:?}"),
                Ok((after, effects)) => format!("{} {effects:?}", shown(&after)),
                Err(Rejected::Early { at_s }) => {
                    format!("rejected: early by {} days", (at_s - NOW_S) / DAY_S)
                }
                Err(e) => format!("rejected: {e}"),
            };
            table.push_str(&format!("{name} + {event} -> {line}\n"));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_fresh_certificate_is_repeated_for_its_key_and_another_key_waits() {
    let fresh = certificates(current(), 0, 0);
    let due_s = NOW_S + 10 * DAY_S;
    assert_eq!(due(&fresh, "first", NOW_S), Ok(Effect::Repeat));
    assert_eq!(due(&fresh, "other", NOW_S), Err(due_s));
    assert_eq!(due(&fresh, "other", due_s), Ok(Effect::Certify));
    assert_eq!(due(&fresh, "first", due_s), Ok(Effect::Certify));
    assert_eq!(due(&fresh, "other", NOW_S + 400 * DAY_S), Ok(Effect::Certify), "after a year");
}

#[test]
fn a_few_responses_may_be_lost_in_a_day() {
    let lost = |n| certificates(renewed(), 0, n);
    assert_eq!(due(&lost(1), "next", NOW_S), Ok(Effect::Repeat));
    assert_eq!(due(&lost(1), "other", NOW_S), Ok(Effect::Certify));
    assert_eq!(due(&lost(2), "first", NOW_S), Ok(Effect::Certify));
    assert_eq!(due(&lost(3), "other", NOW_S), Err(NOW_S + AGAIN_S));
    assert_eq!(due(&lost(3), "other", NOW_S + AGAIN_S), Ok(Effect::Certify));
    assert_eq!(due(&lost(u32::MAX), "other", NOW_S + AGAIN_S), Ok(Effect::Certify));
}

#[test]
fn a_command_makes_renewal_due_and_lifts_no_other_rule() {
    let fresh = certificates(current(), 0, 0);
    let commanded =
        |request: Request| Event::Request(Request { commanded: Commanded::Yes, ..request });
    let of = |key: &str| commanded(request(key, Authority::Certificate));
    assert!(due(&fresh, "other", NOW_S).is_err());
    let effects = step(&fresh, of("other"), NOW_S).unwrap().1;
    assert_eq!(effects, [Effect::Certify]);
    let many = certificates(current(), 0, SUCCESSORS_MAX);
    let refused = step(&many, of("other"), NOW_S).unwrap_err();
    assert_eq!(refused, Rejected::Early { at_s: NOW_S + AGAIN_S });
    let in_tpm = Certificates { place: KeyPlace::Tpm, ..fresh };
    assert_eq!(step(&in_tpm, of("other"), NOW_S), Err(Rejected::KeyLeavesTpm));
    let readmitted = commanded(request("other", readmission("first", None)));
    let file = certificates(current(), 0, 0);
    assert_eq!(step(&file, readmitted, NOW_S), Err(Rejected::NotReadmitted));
}

#[test]
fn a_signature_that_fails_gives_back_one_certificate_and_no_more() {
    let before = certificates(renewed(), 0, 1);
    let other = step(&before, by_certificate("other"), NOW_S).unwrap().0;
    let both = step(&other, by_certificate("third"), NOW_S).unwrap().0;
    assert_eq!(both.successors.count, 3);
    let failed = step(&both, Event::SigningFailed, NOW_S).unwrap().0;
    assert_eq!(failed.successors.count, 2, "the other certificate still counts");
}

fn any_event() -> impl Strategy<Value = Event> {
    let key = || prop_oneof![Just("first"), Just("next"), Just("third"), Just("fourth")];
    let owner = || prop_oneof![Just(KeyOwner::NoOther), Just(KeyOwner::OtherDevice)];
    let authority = prop_oneof![
        Just(Authority::Certificate),
        Just(Authority::Tpm(Anchor::Counts)),
        Just(Authority::Tpm(Anchor::Ended)),
        (key(), prop::option::of(NOW_S..NOW_S + 10 * DAY_S))
            .prop_map(|(key, until_s)| readmission(key, until_s)),
    ];
    let place = prop_oneof![Just(KeyPlace::File), Just(KeyPlace::Tpm)];
    let stored = prop_oneof![Just(Stored::Yes), Just(Stored::No)];
    let commanded = prop_oneof![4 => Just(Commanded::No), 1 => Just(Commanded::Yes)];
    let request = (key(), owner(), authority, place, stored, commanded).prop_map(
        |(key, key_owner, authority, place, stored, commanded)| {
            let key_sha256 = key.into();
            let request = Request { key_sha256, key_owner, place, authority, stored, commanded };
            Event::Request(request)
        },
    );
    prop_oneof![
        4 => request,
        1 => Just(Event::SigningFailed),
        2 => (key(), owner()).prop_map(|(key, key_owner)| Event::Issued {
            key_sha256: key.into(),
            key_owner,
            not_after_s: NOW_S + 30 * DAY_S,
        }),
        1 => key().prop_map(|key| Event::Use(key.into())),
    ]
}

proptest! {
    /// For any sequence of events: a day has at most [`SUCCESSORS_MAX`] certificates, no key of
    /// another device is stored, a key in the TPM is not followed by one in a file, and the key in
    /// use changes only to the next key.
    #[test]
    fn certificates_are_bounded_and_follow_the_keys_of_one_device(
        events in prop::collection::vec((any_event(), 0u64..DAY_S / 2), 0..80),
        is_in_tpm in any::<bool>(),
    ) {
        let mut all = certificates(current(), 12, 0);
        all.place = if is_in_tpm { KeyPlace::Tpm } else { KeyPlace::File };
        let mut now_s = NOW_S;
        for (event, later_s) in events {
            now_s += later_s;
            let Ok((next, effects)) = step(&all, event.clone(), now_s) else { continue };
            prop_assert!(next.successors.count <= SUCCESSORS_MAX);
            prop_assert!(next.state != State::Revoked);
            match &event {
                Event::Request(request) => {
                    prop_assert_eq!(&next.state, &all.state, "only a signed certificate counts");
                    if effects.contains(&Effect::Certify) {
                        prop_assert_eq!(request.key_owner, KeyOwner::NoOther);
                        prop_assert!(!is_in_tpm || request.place == KeyPlace::Tpm);
                    }
                }
                Event::Issued { key_owner, .. } => {
                    prop_assert_eq!(*key_owner, KeyOwner::NoOther);
                    let (before, after) = (Keys::of(&all.state), Keys::of(&next.state));
                    let current = |keys: Option<Keys<'_>>| keys.map(|k| k.current.clone());
                    prop_assert_eq!(current(before), current(after));
                }
                Event::Use(key) => {
                    let is_known = Keys::of(&all.state).is_some_and(|keys| keys.has(key));
                    prop_assert!(is_known);
                }
                Event::SigningFailed => prop_assert_eq!(&next.state, &all.state),
            }
            all = next;
        }
    }

    #[test]
    fn a_revoked_device_gets_nothing(event in any_event()) {
        let revoked = certificates(State::Revoked, 10, 1);
        match step(&revoked, event, NOW_S) {
            Ok((next, effects)) => {
                prop_assert_eq!(next.state, State::Revoked);
                prop_assert!(effects.is_empty());
            }
            Err(e) => prop_assert_eq!(e, Rejected::Revoked),
        }
    }
}
