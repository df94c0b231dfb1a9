use super::*;
use proptest::prelude::*;

const TRY_S: u64 = 600;

fn v(version: u64) -> Value {
    Value { version, set_s: 100 + version }
}

fn at(now_s: u64) -> Context {
    Context { now_s, at_s: 1_000_000 + now_s, try_s: TRY_S, period_s: TRY_S, may_try: true }
}

fn spare(version: u64, fate: Fate) -> Option<Spare> {
    Some(Spare { held: Some(v(version)), fate })
}

fn states() -> Vec<State> {
    let refused = Fate::Refused { at_s: 5 };
    let settled = |used: u64, spare, until_s, boots| State::Settled {
        used: Some(v(used)),
        spare,
        until_s,
        boots,
    };
    vec![
        State::default(),
        settled(1, None, None, 0),
        settled(1, spare(2, refused), None, 0),
        settled(1, spare(2, Fate::Waiting), None, 0),
        settled(2, spare(1, Fate::Replaced), Some(1000), 0),
        settled(1, spare(2, refused), Some(2000), SILENT_BOOTS_MAX - 1),
        State::Trial { old: Some(v(1)), new: v(2), until_s: 1000, boots: 0 },
        State::Trial { old: None, new: v(2), until_s: 2000, boots: TRIAL_BOOTS_MAX - 1 },
        State::Searching {
            last: Some(v(1)),
            other: Spare { held: Some(v(2)), fate: refused },
            uses_other: true,
            until_s: 1000,
        },
        State::Searching {
            last: Some(v(1)),
            other: Spare { held: Some(v(2)), fate: refused },
            uses_other: false,
            until_s: 2000,
        },
    ]
}

/// ARCHITECTURE.md refers to this table.
#[test]
fn the_transition_table_of_a_boot_secret_is_the_diagram() {
    let events = [
        Event::Delivered(v(2)),
        Event::Delivered(v(3)),
        Event::Reached,
        Event::Lost,
        Event::Tick,
        Event::Booted,
        Event::Retry,
    ];
    let mut table = String::from("at 1000 s, 600 s for each trial\n");
    for state in states() {
        for may_try in [true, false] {
            let ctx = Context { may_try, ..at(1000) };
            for event in events {
                let (next, effects) = step(&state, event, &ctx);
                if !may_try && step(&state, event, &at(1000)) == (next, effects.clone()) {
                    continue;
                }
                let line = if next == state && effects.is_empty() {
                    "unchanged".to_owned()
                } else {
                    format!("{} {effects:?}", shown(&next))
                };
                let when = if may_try { "" } else { " (no trial may begin)" };
                table.push_str(&format!("{} + {event:?}{when} -> {line}\n", shown(&state)));
            }
        }
    }
    insta::assert_snapshot!(short(&table));
}

fn shown(state: &State) -> String {
    format!("{state:?}")
}

/// `v2` for the second value.
fn short(table: &str) -> String {
    let mut text = table.to_owned();
    for version in 1..=3 {
        let long = format!("Value {{ version: {version}, set_s: {} }}", 100 + version);
        text = text.replace(&format!("Some({long})"), &format!("v{version}"));
        text = text.replace(&long, &format!("v{version}"));
    }
    text
}

/// A device and the network around it.
struct Device {
    state: State,
    now_s: u64,
    /// The value with which the server was last reached.
    last: Held,
    newest: Held,
}

