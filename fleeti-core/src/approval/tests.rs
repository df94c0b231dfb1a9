use super::*;
use proptest::prelude::*;

const EVENTS: [Event; 6] =
    [Event::Approve, Event::Deny, Event::Withdraw, Event::Look, Event::Perform, Event::Refuse];

#[test]
fn the_transition_table_of_a_pending_act_is_the_diagram() {
    let mut table = String::from("expires 10\n");
    for state in State::ALL {
        for event in EVENTS {
            for now_s in [10, 11] {
                let line = match step(state, event, 10, now_s) {
                    Ok(next) if next == state => "unchanged".to_owned(),
                    Ok(next) => next.to_string(),
                    Err(e) => format!("rejected: {e}"),
                };
                table.push_str(&format!("{state} + {event:?} at {now_s} -> {line}\n"));
            }
        }
    }
    insta::assert_snapshot!(table);
}

proptest! {
    /// For any sequence of events and times: an act is performed at most once, only after it was
    /// approved, and not after it has expired.
    #[test]
    fn an_act_is_performed_at_most_once_and_in_time(
        events in prop::collection::vec((0..EVENTS.len(), 0u64..5), 0..40)
    ) {
        let (mut state, mut now_s) = (State::Waiting, 0);
        let (mut approved, mut performed) = (0, 0);
        for (event, later_s) in events {
            now_s += later_s;
            let Ok(next) = step(state, EVENTS[event], 30, now_s) else { continue };
            prop_assert!(!state.is_terminal());
            approved += usize::from(state == State::Waiting && next == State::Approved);
            if next == State::Done {
                performed += 1;
                prop_assert!(approved == 1 && now_s <= 30);
            }
            state = next;
        }
        prop_assert!(performed <= 1 && approved <= 1);
    }
}

#[test]
fn a_name_of_a_state_is_its_name_on_the_wire() {
    for state in State::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
}
