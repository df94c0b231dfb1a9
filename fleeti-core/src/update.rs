//! The update of one device: `stage -> arm -> reboot -> boot -> health -> commit | rolled back`.
//!
//! [`step`] is pure. The agent turns what happens into [`Event`]s, persists the returned state, and
//! then applies the [`Effect`]s. If a power cut loses the effect of a persisted state,
//! [`Event::Booted`] or [`Event::Resumed`] repeats it.
//!
//! Code map: `state` (the states) · `event` (events, effects, and what a step may know).
//!
//! INVARIANT: nothing is staged, armed or rebooted while the windows of the device do not permit it
//! ([`Context::may`]). A version that was rolled back on this device is never staged again until an
//! operator allows it; the running version is never a target; no version below the minimum version
//! is a target; an older version is never staged, and armed only to go back to it.

mod event;
mod state;

pub use self::event::{Context, Effect, Event, Rejected};
pub use self::state::{Contact, FailureCode, RollbackReason, State};

use crate::id::Version;

/// How often the device tries to stage one version.
pub const STAGE_ATTEMPTS_MAX: u8 = 5;
/// How often the device tries to arm one version.
pub const ARM_ATTEMPTS_MAX: u8 = 3;
/// How often the previous version must reach the server, where the target did not, before the
/// target counts as faulty. Once could be the end of an outage.
pub const UNREACHED_MAX: u8 = 3;

/// The next state, and what the agent must do.
type Next = (State, Vec<Effect>);

/// Applies an event to the update.
///
/// # Errors
/// [`Rejected`] if the event does not apply in the state. The caller keeps its state.
pub fn step(state: &State, event: Event, ctx: &Context<'_>) -> Result<Next, Rejected> {
    let rejected = Rejected { event: event.name(), state: state.name() };
    let next = match event {
        Event::Desired(version) => Some(desired(state, version, false, ctx)),
        Event::DesiredBack(version) => Some(desired(state, version, true, ctx)),
        Event::Refused(target, code) => refused(state, target, code),
        Event::Booted(reason) => Some(booted(state, reason, ctx)),
        Event::Resumed => Some(resumed(state, ctx)),
        Event::Opened => Some(opened(state, ctx)),
        Event::StageSucceeded => stage_succeeded(state),
        Event::StageFailed(code) => stage_failed(state, code, ctx),
        Event::MayActivate => may_activate(state, ctx),
        Event::ArmSucceeded => arm_succeeded(state, ctx),
        Event::ArmFailed => arm_failed(state),
        Event::HealthConfirmed => Some(health_confirmed(state)),
        Event::ServerReached | Event::ServerSilent => Some(contact(state, &event)),
        Event::Forgiven(version) => forgiven(state, &version),
    };
    next.ok_or(rejected)
}