impl Device {
    fn new() -> Self {
        Self { state: State::default(), now_s: 0, last: None, newest: None }
    }
    fn apply(&mut self, event: Event, may_try: bool) -> Vec<Effect> {
        let used = self.state.used();
        match event {
            Event::Delivered(value) => (self.last, self.newest) = (used, Some(value)),
            Event::Reached => self.last = used,
            Event::Booted => self.now_s = 0,
            Event::Lost | Event::Tick | Event::Retry => {}
        }
        let ctx = Context { may_try, ..at(self.now_s) };
        let (next, effects) = step(&self.state, event, &ctx);
        self.state = next;
        effects
    }
    fn is_in_contact(&self) -> bool {
        matches!(self.state, State::Settled { until_s: None, .. })
    }
    fn holds(&self, held: Held) -> bool {
        self.state.used() == held || self.state.spare().is_some_and(|s| s.held == held)
    }
    /// The network accepts one value only. Returns after how many seconds the device reached the
    /// server, if it did within a time.
    fn finds(&mut self, accepted: Held, within_s: u64) -> Option<u64> {
        let mut passed_s = 0;
        if self.state.used() != accepted {
            self.apply(Event::Lost, true);
        }
        while passed_s <= within_s {
            if self.state.used() == accepted {
                self.apply(Event::Reached, true);
                return Some(passed_s);
            }
            let next_s = self.state.deadline_s()?;
            let until_s = next_s.max(self.now_s);
            passed_s += until_s - self.now_s;
            self.now_s = until_s;
            self.apply(Event::Tick, true);
        }
        None
    }
}

fn any_event() -> impl Strategy<Value = (Event, u64, bool)> {
    let event = prop_oneof![
        (1..6_u64).prop_map(|n| Event::Delivered(v(n))),
        Just(Event::Reached),
        Just(Event::Lost),
        Just(Event::Tick),
        Just(Event::Booted),
        Just(Event::Retry),
    ];
    (event, 0..900_u64, any::<bool>())
}

fn after(events: &[(Event, u64, bool)]) -> Device {
    let mut device = Device::new();
    for (event, passed_s, may_try) in events {
        device.now_s += passed_s;
        device.apply(*event, *may_try);
    }
    device
}

proptest! {
    #[test]
    fn what_reached_the_server_last_and_what_came_last_are_always_held(
        events in prop::collection::vec(any_event(), 0..60)
    ) {
        let mut device = Device::new();
        for (event, passed_s, may_try) in events {
            device.now_s += passed_s;
            let before = device.state.used();
            let effects = device.apply(event, may_try);
            prop_assert!(device.holds(device.last), "{event:?} {:?}", device.state);
            prop_assert!(
                device.newest.is_none() || device.holds(device.newest), "{event:?} {:?}", device.state
            );
            // What is in use changes only together with the order to use it.
            let used: Vec<_> = effects
                .iter()
                .filter_map(|e| match e { Effect::Use(held) => Some(*held), Effect::Report => None })
                .collect();
            match used.as_slice() {
                [] => prop_assert_eq!(before, device.state.used()),
                [one] => prop_assert_eq!(*one, device.state.used()),
                more => prop_assert!(false, "{more:?}"),
            }
        }
    }

    #[test]
    fn a_device_with_either_value_accepted_reaches_the_server_within_three_trials(
        events in prop::collection::vec(any_event(), 0..60), wants_spare in any::<bool>()
    ) {
        let mut device = after(&events);
        let accepted = match device.state.spare() {
            Some(spare) if wants_spare => spare.held,
            _ => device.state.used(),
        };
        let found = device.finds(accepted, 3 * TRY_S);
        prop_assert!(found.is_some(), "{:?}", device.state);
        prop_assert!(device.is_in_contact());
        prop_assert_eq!(device.state.used(), accepted);
    }

    /// Also if somebody switches it off and on before any trial has ended.
    #[test]
    fn a_device_that_is_restarted_all_the_time_uses_both_values(
        events in prop::collection::vec(any_event(), 0..60), wants_spare in any::<bool>()
    ) {
        let mut device = after(&events);
        let accepted = match device.state.spare() {
            Some(spare) if wants_spare => spare.held,
            _ => device.state.used(),
        };
        let mut boots = 0;
        while device.state.used() != accepted {
            device.apply(Event::Booted, true);
            boots += 1;
            prop_assert!(boots <= TRIAL_BOOTS_MAX + SILENT_BOOTS_MAX + 1, "{:?}", device.state);
        }
    }

    #[test]
    fn while_the_server_is_reached_nothing_is_tried_that_did_not_reach_it(
        events in prop::collection::vec(any_event(), 0..60), ticks in 0..20_u64
    ) {
        let mut device = after(&events);
        device.apply(Event::Reached, true);
        if device.state.spare().is_some_and(|s| s.fate == Fate::Waiting) {
            return Ok(());
        }
        let used = device.state.used();
        for _ in 0..ticks {
            device.now_s += TRY_S;
            prop_assert!(device.apply(Event::Tick, true).is_empty());
            if let Some(value) = device.newest {
                device.apply(Event::Delivered(value), true);
            }
            prop_assert_eq!(device.state.used(), used);
        }
    }
}

