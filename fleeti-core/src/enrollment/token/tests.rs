use super::*;
use proptest::prelude::*;

const NOW_S: u64 = 1000;

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn terms() -> Terms {
    Terms::until(NOW_S)
}

fn used(key: &str) -> State {
    State::Used { device: id("dev-1"), key_sha256: key.into() }
}

fn tokens() -> Vec<(&'static str, Token)> {
    let of = |state: State, terms: Terms| Token { state, terms };
    let reserved = Terms { reserved: Some(id("dev-1")), ..terms() };
    vec![
        ("unused", of(State::Unused, terms())),
        ("unused, expired", of(State::Unused, Terms { expires_s: NOW_S - 1, ..terms() })),
        ("unused, for dev-1", of(State::Unused, reserved.clone())),
        (
            "unused, for dev-1 and TPM A",
            of(State::Unused, Terms { ek_sha256: Some("A".into()), ..reserved }),
        ),
        (
            "unused, for key 1",
            of(State::Unused, Terms { for_key_sha256: Some("1".into()), ..terms() }),
        ),
        ("used by dev-1 with key 1", of(used("1"), terms())),
        ("used, expired", of(used("1"), Terms { expires_s: NOW_S - 1, ..terms() })),
    ]
}

fn bearer<'a>(key_sha256: &'a str, owner: KeyOwner, ek: Option<&'a str>) -> Bearer<'a> {
    Bearer { key_sha256, key_owner: owner, ek_sha256: ek }
}

/// Applies an event with each fact that it may have, and returns a line for each.
fn lines(name: &str, token: &Token) -> String {
    let (no_other, other) = (KeyOwner::NoOther, KeyOwner::OtherDevice);
    let (one, two) = (id("dev-1"), id("dev-2"));
    let certified = |device, key, known| {
        Event::Certified(Certified { bearer: bearer(key, no_other, None), device, known })
    };
    let uses = |key: &str| Some(KnownDevice::Uses(key.into()));
    let events = [
        ("TPM A presented", Event::PresentTpm("A")),
        ("TPM B presented", Event::PresentTpm("B")),
        ("request for key 1", Event::Request(bearer("1", no_other, None))),
        ("request for key 1 in TPM A", Event::Request(bearer("1", no_other, Some("A")))),
        ("request for key 1 in TPM B", Event::Request(bearer("1", no_other, Some("B")))),
        ("request for key 2", Event::Request(bearer("2", no_other, None))),
        ("request for the key of another device", Event::Request(bearer("1", other, None))),
        ("key 1 certified for dev-1, new", certified(&one, "1", None)),
        ("key 1 certified for dev-1, which uses it", certified(&one, "1", uses("1"))),
        ("key 1 certified for dev-1, which uses key 3", certified(&one, "1", uses("3"))),
        ("key 1 certified for dev-1, revoked", certified(&one, "1", Some(KnownDevice::Revoked))),
        ("key 2 certified for dev-1, new", certified(&one, "2", None)),
        ("key 1 certified for dev-2, new", certified(&two, "1", None)),
        (
            "key 1 in TPM A certified for dev-1, new",
            Event::Certified(Certified {
                bearer: bearer("1", no_other, Some("A")),
                device: &one,
                known: None,
            }),
        ),
        (
            "the key of another device certified for dev-1, new",
            Event::Certified(Certified {
                bearer: bearer("1", other, None),
                device: &one,
                known: None,
            }),
        ),
    ];
    let line = |(event, applied): (&str, Event<'_>)| {
        let after = match step(token, applied, NOW_S) {
            Ok((next, effects)) if next == *token => format!("unchanged {effects:?}"),
            Ok((next, effects)) => match next.state {
                State::Used { device, key_sha256 } => {
                    format!("used by {device} with key {key_sha256} {effects:?}")
                }
                State::Unused => format!("unused {effects:?}"),
            },
            Err(e) => format!("rejected: {e}"),
        };
        format!("{name} + {event} -> {after}\n")
    };
    events.into_iter().map(line).collect()
}

#[test]
fn the_transition_table_of_a_token_is_the_diagram() {
    let table: String = tokens().iter().map(|(name, token)| lines(name, token)).collect();
    insta::assert_snapshot!(table);
}

proptest! {
    /// For any sequence of requests and times: a token is used by one device with one key, before
    /// it expires, and never becomes unused.
    #[test]
    fn a_token_belongs_to_the_first_that_uses_it(
        steps in prop::collection::vec((0u8..3, 0u8..3, 0u8..4, 0u8..4, 0u64..4), 0..60),
        reserved in any::<bool>(),
    ) {
        let names = [id("dev-1"), id("dev-2"), id("dev-3")];
        let keys = ["1", "2", "3"];
        let terms = Terms { reserved: reserved.then(|| names[0].clone()), ..terms() };
        let mut token = Token { state: State::Unused, terms };
        let mut now_s = NOW_S - 50;
        for (device, key, known, kind, later_s) in steps {
            now_s += later_s;
            let (device, key) = (&names[usize::from(device)], keys[usize::from(key)]);
            let known = match known {
                0 => None,
                1 => Some(KnownDevice::Uses(key.to_owned())),
                2 => Some(KnownDevice::Uses("other".into())),
                _ => Some(KnownDevice::Revoked),
            };
            let owner = if kind == 3 { KeyOwner::OtherDevice } else { KeyOwner::NoOther };
            let bearer = bearer(key, owner, None);
            let event = match kind {
                0 => Event::PresentTpm("A"),
                1 => Event::Request(bearer),
                _ => Event::Certified(Certified { bearer, device, known: known.clone() }),
            };
            let Ok((next, effects)) = step(&token, event, now_s) else { continue };
            prop_assert!(now_s <= token.terms.expires_s);
            prop_assert_eq!(&next.terms, &token.terms);
            match (&token.state, &next.state) {
                (State::Unused, State::Used { device, .. }) => {
                    prop_assert_eq!(effects, [Effect::Store]);
                    prop_assert!(known != Some(KnownDevice::Revoked));
                    prop_assert!(!reserved || *device == names[0]);
                }
                (State::Used { .. }, after) => prop_assert_eq!(&token.state, after),
                (State::Unused, State::Unused) => {}
            }
            token = next;
        }
    }
}