/// `None` where it does not apply, as in the functions below.
fn refused(state: &State, unsuitable: Version, code: FailureCode) -> Option<Next> {
    use State as S;
    match state {
        // The version that the device is updating to turned out to be unsuitable.
        S::Staging { target, .. } | S::Staged { target, .. } if *target != unsuitable => None,
        S::Idle
        | S::Staging { .. }
        | S::Staged { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => Some((S::Failed { target: unsuitable, code }, vec![Effect::Report])),
        S::Armed { .. } | S::Trying { .. } => None,
    }
}

/// The effect, if a window permits it.
fn if_open(is_open: bool, effect: Effect) -> impl Iterator<Item = Effect> {
    is_open.then_some(effect).into_iter()
}

/// What a state waits for its window with.
fn waiting_effects(state: &State, ctx: &Context<'_>) -> Vec<Effect> {
    use State as S;
    match state {
        S::Staging { target, .. } => {
            if_open(ctx.may.download, Effect::Stage(target.clone())).collect()
        }
        S::Armed { .. } => if_open(ctx.may.reboot, Effect::Reboot).collect(),
        S::Idle
        | S::Staged { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => vec![],
    }
}

fn opened(state: &State, ctx: &Context<'_>) -> Next {
    (state.clone(), waiting_effects(state, ctx))
}

fn resumed(state: &State, ctx: &Context<'_>) -> Next {
    use State as S;
    let effects = match state {
        S::Staging { .. } => waiting_effects(state, ctx),
        // The entry is armed, but the reboot was lost.
        S::Armed { .. } => [vec![Effect::Report], waiting_effects(state, ctx)].concat(),
        S::Staged { .. }
        | S::Idle
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => vec![Effect::Report],
    };
    (state.clone(), effects)
}

fn stage_succeeded(state: &State) -> Option<Next> {
    use State as S;
    match state {
        S::Staging { target, .. } => {
            Some((S::Staged { target: target.clone(), arm_attempts: 0 }, vec![Effect::Report]))
        }
        S::Idle
        | S::Staged { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

fn stage_failed(state: &State, code: FailureCode, ctx: &Context<'_>) -> Option<Next> {
    use State as S;
    match state {
        S::Staging { target, attempt } if code.is_retryable() && *attempt < STAGE_ATTEMPTS_MAX => {
            let next = S::Staging { target: target.clone(), attempt: attempt + 1 };
            let effects = [vec![Effect::Report], waiting_effects(&next, ctx)].concat();
            Some((next, effects))
        }
        S::Staging { target, .. } => {
            Some((S::Failed { target: target.clone(), code }, vec![Effect::Report]))
        }
        S::Idle
        | S::Staged { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

fn may_activate(state: &State, ctx: &Context<'_>) -> Option<Next> {
    use State as S;
    match state {
        S::Staged { target, .. } => {
            let effects = if_open(ctx.may.install, Effect::Arm(target.clone()));
            Some((state.clone(), effects.collect()))
        }
        S::Idle
        | S::Staging { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

fn arm_succeeded(state: &State, ctx: &Context<'_>) -> Option<Next> {
    use State as S;
    match state {
        S::Staged { target, .. } => {
            let next = S::Armed { target: target.clone() };
            let effects = [vec![Effect::Report], waiting_effects(&next, ctx)].concat();
            Some((next, effects))
        }
        S::Idle
        | S::Staging { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

fn arm_failed(state: &State) -> Option<Next> {
    use State as S;
    match state {
        S::Staged { target, arm_attempts } => {
            let (target, arm_attempts) = (target.clone(), arm_attempts.saturating_add(1));
            let next = if arm_attempts < ARM_ATTEMPTS_MAX {
                S::Staged { target, arm_attempts }
            } else {
                S::Failed { target, code: FailureCode::ArmFailed }
            };
            Some((next, vec![Effect::Report]))
        }
        S::Idle
        | S::Staging { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

fn health_confirmed(state: &State) -> Next {
    use State as S;
    match state {
        S::Trying { .. } => (S::Idle, vec![Effect::Report]),
        S::Idle
        | S::Staging { .. }
        | S::Staged { .. }
        | S::Armed { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => (state.clone(), vec![]),
    }
}

fn forgiven(state: &State, version: &Version) -> Option<Next> {
    use State as S;
    match state {
        S::Unconfirmed { target, .. } | S::RolledBack { target, .. } | S::Failed { target, .. }
            if target == version =>
        {
            Some((S::Idle, vec![Effect::Report]))
        }
        S::Idle
        | S::Staging { .. }
        | S::Staged { .. }
        | S::Armed { .. }
        | S::Trying { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => None,
    }
}

/// Decides by whether the previous version reaches the server: an outage, or a faulty target.
fn contact(state: &State, event: &Event) -> Next {
    let State::Unconfirmed { target, trials, contact } = state else {
        return (state.clone(), vec![]);
    };
    let is_reached = *event == Event::ServerReached;
    let (trials, contact) = match (contact, is_reached) {
        (Contact::Waiting, true) => (trials.saturating_add(1), Contact::Reached),
        (Contact::Silent, true) => (*trials, Contact::Reached),
        (Contact::Waiting, false) => (*trials, Contact::Silent),
        (Contact::Silent, false) | (Contact::Reached, _) => return (state.clone(), vec![]),
    };
    if trials >= UNREACHED_MAX {
        let evidence = format!(
            "it did not reach the server in {trials} trials, and the previous version reached it each time"
        );
        let reason = RollbackReason::ServerUnreachable { evidence };
        return (State::RolledBack { target: target.clone(), reason }, vec![Effect::Report]);
    }
    (State::Unconfirmed { target: target.clone(), trials, contact }, vec![Effect::Report])
}

fn desired(state: &State, version: Version, is_back: bool, ctx: &Context<'_>) -> Next {
    use State as S;
    // Changes nothing and reports the state.
    let unchanged = || (state.clone(), vec![Effect::Report]);
    match state {
        // The device finishes staging, arming or a trial first. The agent keeps the desired version
        // and repeats the event then.
        S::Staging { .. } | S::Armed { .. } | S::Trying { .. } => (state.clone(), vec![]),
        S::Staged { target, .. } if *target == version => (state.clone(), vec![]),
        S::RolledBack { target, .. } if *target == version => unchanged(),
        // What is too old for an update may be what the device goes back to.
        S::Failed { target, code: FailureCode::TooOld } if *target == version && is_back => {
            gone_back(state, version, ctx)
        }
        S::Failed { target, code } if *target == version && !code.is_retryable() => unchanged(),
        // Before the server is reached, it is not known whether the target is faulty.
        S::Unconfirmed { target, contact: Contact::Waiting | Contact::Silent, .. }
            if *target == version =>
        {
            unchanged()
        }
        S::RolledBack { .. } | S::Failed { .. } if version == *ctx.running => unchanged(),
        S::Idle
        | S::Staged { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. }
            if is_back =>
        {
            gone_back(state, version, ctx)
        }
        S::Idle
        | S::Staged { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => begun(state, version, ctx),
    }
}

/// The device goes back to an older version, which its other slot has. Nothing is staged: arming
/// checks that it is there.
fn gone_back(state: &State, version: Version, ctx: &Context<'_>) -> Next {
    if version >= *ctx.running {
        return begun(state, version, ctx);
    }
    let failed = |target, code| (State::Failed { target, code }, vec![Effect::Report]);
    if version < *ctx.floor {
        return failed(version, FailureCode::TooOld);
    }
    if ctx.rolled_back.contains(&version) {
        return failed(version, FailureCode::RolledBackBefore);
    }
    (State::Staged { target: version, arm_attempts: 0 }, vec![Effect::Report])
}

/// The update to a version begins, unless the device runs it or may not install it. Until its
/// download may begin, nothing changes: the agent keeps the desired version and repeats the event.
fn begun(state: &State, version: Version, ctx: &Context<'_>) -> Next {
    if version == *ctx.running {
        return (State::Idle, vec![Effect::Report]);
    }
    let is_too_old = version < *ctx.running || version < *ctx.floor;
    if is_too_old || ctx.rolled_back.contains(&version) {
        let code = if is_too_old { FailureCode::TooOld } else { FailureCode::RolledBackBefore };
        return (State::Failed { target: version, code }, vec![Effect::Report]);
    }
    if !ctx.may.download {
        // What failed before is offered again: it has not failed again while it waits.
        let has_failed = matches!(
            state,
            State::RolledBack { target, .. } | State::Failed { target, .. } if *target == version
        );
        return if has_failed {
            (State::Idle, vec![Effect::Report])
        } else {
            (state.clone(), vec![])
        };
    }
    let effects = vec![Effect::Report, Effect::Stage(version.clone())];
    (State::Staging { target: version, attempt: 1 }, effects)
}

fn booted(state: &State, reason: Option<RollbackReason>, ctx: &Context<'_>) -> Next {
    use State as S;
    let next = match (state, reason) {
        // Also from `Staged`: a power cut can happen after arming and before the state is
        // persisted.
        (S::Staged { target, .. } | S::Armed { target } | S::Trying { target }, _)
            if target == ctx.running =>
        {
            S::Trying { target: target.clone() }
        }
        (
            S::Staged { target, .. } | S::Armed { target } | S::Trying { target },
            Some(RollbackReason::ServerUnreachable { .. }),
        ) => {
            S::Unconfirmed { target: target.clone(), trials: ctx.trials, contact: Contact::Waiting }
        }
        (S::Staged { target, .. } | S::Armed { target } | S::Trying { target }, Some(reason)) => {
            S::RolledBack { target: target.clone(), reason }
        }
        (S::Armed { target } | S::Trying { target }, None) => {
            let evidence = format!(
                "the device runs {} and the boot of {target} left nothing behind",
                ctx.running
            );
            let reason = RollbackReason::BootRefused { evidence };
            S::RolledBack { target: target.clone(), reason }
        }
        (S::Staging { .. }, _) => {
            let effects = [vec![Effect::Report], waiting_effects(state, ctx)].concat();
            return (state.clone(), effects);
        }
        (S::Staged { .. }, None)
        | (S::Idle | S::Unconfirmed { .. } | S::RolledBack { .. } | S::Failed { .. }, _) => {
            state.clone()
        }
    };
    (next, vec![Effect::Report])
}

#[cfg(test)]
mod tests;
