//! Lets rules judge observations, and stores what follows, in the transaction of the observation.

use super::about::About;
use super::windows;
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::alert::state::{Alert as Machine, Effect, Event, State, step};
use fleeti_core::alert::{Kind, Observation, Rule, Verdict};
use fleeti_core::attestation::Level;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::alerts::{Alert, AlertChange};
use fleeti_store::alerts::{AlertRow, Counted, Pace};
use fleeti_store::{self as store, Tx};

/// Time from the first alert of a group to its message: an outage of a site reaches its devices
/// within this time.
pub(super) const GROUP_WAIT_S: u64 = 30;
/// Shortest time between two messages about a rule in a fleet.
const GROUP_INTERVAL_S: u64 = 300;

/// What a judgement did.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Whether an alert changed.
    pub(super) has_changed: bool,
    /// When to look again because of time, Unix seconds.
    pub(super) again_s: Option<u64>,
    /// Kinds of which an alert ended.
    pub(super) ended: Vec<Kind>,
}

/// Judges observations of one device, one fleet or the server, by every rule that watches it. `active` are
/// its alerts that are not resolved; an alert whose rule does not watch it any more ends.
pub(super) async fn observe(
    cx: &Context,
    tx: &mut Tx<'_>,
    about: About<'_>,
    observations: &[Observation<'_>],
    active: Vec<AlertRow>,
) -> Result<Judged, Error> {
    let (rules, mut judged) = (cx.alerts.rules(), Judged::default());
    let (subject, mut active) = (about.subject(), active);
    let watching = rules.iter().filter(|rule| rule.watches(subject, about.fleet()));
    // A moved device: those who see its new fleet see its alerts, and the others do not.
    for row in active.iter_mut().filter(|row| row.alert.fleet.as_ref() != about.fleet()) {
        row.alert.fleet = about.fleet().cloned();
        store::alerts::update(tx, &row.alert).await?;
        judged.has_changed = true;
    }
    for rule in watching {
        let position = active.iter().position(|row| row.alert.rule == rule.id);
        let row = position.map(|n| active.swap_remove(n));
        for observation in observations {
            let observation = since_it_began(*observation, row.as_ref());
            let Some(verdict) = rule.judge(&observation) else { continue };
            if let Verdict::EndsUntil(at_s) = verdict {
                judged.again_s = Some(judged.again_s.map_or(at_s, |other| other.min(at_s)));
            }
            let changed = match (verdict, row.as_ref()) {
                (Verdict::Holds(words), None) => {
                    raise(cx, tx, (rule, about), &words, &observation).await?;
                    true
                }
                (Verdict::Holds(words), Some(row)) => say(cx, tx, row, words).await?,
                (Verdict::Ends | Verdict::EndsUntil(_), Some(row)) => {
                    end(cx, tx, row, "").await?;
                    judged.ended.push(rule.kind);
                    true
                }
                (Verdict::Ends | Verdict::EndsUntil(_), None) | (Verdict::Unchanged, _) => false,
            };
            judged.has_changed |= changed;
        }
    }
    for row in &active {
        end(cx, tx, row, "the rule does not watch it any more").await?;
        judged.has_changed = true;
    }
    Ok(judged)
}

/// An alert about a level holds until the level is what it was when the alert began, and one about fixes
/// until none waits for its release.
fn since_it_began<'a>(observation: Observation<'a>, row: Option<&AlertRow>) -> Observation<'a> {
    let began = row.and_then(|row| usize::try_from(row.level?).ok());
    match (observation, began.and_then(|level| Level::ALL.get(level))) {
        (Observation::Level { now, .. }, Some(before)) => {
            Observation::Level { before: *before, now }
        }
        (Observation::Fixes { release, count, since_s, now_s, .. }, _) => {
            let is_open = row.is_some_and(|row| is_about_release(&row.alert, release));
            Observation::Fixes { release, count, since_s, is_open, now_s }
        }
        (observation, _) => observation,
    }
}

/// Whether an alert about fixes is about this release, which its text begins with.
pub(super) fn is_about_release(alert: &Alert, release: &ReleaseName) -> bool {
    alert.detail.split(' ').next() == Some(release.to_string().as_str())
}

pub(super) fn machine(alert: &Alert) -> Machine {
    Machine { state: alert.state, changed_s: alert.changed_s, times: alert.times }
}

fn refused(e: fleeti_core::alert::state::Rejected) -> Error {
    Error::internal(e.to_string())
}

