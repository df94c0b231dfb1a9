//! A secret that a device needs to reach its server: which of its values the device uses.
//!
//! The device holds two values: the one with which it last reached the server, and one other. "No
//! value" is a value too. [`step`] is pure. The agent stores the returned state together with the
//! values, in one file, and then applies the [`Effect`]s.
//!
//! The rule: a new value is tried beside the old one, for a limited time. If the server is not
//! reached, the old value returns. If the server is not reached with the old value either, the
//! device uses both in turn, for ever, until one of them reaches the server. So it does not matter
//! whether the value changes before, while or after the network changes.
//!
//! Code map: `state` (the states) · `event` (events, effects, and what a step may know).
//!
//! INVARIANT: the value with which the server was last reached is held; so is the newest delivered
//! one. While the server is reached, no value is tried that did not reach it before, until an
//! operator allows it or another value arrives.

mod event;
mod state;

pub use self::event::{Context, Effect, Event};
pub use self::state::{Fate, Held, Spare, State, Value};

/// How many boots a trial may take. A power cut does not end a trial; a device that restarts again
/// and again does.
pub const TRIAL_BOOTS_MAX: u8 = 3;
/// After how many boots without contact a device begins with the other value, although none of the
/// boots was long enough to wait for the server.
pub const SILENT_BOOTS_MAX: u8 = 2;

/// The next state, and what the agent must do.
pub type Next = (State, Vec<Effect>);

/// Applies an event to a secret. An event that does not apply changes nothing.
#[must_use]
pub fn step(state: &State, event: Event, ctx: &Context) -> Next {
    match event {
        Event::Delivered(value) => delivered(state, value, ctx),
        Event::Reached => reached(state),
        Event::Lost => lost(state, ctx),
        Event::Tick => tick(state, ctx),
        Event::Booted => booted(state, ctx),
        Event::Retry => retry(state, ctx),
    }
}

fn unchanged(state: &State) -> Next {
    (*state, vec![])
}

/// A delivery shows that the server was reached with the value in use.
fn delivered(state: &State, value: Value, ctx: &Context) -> Next {
    let (after, mut effects) = reached(state);
    let State::Settled { used, spare, .. } = after else { return unchanged(state) };
    if used == Some(value) || spare.is_some_and(|s| s.held == Some(value)) {
        // The same value again, for example one that did not reach the server: the report says so.
        effects.push(Effect::Report);
        return (after, effects);
    }
    let (next, more) = begun(used, value, ctx);
    effects.extend(more);
    (next, effects)
}

/// The trial of a value begins, or waits until the device may try it.
fn begun(used: Held, new: Value, ctx: &Context) -> Next {
    if !ctx.may_try {
        let spare = Some(Spare { held: Some(new), fate: Fate::Waiting });
        return (State::in_contact(used, spare), vec![Effect::Report]);
    }
    let until_s = ctx.now_s.saturating_add(ctx.try_s);
    let next = State::Trial { old: used, new, until_s, boots: 0 };
    (next, vec![Effect::Use(Some(new)), Effect::Report])
}

fn reached(state: &State) -> Next {
    match *state {
        State::Settled { used, spare, until_s, .. } => {
            // What was reported has an end of the wait for the server.
            let is_news = until_s.is_some() && spare.is_some();
            let effects = if is_news { vec![Effect::Report] } else { vec![] };
            (State::in_contact(used, spare), effects)
        }
        State::Trial { old, new, .. } => {
            let spare = Some(Spare { held: old, fate: Fate::Replaced });
            (State::in_contact(Some(new), spare), vec![Effect::Report])
        }
        State::Searching { last, other, uses_other: false, .. } => {
            (State::in_contact(last, Some(other)), vec![Effect::Report])
        }
        State::Searching { last, other, uses_other: true, .. } => {
            let spare = Some(Spare { held: last, fate: Fate::Replaced });
            (State::in_contact(other.held, spare), vec![Effect::Report])
        }
    }
}

