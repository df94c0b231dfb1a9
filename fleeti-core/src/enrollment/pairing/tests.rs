use super::*;
use proptest::prelude::*;

const NOW_S: u64 = 1000;

const EVENTS: [Event; 4] = [Event::Enter, Event::Wait, Event::Replace, Event::Evict];

#[test]
fn the_transition_table_of_a_pairing_is_the_diagram() {
    let states = [
        State::Pending { expires_s: NOW_S },
        State::Pending { expires_s: NOW_S - 1 },
        State::Paired { expires_s: NOW_S },
        State::Paired { expires_s: NOW_S - 1 },
        State::Gone,
    ];
    let mut table = format!("now {NOW_S}, lifetime {CODE_S} s\n");
    for state in states {
        for event in EVENTS {
            let line = match step(state, event, NOW_S) {
                Ok((next, effects)) if next == state => format!("unchanged {effects:?}"),
                Ok((next, effects)) => format!("{next:?} {effects:?}"),
                Err(e) => format!("rejected: {e}"),
            };
            table.push_str(&format!("{state:?} + {event:?} -> {line}\n"));
        }
    }
    insta::assert_snapshot!(table);
}

fn any_event() -> impl Strategy<Value = Event> {
    (0..EVENTS.len()).prop_map(|n| EVENTS[n])
}

proptest! {
    /// For any sequence of events and times: a code makes a token valid at most once and not after
    /// it has expired, and a device is told of it only then.
    #[test]
    fn a_code_is_entered_at_most_once(
        events in prop::collection::vec((any_event(), 0u64..300), 0..40)
    ) {
        let mut state = State::Pending { expires_s: expires_s(NOW_S) };
        let mut now_s = NOW_S;
        let mut issued = 0;
        for (event, later_s) in events {
            now_s += later_s;
            let Ok((next, effects)) = step(state, event, now_s) else { continue };
            if effects.contains(&Effect::IssueToken) {
                issued += 1;
                prop_assert!(now_s <= NOW_S + CODE_S);
            }
            if effects.contains(&Effect::AnswerPaired) {
                prop_assert_eq!(issued, 1);
            }
            if state == State::Gone {
                prop_assert_eq!(next, State::Gone);
            }
            state = next;
        }
        prop_assert!(issued <= 1);
    }
}