async fn raise(
    cx: &Context,
    tx: &mut Tx<'_>,
    (rule, about): (&Rule, About<'_>),
    words: &str,
    observation: &Observation<'_>,
) -> Result<(), Error> {
    let now_s = cx.now_s();
    let of_window = windows::silenced_until_s(cx, tx, rule.kind, about).await?;
    let silenced_until_s = cx.alerts.silenced_until_s(&rule.id, about, now_s).max(of_window);
    let last = store::alerts::newest(tx, &rule.id, (about.fleet(), about.device())).await?;
    let mut next = Machine::new(now_s);
    let again = match last {
        Some(row) => {
            let (stepped, effect) =
                step(machine(&row.alert), Event::Holds, now_s).map_err(refused)?;
            next = stepped;
            (effect == Effect::Quiet).then_some(row.alert)
        }
        None => None,
    };
    let is_new = again.is_none();
    let alert = Alert {
        id: again.as_ref().map_or_else(|| new_id("alert"), |alert| alert.id.clone()),
        rule: rule.id.clone(),
        kind: rule.kind,
        severity: again.as_ref().map_or(rule.severity, |alert| alert.severity),
        device: about.device().cloned(),
        fleet: about.fleet().cloned(),
        state: next.state,
        detail: words.chars().take(500).collect(),
        since_s: again.as_ref().map_or(now_s, |alert| alert.since_s),
        changed_s: next.changed_s,
        times: next.times,
        silenced_until_s,
    };
    let level = match observation {
        Observation::Level { before, .. } => Some(*before as i64),
        _ => None,
    };
    let row = AlertRow { alert, level };
    if is_new {
        store::alerts::insert(tx, &row).await?;
    } else {
        store::alerts::update(tx, &row.alert).await?;
    }
    add_change(tx, &row.alert, words).await?;
    let is_other = again.as_ref().is_some_and(|alert| is_other_alarm(alert, words));
    if (is_new || is_other) && silenced_until_s.is_none() {
        tell(cx, tx, &row.alert, Counted { raised: 1, resolved: 0 }).await?;
    }
    Ok(())
}

/// Whether an alarm is of another kind than the alert says. It is news, also while an earlier alarm
/// lasts: a device must not hide it.
fn is_other_alarm(alert: &Alert, words: &str) -> bool {
    alert.kind == Kind::Alarm && AlarmKind::of(&alert.detail) != AlarmKind::of(words)
}

/// Updates the text of an alert that goes on, if the text says what is wrong and not how much.
/// Returns whether others should hear of it: another alarm, or other fixes.
async fn say(cx: &Context, tx: &mut Tx<'_>, row: &AlertRow, words: String) -> Result<bool, Error> {
    let alert = &row.alert;
    let is_text = matches!(alert.kind, Kind::Alarm | Kind::FailedUpdate | Kind::Fixes);
    let detail: String = words.chars().take(500).collect();
    if !is_text || alert.detail == detail {
        return Ok(false);
    }
    let is_other = is_other_alarm(alert, &detail);
    let mut next = Alert { detail, ..alert.clone() };
    if is_other {
        (next.state, next.changed_s) = (State::Open, cx.now_s());
    }
    store::alerts::update(tx, &next).await?;
    if is_other {
        add_change(tx, &next, &words).await?;
        if next.silenced_until_s.is_none() {
            tell(cx, tx, &next, Counted { raised: 1, resolved: 0 }).await?;
        }
    }
    Ok(is_other || alert.kind == Kind::Fixes)
}

/// Ends an alert.
pub(super) async fn end(
    cx: &Context,
    tx: &mut Tx<'_>,
    row: &AlertRow,
    why: &str,
) -> Result<(), Error> {
    let (next, effect) = step(machine(&row.alert), Event::Ended, cx.now_s()).map_err(refused)?;
    let was_silenced = row.alert.silenced_until_s.is_some();
    let alert = Alert {
        state: next.state,
        changed_s: next.changed_s,
        silenced_until_s: None,
        ..row.alert.clone()
    };
    store::alerts::update(tx, &alert).await?;
    add_change(tx, &alert, why).await?;
    if effect == Effect::Tell && !was_silenced {
        tell(cx, tx, &alert, Counted { raised: 0, resolved: 1 }).await?;
    }
    Ok(())
}

async fn add_change(tx: &mut Tx<'_>, alert: &Alert, note: &str) -> Result<(), Error> {
    debug_assert!(alert.state != State::Acknowledged, "only an operator acknowledges");
    let note = note.chars().take(200).collect();
    let change =
        AlertChange { at_s: alert.changed_s, state: alert.state, by: "server".into(), note };
    Ok(store::alerts::add_change(tx, &alert.id, &change).await?)
}

/// Adds an alert to the next message about its rule and fleet.
pub(super) async fn tell(
    cx: &Context,
    tx: &mut Tx<'_>,
    alert: &Alert,
    counted: Counted,
) -> Result<(), Error> {
    let pace = Pace { now_s: cx.now_s(), wait_s: GROUP_WAIT_S, interval_s: GROUP_INTERVAL_S };
    let group = (alert.rule.as_str(), alert.fleet.as_ref());
    Ok(store::alerts::add_to_group(tx, group, counted, pace).await?)
}
