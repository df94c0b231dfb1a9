use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn ctx<'a>(now_s: u64, boot_id: &'a str, key_sha256: &'a str) -> Context<'a> {
    Context { now_s, boot_id, key_sha256 }
}

fn command(id: &str, kind: CommandKind, deadline_s: u64) -> Event {
    Event::Received(Command { id: id.to_owned(), kind, deadline_s })
}

fn logs() -> CommandKind {
    CommandKind::Logs { unit: None }
}

fn is_run(effect: &Effect) -> bool {
    matches!(effect, Effect::Run(_))
}

fn outcomes(effects: &[Effect]) -> Vec<Outcome> {
    let of = |effect: &Effect| match effect {
        Effect::Answer(answer) => Some(answer.outcome),
        Effect::Run(_) | Effect::Stop(_) | Effect::Upload(_) => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Applies events one after the other. Returns the last effects.
fn apply(ledger: &mut Ledger, events: Vec<(Event, Context<'_>)>) -> Vec<Effect> {
    let mut last = Vec::new();
    for (event, ctx) in events {
        (*ledger, last) = ledger.step(event, ctx);
    }
    last
}

#[test]
fn a_command_that_is_delivered_twice_runs_once_and_is_answered_again() {
    let (now, mut ledger) = (ctx(10, "a", "k"), Ledger::default());
    let first = apply(&mut ledger, vec![(command("c", logs(), 20), now)]);
    assert_eq!(outcomes(&first), [Outcome::Begun]);
    assert!(is_run(&first[1]));
    let again = apply(&mut ledger, vec![(command("c", logs(), 20), now)]);
    assert!(again.is_empty(), "its answer will come: {again:?}");
    let produced = apply(&mut ledger, vec![(Event::Produced("c".into(), "9 lines".into()), now)]);
    assert_eq!(produced, [Effect::Upload("c".into())]);
    let ended = apply(&mut ledger, vec![(Event::Uploaded("c".into(), Ok(())), now)]);
    assert_eq!(outcomes(&ended), [Outcome::Done]);
    let again = apply(&mut ledger, vec![(command("c", logs(), 20), now)]);
    assert_eq!(outcomes(&again), [Outcome::Done]);
    assert!(!again.iter().any(is_run));
}

#[test]
fn a_command_after_its_deadline_is_refused_and_one_that_began_in_time_is_not() {
    let mut ledger = Ledger::default();
    let late = apply(&mut ledger, vec![(command("c", logs(), 20), ctx(21, "a", "k"))]);
    assert_eq!(outcomes(&late), [Outcome::Expired]);
    let ended = apply(
        &mut ledger,
        vec![
            (command("d", CommandKind::Attest, 20), ctx(20, "a", "k")),
            (Event::Finished("d".into(), Ok("sent".into())), ctx(99, "a", "k")),
        ],
    );
    assert_eq!(outcomes(&ended), [Outcome::Done]);
}

#[test]
fn a_reboot_is_done_in_another_boot_and_requested_again_in_the_same_one() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, vec![(command("c", CommandKind::Reboot, 20), ctx(10, "a", "k"))]);
    let same = ledger.step(Event::Started, ctx(11, "a", "k")).1;
    assert!(same.len() == 1 && is_run(&same[0]), "{same:?}");
    let other = apply(&mut ledger, vec![(Event::Started, ctx(500, "b", "k"))]);
    assert_eq!(outcomes(&other), [Outcome::Done], "also after its deadline");
    assert!(apply(&mut ledger, vec![(Event::Started, ctx(501, "c", "k"))]).is_empty());
}

#[test]
fn a_new_key_is_seen_after_a_restart() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, vec![(command("c", CommandKind::RotateKey, 20), ctx(10, "a", "old"))]);
    let same = ledger.step(Event::Started, ctx(11, "a", "old")).1;
    assert!(same.len() == 1 && is_run(&same[0]));
    let late = ledger.step(Event::Started, ctx(21, "a", "old")).1;
    assert_eq!(outcomes(&late), [Outcome::Failed]);
    let changed = ledger.step(Event::Started, ctx(21, "a", "new")).1;
    assert_eq!(outcomes(&changed), [Outcome::Done]);
}

#[test]
fn a_cancelled_command_never_runs_whatever_comes_first() {
    let now = ctx(10, "a", "k");
    let cancel = || Event::Cancelled(Cancellation { cancel: "c".into() });
    let mut before = Ledger::default();
    let effects = apply(&mut before, vec![(cancel(), now), (command("c", logs(), 20), now)]);
    assert_eq!(outcomes(&effects), [Outcome::Cancelled]);
    assert!(!effects.iter().any(is_run));
    let mut running = Ledger::default();
    let effects = apply(&mut running, vec![(command("c", logs(), 20), now), (cancel(), now)]);
    assert_eq!(effects[0], Effect::Stop("c".into()));
    assert_eq!(outcomes(&effects), [Outcome::Cancelled]);
    let late = apply(&mut running, vec![(Event::Produced("c".into(), "x".into()), now)]);
    assert!(late.is_empty(), "{late:?}");
    let mut reboot = Ledger::default();
    let kind = CommandKind::Reboot;
    let effects = apply(&mut reboot, vec![(command("c", kind, 20), now), (cancel(), now)]);
    assert!(effects.is_empty(), "systemd is about to reboot: {effects:?}");
}