/// A value arrives while the device is connected.
fn gets(device: &mut Device, value: Value) {
    device.apply(Event::Delivered(value), true);
}

fn settled(version: u64) -> Device {
    let mut device = Device::new();
    gets(&mut device, v(version));
    assert!(device.state.is_trial(), "no value is the old one");
    device.apply(Event::Reached, true);
    device
}

#[test]
fn a_wrong_value_returns_to_the_old_one_and_is_not_tried_again_until_it_is_asked_for() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    assert_eq!(device.state.used(), Some(v(2)));
    device.now_s += TRY_S - 1;
    assert!(device.apply(Event::Tick, true).is_empty(), "not before its time");
    device.now_s += 1;
    assert_eq!(device.apply(Event::Tick, true), [Effect::Use(Some(v(1))), Effect::Report]);
    device.apply(Event::Reached, true);
    // The server delivers it again at each session.
    assert_eq!(device.apply(Event::Delivered(v(2)), true), [Effect::Report]);
    assert_eq!(device.state.used(), Some(v(1)));
    assert_eq!(
        device.state.spare(),
        spare(2, Fate::Refused { at_s: 1_000_000 + TRY_S }),
        "and it says so"
    );
    assert_eq!(device.apply(Event::Retry, true)[0], Effect::Use(Some(v(2))));
}

#[test]
fn a_value_that_came_before_the_network_changed_lets_the_device_in_afterwards() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    assert_eq!(device.finds(Some(v(1)), 3 * TRY_S), Some(TRY_S), "the old network still");
    assert_eq!(device.finds(Some(v(2)), 3 * TRY_S), Some(TRY_S), "the new network");
    assert_eq!(device.state.spare(), spare(1, Fate::Replaced));
}

#[test]
fn a_value_that_came_while_or_after_the_network_changed_is_used_at_once() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    assert_eq!(device.finds(Some(v(2)), TRY_S), Some(0));
    // The network goes back.
    assert_eq!(device.finds(Some(v(1)), 3 * TRY_S), Some(TRY_S));
}

#[test]
fn a_device_that_was_off_that_week_comes_back_with_the_value_that_it_had_tried_before() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    device.finds(Some(v(1)), TRY_S);
    device.apply(Event::Booted, true);
    assert_eq!(device.state.used(), Some(v(1)), "it begins with the old one");
    assert_eq!(device.finds(Some(v(2)), 3 * TRY_S), Some(TRY_S));
}

#[test]
fn a_power_cut_in_a_trial_continues_it_and_the_third_ends_it() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    for _ in 1..TRIAL_BOOTS_MAX {
        assert_eq!(device.apply(Event::Booted, true), [Effect::Use(Some(v(2)))]);
    }
    assert_eq!(device.apply(Event::Booted, true), [Effect::Use(Some(v(1))), Effect::Report]);
}

#[test]
fn an_image_on_trial_uses_the_old_value_and_the_new_one_waits() {
    let mut device = settled(1);
    gets(&mut device, v(2));
    device.apply(Event::Booted, false);
    assert_eq!(device.state.used(), Some(v(1)));
    device.apply(Event::Reached, false);
    assert_eq!(device.state.spare(), spare(2, Fate::Waiting));
    assert_eq!(device.apply(Event::Tick, false), []);
    assert_eq!(device.apply(Event::Tick, true)[0], Effect::Use(Some(v(2))));
}