fn lost(state: &State, ctx: &Context) -> Next {
    match *state {
        State::Settled { used, spare, until_s: None, boots } => {
            let until_s = Some(ctx.now_s.saturating_add(ctx.try_s));
            (State::Settled { used, spare, until_s, boots }, vec![])
        }
        State::Settled { .. } | State::Trial { .. } | State::Searching { .. } => unchanged(state),
    }
}

fn tick(state: &State, ctx: &Context) -> Next {
    let is_due = |until_s: u64| ctx.now_s >= until_s;
    match *state {
        State::Settled { used, spare: Some(spare), until_s: None, .. } => match spare {
            Spare { held: Some(new), fate: Fate::Waiting } if ctx.may_try => begun(used, new, ctx),
            _ => unchanged(state),
        },
        State::Settled { used, spare: Some(other), until_s: Some(until_s), .. }
            if is_due(until_s) =>
        {
            searching(used, other, true, ctx)
        }
        State::Trial { old, new, until_s, .. } if is_due(until_s) => returned(old, new, ctx),
        State::Searching { last, other, uses_other, until_s } if is_due(until_s) => {
            searching(last, other, !uses_other, ctx)
        }
        State::Settled { .. } | State::Trial { .. } | State::Searching { .. } => unchanged(state),
    }
}

/// The old value returns, because the server was not reached with the new one.
fn returned(old: Held, new: Value, ctx: &Context) -> Next {
    let spare = Spare { held: Some(new), fate: Fate::Refused { at_s: ctx.at_s } };
    let until_s = Some(ctx.now_s.saturating_add(ctx.try_s));
    let next = State::Settled { used: old, spare: Some(spare), until_s, boots: 0 };
    (next, vec![Effect::Use(old), Effect::Report])
}

/// Neither value is known to reach the server: the device uses one of them for a while.
fn searching(last: Held, other: Spare, uses_other: bool, ctx: &Context) -> Next {
    let until_s = ctx.now_s.saturating_add(ctx.period_s);
    let next = State::Searching { last, other, uses_other, until_s };
    (next, vec![Effect::Use(next.used())])
}

/// A boot: times of the previous boot mean nothing, and the value in use is no longer in memory.
fn booted(state: &State, ctx: &Context) -> Next {
    let until_s = ctx.now_s.saturating_add(ctx.try_s);
    match *state {
        State::Settled { used, spare, until_s: before, boots } => {
            // The previous boot had no contact at all.
            let boots = if before.is_some() { boots.saturating_add(1) } else { 0 };
            if let Some(other) = spare.filter(|_| boots >= SILENT_BOOTS_MAX) {
                return searching(used, other, true, ctx);
            }
            let next = State::Settled { used, spare, until_s: Some(until_s), boots };
            (next, vec![Effect::Use(used)])
        }
        // An image on trial must not be judged by a value on trial.
        State::Trial { old, new, .. } if !ctx.may_try => {
            let spare = Some(Spare { held: Some(new), fate: Fate::Waiting });
            let next = State::Settled { used: old, spare, until_s: Some(until_s), boots: 0 };
            (next, vec![Effect::Use(old), Effect::Report])
        }
        State::Trial { old, new, boots, .. } if boots + 1 < TRIAL_BOOTS_MAX => {
            let next = State::Trial { old, new, until_s, boots: boots + 1 };
            (next, vec![Effect::Use(Some(new))])
        }
        State::Trial { old, new, .. } => returned(old, new, ctx),
        // The other one, so that a device that is switched off again and again uses both.
        State::Searching { last, other, uses_other, .. } => {
            searching(last, other, !uses_other, ctx)
        }
    }
}

/// An operator asks to try a value again that did not reach the server.
fn retry(state: &State, ctx: &Context) -> Next {
    match *state {
        State::Settled {
            used,
            spare: Some(Spare { held: Some(new), fate: Fate::Refused { .. } }),
            ..
        } => begun(used, new, ctx),
        State::Settled { .. } | State::Trial { .. } | State::Searching { .. } => unchanged(state),
    }
}

#[cfg(test)]
mod tests;
