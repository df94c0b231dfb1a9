use super::*;
use crate::id::ReleaseName;
use crate::rollout::budget::Room;
use crate::rollout::device::{self, Device, Reported};
use crate::rollout::{DevicePhase, Eligibility, Limits, Proof};
use crate::update::{self, State as U};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn release() -> ReleaseName {
    "kiosk@2".parse().unwrap()
}

fn on(header: Header, event: Event) -> Result<(Header, Vec<Effect>), Rejected> {
    let (release, limits) = (release(), Limits { devices_max: 3 });
    let ctx = Ctx {
        now_s: 1,
        release: &release,
        limits,
        plan: None,
        is_urgent: false,
        may_offer: true,
        room: Room::Free,
    };
    step(&header, event, &ctx)
}

fn after(header: Header, events: &[Event]) -> Header {
    events.iter().fold(header, |header, event| on(header, event.clone()).unwrap().0)
}

/// A running rollout with two devices that wait.
fn running() -> Header {
    let added = Event::Added(Category::Waiting);
    after(Header::default(), &[Event::Start { devices: 2 }, added.clone(), added, Event::Started])
}

fn moved(from: Category, to: Category) -> Event {
    Event::Moved { wave: None, from, to }
}

#[test]
fn the_transition_table_of_a_rollout_is_the_diagram() {
    let (waiting, done) = (Category::Waiting, Category::Succeeded);
    let one_left = after(running(), &[moved(waiting, done)]);
    let events = [
        ("start with 2 devices", Event::Start { devices: 2 }),
        ("start with 0 devices", Event::Start { devices: 0 }),
        ("start with 4 devices", Event::Start { devices: 4 }),
        ("a waiting device added", Event::Added(waiting)),
        ("started", Event::Started),
        ("the last device starts", moved(waiting, Category::Moving)),
        ("the last device succeeds", moved(waiting, done)),
        ("the last device fails", moved(waiting, Category::Failed)),
        ("a device moves that is not counted", moved(Category::Moving, done)),
        ("opened", Event::Opened(waiting)),
        ("exhausted", Event::Exhausted),
        ("tick", Event::Tick),
        ("checked", Event::Checked),
        ("pause", Event::Pause),
        ("paused", Event::Paused),
        ("resume", Event::Resume),
        ("next", Event::Next { over_gate: false }),
        ("answered", Event::Answered { question: 1, answer: Answer::allows("") }),
        ("abort", Event::Abort),
        ("withdrawn", Event::Withdrawn),
    ];
    let mut table = String::new();
    for phase in Phase::ALL {
        for (name, event) in events.clone() {
            let counts = if phase == Phase::Ready { Counts::default() } else { one_left.counts };
            let line = match on(Header { phase, counts, waves: None }, event) {
                Ok((next, effects)) => {
                    let Counts { total, succeeded, failed, moving, .. } = next.counts;
                    let counts = format!("{succeeded} succeeded, {failed} failed, {moving} moving");
                    format!("{} ({counts} of {total}) {effects:?}", next.phase)
                }
                Err(e) => format!("rejected: {e}"),
            };
            table.push_str(&format!("{phase} + {name} -> {line}\n"));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_rollout_ends_with_the_last_device_and_not_before_all_have_joined() {
    let (waiting, done) = (Category::Waiting, Category::Succeeded);
    let begun = after(Header::default(), &[Event::Start { devices: 2 }, Event::Added(waiting)]);
    let early = after(begun, &[moved(waiting, done)]);
    assert_eq!(early.phase, Phase::Starting);
    assert_eq!(after(early.clone(), &[Event::Started]).phase, Phase::Succeeded);
    let both = after(early, &[Event::Added(waiting), Event::Started]);
    assert_eq!(both.phase, Phase::Running);
    assert_eq!(after(both, &[moved(waiting, Category::Failed)]).phase, Phase::Failed);
}

#[test]
fn the_counters_never_leave_the_rows() {
    let header = running();
    assert_eq!(
        on(header.clone(), moved(Category::Moving, Category::Succeeded)),
        Err(Rejected::Miscounted(Category::Moving))
    );
    let unconfirmed = after(header, &[moved(Category::Waiting, Category::Unconfirmed)]);
    assert_eq!(unconfirmed.counts, Counts { total: 2, unconfirmed: 1, ..Counts::default() });
}

/// Rows and header, as a server stores them.
#[derive(Debug, Clone, PartialEq)]
struct Rollout {
    header: Header,
    rows: BTreeMap<u8, Device>,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a test has few of them")]
enum Act {
    Join(u8, bool),
    Started,
    Device(u8, device::Event),
    Pause,
    /// One chunk: all devices.
    Hold,
    Resume,
    Reopen(u8),
    Abort,
    Withdrawn,
}

impl Rollout {
    fn counted(&self) -> Counts {
        let of = |c| self.rows.values().filter(|row| row.phase.category() == c).count();
        Counts {
            total: self.rows.len(),
            succeeded: of(Category::Succeeded),
            failed: of(Category::Failed),
            moving: of(Category::Moving),
            unconfirmed: of(Category::Unconfirmed),
            pending: of(Category::Pending),
            queued: of(Category::Queued),
            unreached: of(Category::Unreached),
        }
    }

    /// What a server does: loads the row and the header, steps both, and stores both or neither.
    fn act(&self, act: Act, now_s: u64) -> Option<Self> {
        let release = release();
        let limits = Limits { devices_max: 4 };
        let mut ctx = Ctx {
            now_s,
            release: &release,
            limits,
            plan: None,
            is_urgent: false,
            may_offer: true,
            room: Room::Free,
        };
        ctx.may_offer = may_offer(&self.header, &ctx) > 0;
        let mut next = self.clone();
        let event = match act {
            Act::Join(n, may_update) => {
                let eligibility = Eligibility {
                    may_update,
                    is_held: false,
                    again_s: None,
                    via: None,
                    proof: Proof::NotAsked,
                };
                let row = device::join(&eligibility, &ctx).0;
                let category = row.phase.category();
                if next.rows.insert(n, row).is_some() {
                    return None;
                }
                Event::Added(category)
            }
            Act::Started => Event::Started,
            Act::Device(n, event) => {
                let row = self.rows.get(&n)?;
                let (after, _) = device::step(row, event, &ctx).ok()?;
                let (from, to) = (row.phase.category(), after.phase.category());
                next.rows.insert(n, after);
                Event::Moved { wave: None, from, to }
            }
            Act::Pause => Event::Pause,
            Act::Hold if self.header.phase != Phase::Pausing => return None,
            Act::Hold => {
                for n in self.rows.keys() {
                    next = next.act(Act::Device(*n, device::Event::Paused), now_s).unwrap_or(next);
                }
                next.header = step(&next.header, Event::Paused, &ctx).ok()?.0;
                return Some(next);
            }
            Act::Resume => Event::Resume,
            Act::Reopen(_) if to_open(&self.header, &ctx).returned == 0 => return None,
            Act::Reopen(n) => {
                let eligibility = Eligibility {
                    may_update: true,
                    is_held: false,
                    again_s: None,
                    via: None,
                    proof: Proof::NotAsked,
                };
                let event = device::Event::Opened { wave: None, eligibility };
                return self.act(Act::Device(n, event), now_s);
            }
            Act::Abort => Event::Abort,
            Act::Withdrawn => Event::Withdrawn,
        };
        next.header = step(&self.header, event, &ctx).ok()?.0;
        Some(next)
    }
}

fn updates() -> Vec<U> {
    let target: crate::id::Version = "2".parse().unwrap();
    let reason = update::RollbackReason::Health { evidence: "x".into() };
    let contact = update::Contact::Waiting;
    vec![
        U::Idle,
        U::Staging { target: target.clone(), attempt: 1 },
        U::Staged { target: target.clone(), arm_attempts: 0 },
        U::Armed { target: target.clone() },
        U::Trying { target: target.clone() },
        U::Unconfirmed { target: target.clone(), trials: 0, contact },
        U::RolledBack { target: target.clone(), reason },
        U::Failed { target, code: update::FailureCode::StageFailed },
    ]
}

fn proofs() -> impl Strategy<Value = Proof> {
    prop_oneof![
        Just(Proof::NotAsked),
        Just(Proof::Missing),
        Just(Proof::AttestationFailed),
        Just(Proof::Of("kiosk@1".parse().unwrap())),
        Just(Proof::Of("kiosk@2".parse().unwrap())),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let gates = prop::sample::select(vec![(true, false), (false, false), (false, true)]);
    let eligibility = (gates, proofs())
        .prop_map(|((may_update, is_held), proof)| Eligibility {
            may_update,
            is_held,
            again_s: None,
            via: None,
            proof,
        })
        .boxed();
    let report = (any::<bool>(), 0..updates().len(), any::<bool>(), eligibility.clone()).prop_map(
        |(is_new, update, received_offer, eligibility)| Reported {
            running: if is_new { "kiosk@2" } else { "kiosk@1" }.parse().unwrap(),
            update: updates()[update].clone(),
            received_offer,
            eligibility,
        },
    );
    let device = prop_oneof![
        6 => report.prop_map(device::Event::Reported),
        3 => eligibility.prop_map(device::Event::Appraised),
        1 => Just(device::Event::Revoked),
    ];
    prop_oneof![
        4 => (0u8..6, any::<bool>()).prop_map(|(n, may)| Act::Join(n, may)),
        1 => Just(Act::Started),
        12 => (0u8..6, device).prop_map(|(n, event)| Act::Device(n, event)),
        2 => Just(Act::Pause),
        2 => Just(Act::Hold),
        2 => Just(Act::Resume),
        3 => (0u8..6).prop_map(Act::Reopen),
        1 => Just(Act::Abort),
        1 => Just(Act::Withdrawn),
    ]
}

proptest! {
    #[test]
    fn the_header_counts_its_rows_and_what_is_over_stays_as_it_is(
        acts in prop::collection::vec(acts(), 0..80)
    ) {
        let header = on(Header::default(), Event::Start { devices: 3 }).unwrap().0;
        let mut rollout = Rollout { header, rows: BTreeMap::new() };
        for (now_s, act) in (2..).zip(acts) {
            let Some(next) = rollout.act(act.clone(), now_s) else { continue };
            prop_assert_eq!(next.header.counts, next.counted());
            prop_assert!(!rollout.header.phase.is_terminal(), "a final phase absorbs {:?}", act);
            prop_assert!(next.rows.len() <= 4, "the limit holds");
            let finished = next.rows.values().filter(|row| row.phase.is_finished()).count();
            let held = next.rows.values().filter(|row| row.phase == DevicePhase::Held).count();
            // It does not wait for devices that a gate holds back, but for one device at least.
            let all_over = finished + held == next.rows.len() && (finished > 0 || held == 0);
            match next.header.phase {
                Phase::Running => prop_assert!(!all_over),
                Phase::Succeeded | Phase::Failed => prop_assert!(all_over),
                Phase::Ready
                | Phase::Starting
                | Phase::Pausing
                | Phase::Paused
                | Phase::Aborting
                | Phase::Aborted => {}
            }
            if rollout.header.phase == Phase::Paused {
                let offered = next.rows.iter().find(|(n, row)| {
                    row.phase == DevicePhase::Offered && rollout.rows.get(n) != Some(row)
                });
                prop_assert_eq!(offered, None, "a paused rollout moves nobody");
            }
            for (n, row) in &rollout.rows {
                if row.phase.is_finished() { prop_assert_eq!(row, &next.rows[n]); }
            }
            // A report offers the release to a device that was held. The next one is about that offer.
            let was_held = matches!(
                &act,
                Act::Device(n, device::Event::Reported(_))
                    if rollout.rows.get(n).is_some_and(|row| row.phase == DevicePhase::Held)
            );
            // The same once more: a report that is sent again.
            if !was_held && let Some(again) = next.act(act, now_s + 1) {
                prop_assert_eq!(&again, &next);
            }
            rollout = next;
        }
    }
}