#[test]
fn a_device_that_is_full_runs_nothing_that_it_cannot_remember() {
    let (now, mut ledger) = (ctx(10, "a", "k"), Ledger::default());
    for n in 0..ENTRIES_MAX {
        let id = format!("c{n}");
        let effects = apply(&mut ledger, vec![(command(&id, CommandKind::Report, 20), now)]);
        assert!(is_run(&effects[0]));
        apply(&mut ledger, vec![(Event::Finished(id, Ok(String::new())), now)]);
    }
    assert!(apply(&mut ledger, vec![(command("more", logs(), 20), now)]).is_empty());
    assert_eq!(ledger.entries.len(), ENTRIES_MAX);
    let later = apply(&mut ledger, vec![(command("more", logs(), 30), ctx(21, "a", "k"))]);
    assert!(later.iter().any(is_run), "the others are past their deadlines");
    assert_eq!(ledger.entries.len(), 1);
    for odd in ["../../etc/passwd", "", &"x".repeat(100)] {
        assert!(apply(&mut ledger, vec![(command(odd, logs(), 30), now)]).is_empty());
    }
}

fn kinds() -> Vec<CommandKind> {
    vec![
        CommandKind::Report,
        CommandKind::Reboot,
        CommandKind::Attest,
        CommandKind::RotateKey,
        logs(),
        CommandKind::FactoryReset { device: "dev-a".parse().unwrap() },
    ]
}

/// What a server, a network and a power switch can do, with five commands.
#[derive(Debug, Clone)]
enum Happening {
    Deliver(usize),
    Cancel(usize),
    Finish(usize, bool),
    Produce(usize),
    Upload(usize, bool),
    Restart,
    Reboot,
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let id = 0..5_usize;
    prop_oneof![
        4 => id.clone().prop_map(Happening::Deliver),
        1 => id.clone().prop_map(Happening::Cancel),
        2 => (id.clone(), any::<bool>()).prop_map(|(n, ok)| Happening::Finish(n, ok)),
        2 => id.clone().prop_map(Happening::Produce),
        2 => (id, any::<bool>()).prop_map(|(n, ok)| Happening::Upload(n, ok)),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Reboot),
        1 => (0..30_u64).prop_map(Happening::Wait),
    ]
}

proptest! {
    #[test]
    fn each_command_runs_at_most_once_and_its_end_never_changes(
        happenings in prop::collection::vec(happening(), 0..60),
        offset in 0..6_usize,
    ) {
        let kinds = kinds();
        let kind = |n: usize| kinds[(n + offset) % kinds.len()].clone();
        let (mut ledger, mut now_s, mut boot) = (Ledger::default(), 0_u64, 0_u32);
        let mut runs: BTreeMap<String, u32> = BTreeMap::new();
        let mut ends: BTreeMap<String, Outcome> = BTreeMap::new();
        let mut stopped: BTreeSet<String> = BTreeSet::new();
        for happening in happenings {
            let id = |n: usize| format!("c{n}");
            let event = match happening {
                Happening::Deliver(n) => command(&id(n), kind(n), 40 + 10 * n as u64),
                Happening::Cancel(n) => Event::Cancelled(Cancellation { cancel: id(n) }),
                Happening::Finish(n, ok) => {
                    let result = if ok { Ok("ok".to_owned()) } else { Err("no".to_owned()) };
                    Event::Finished(id(n), result)
                }
                Happening::Produce(n) => Event::Produced(id(n), "ok".to_owned()),
                Happening::Upload(n, ok) => {
                    Event::Uploaded(id(n), if ok { Ok(()) } else { Err("no".to_owned()) })
                }
                Happening::Restart => Event::Started,
                Happening::Reboot => {
                    boot += 1;
                    Event::Started
                }
                Happening::Wait(s) => {
                    now_s += s;
                    continue;
                }
            };
            let is_start = event == Event::Started;
            let boot_id = boot.to_string();
            // What is stored is what the next start reads.
            let stored = serde_json::to_vec(&ledger).unwrap();
            let read: Ledger = crate::strict::from_slice(&stored).unwrap();
            prop_assert_eq!(&read, &ledger);
            let known: BTreeSet<_> = read.entries.iter().map(|e| e.id.clone()).collect();
            let (next, effects) = read.step(event, ctx(now_s, &boot_id, "k"));
            ledger = next;
            prop_assert!(ledger.entries.len() <= ENTRIES_MAX);
            for effect in effects {
                match effect {
                    Effect::Run(entry) => {
                        prop_assert!(!ends.contains_key(&entry.id), "it has ended");
                        prop_assert!(!stopped.contains(&entry.id), "it was stopped");
                        let count = runs.entry(entry.id).or_default();
                        *count += 1;
                        let goes_on = matches!(
                            entry.kind,
                            Some(
                                CommandKind::Reboot
                                    | CommandKind::RotateKey
                                    | CommandKind::FactoryReset { .. }
                            )
                        );
                        prop_assert!(*count == 1 || (is_start && goes_on), "it ran twice");
                    }
                    Effect::Stop(id) => drop(stopped.insert(id)),
                    Effect::Upload(_) => {}
                    Effect::Answer(answer) if answer.outcome == Outcome::Begun => {
                        prop_assert!(!ends.contains_key(&answer.command));
                    }
                    // After its deadline and an end that is forgotten, it is refused as expired.
                    Effect::Answer(answer) if answer.outcome == Outcome::Expired => {}
                    Effect::Answer(answer) => {
                        // One that is forgotten after its deadline can be cancelled, and never runs.
                        let is_known = known.contains(&answer.command);
                        let before = ends.insert(answer.command, answer.outcome);
                        let is_same = before.is_none_or(|before| before == answer.outcome);
                        prop_assert!(is_same || !is_known);
                    }
                }
            }
        }
    }
}
