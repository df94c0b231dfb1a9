//! The header of a rollout: its phase, and how many devices are in each category. It follows the
//! rows of the devices by differences, so that an event costs the same for every size of the fleet.
//!
//! A rollout starts and is aborted in chunks of devices: in between it is
//! [`Phase::Starting`] or [`Phase::Aborting`].

use super::asked::{Answer, Asked};
use super::plan::OnError;
use super::waves::{CHECK_S, Outcome, Waves, World};
use super::{Category, Counts, Ctx, Phase};

/// Phase and counters of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Phase of the rollout.
    pub phase: Phase,
    /// Number of devices in each category.
    pub counts: Counts,
    /// How far its waves are; `None` without a plan.
    pub waves: Option<Waves>,
}

impl Default for Header {
    fn default() -> Self {
        Self { phase: Phase::Ready, counts: Counts::default(), waves: None }
    }
}

/// What happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator starts the rollout, for about this many devices.
    Start {
        /// Number of devices in the fleet.
        devices: usize,
    },
    /// A device joined: while the rollout starts, or because it enrolled later.
    Added(Category),
    /// All devices have joined.
    Started,
    /// A device changed its category.
    Moved {
        /// The wave that it belongs to; `None` if none has taken it.
        wave: Option<u32>,
        /// The category until now.
        from: Category,
        /// The category from now on.
        to: Category,
    },
    /// The current wave took a pending device.
    Opened(Category),
    /// No pending device is left that the current wave could take.
    Exhausted,
    /// Time passed.
    Tick,
    /// The server has looked for silent devices.
    Checked,
    /// An operator pauses the rollout.
    Pause,
    /// All offers of a rollout that is paused are withdrawn.
    Paused,
    /// An operator resumes the rollout, and accepts its errors so far.
    Resume,
    /// An operator begins the next wave, whatever it waits for but the webhook gate.
    Next {
        /// Whether it does not wait for that, either.
        over_gate: bool,
    },
    /// The webhook gate answered a question.
    Answered {
        /// Number of the question.
        question: u32,
        /// What it said.
        answer: Answer,
    },
    /// An operator aborts the rollout.
    Abort,
    /// All offers of an aborted rollout are withdrawn.
    Withdrawn,
}

impl Event {
    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Added(_) => "added",
            Self::Started => "started",
            Self::Moved { .. } => "moved",
            Self::Opened(_) => "opened",
            Self::Exhausted => "exhausted",
            Self::Tick => "tick",
            Self::Checked => "checked",
            Self::Pause => "pause",
            Self::Paused => "paused",
            Self::Resume => "resume",
            Self::Next { .. } => "next",
            Self::Answered { .. } => "answered",
            Self::Abort => "abort",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What the server must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Add the devices of the fleet, in chunks; then [`Event::Started`].
    AddDevices,
    /// Withdraw the offers, in chunks; then [`Event::Withdrawn`].
    WithdrawOffers,
    /// Withdraw the offers, whose devices are then pending, in chunks; then [`Event::Paused`].
    PauseOffers,
    /// Ask the webhook gate whether the current wave may begin; then [`Event::Answered`].
    Ask {
        /// Number of the question.
        question: u32,
    },
    /// Publish a change event.
    Publish,
}

/// An event that does not apply to a rollout. The header does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The phase does not permit the event.
    #[error("{event} does not apply to a rollout that is {phase}")]
    Phase {
        /// The event's name.
        event: &'static str,
        /// The rollout's phase.
        phase: Phase,
    },
    /// The rollout has no devices.
    #[error("the fleet has no devices; enroll one first")]
    NoDevices,
    /// The rollout has too many devices.
    #[error("{devices} devices, expected at most {max}")]
    TooMany {
        /// Number of devices.
        devices: usize,
        /// The limit.
        max: usize,
    },
    /// The rollout has no waves.
    #[error("the rollout has no waves: it was offered to everybody when it started")]
    NoWaves,
    /// Devices of the current wave update.
    #[error("{devices} devices have not finished; wait for them, or abort the rollout")]
    NotDue {
        /// Number of devices.
        devices: usize,
    },
    /// The wave waits for an answer of the webhook gate.
    #[error("the webhook gate is asked, and has not allowed the wave: {said}")]
    Gate {
        /// What it said.
        said: String,
    },
    /// An answer of the webhook gate that nothing waits for.
    #[error("nothing waits for an answer to question {question}")]
    Unasked {
        /// Number of the question.
        question: u32,
    },
    /// The counters contradict the rows: no device is in the category that one leaves.
    #[error("no device is counted as {0:?}")]
    Miscounted(Category),
}

/// Applies an event to the header of a rollout.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its header.
pub fn step(
    header: &Header,
    event: Event,
    ctx: &Ctx<'_>,
) -> Result<(Header, Vec<Effect>), Rejected> {
    if !applies(header.phase, &event) {
        return Err(Rejected::Phase { event: event.name(), phase: header.phase });
    }
    let mut next = header.clone();
    match event {
        Event::Start { devices } => {
            if devices == 0 {
                return Err(Rejected::NoDevices);
            }
            fits(devices, ctx)?;
            next.phase = Phase::Starting;
            next.waves = ctx.plan.map(|_| Waves::default());
        }
        Event::Added(category) => {
            fits(header.counts.total + 1, ctx)?;
            next.counts = header.counts.added(category);
            // The current wave may take it.
            next.waves.iter_mut().for_each(|waves| waves.exhausted = false);
        }
        Event::Started => next.phase = Phase::Running,
        Event::Moved { wave, from, to } => moved(&mut next, wave, (from, to), ctx)?,
        Event::Opened(to) => opened(&mut next, to, ctx)?,
        Event::Exhausted => next.waves.as_mut().ok_or(Rejected::NoWaves)?.exhausted = true,
        Event::Checked => next.waves.as_mut().ok_or(Rejected::NoWaves)?.checked_s = ctx.now_s,
        Event::Tick => {}
        Event::Pause => next.phase = Phase::Pausing,
        Event::Paused => next.phase = Phase::Paused,
        Event::Resume => {
            next.phase = Phase::Running;
            next.waves.iter_mut().for_each(|waves| waves.excuse(&header.counts));
        }
        Event::Next { over_gate } => next = go_on(next, over_gate, ctx)?,
        Event::Answered { question, answer } => {
            let waves = next.waves.as_mut().ok_or(Rejected::NoWaves)?;
            let taken = waves.answered(question, answer, ctx.now_s);
            taken.ok_or(Rejected::Unasked { question })?;
        }
        Event::Abort if header.phase == Phase::Ready => next.phase = Phase::Aborted,
        Event::Abort => next.phase = Phase::Aborting,
        Event::Withdrawn => next.phase = Phase::Aborted,
    }
    let mut after = ended(advanced(next, ctx));
    if after.phase != Phase::Running {
        after.waves.iter_mut().for_each(Waves::stopped);
    }
    let effects = effects(header, &after);
    Ok((after, effects))
}

/// Whether a phase permits an event.
fn applies(phase: Phase, event: &Event) -> bool {
    match event {
        Event::Start { .. } => phase == Phase::Ready,
        Event::Started => phase == Phase::Starting,
        // A device that enrolls while the rollout runs joins it.
        Event::Added(_) | Event::Moved { .. } => is_going(phase),
        Event::Opened(_)
        | Event::Exhausted
        | Event::Tick
        | Event::Checked
        | Event::Pause
        | Event::Answered { .. }
        | Event::Next { .. } => phase == Phase::Running,
        Event::Paused => phase == Phase::Pausing,
        Event::Resume => phase == Phase::Paused,
        Event::Abort => phase == Phase::Ready || is_going(phase),
        Event::Withdrawn => phase == Phase::Aborting,
    }
}

/// Whether devices take part, though they may have to wait.
fn is_going(phase: Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Running | Phase::Pausing | Phase::Paused => true,
        Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborting | Phase::Aborted => false,
    }
}

fn effects(before: &Header, after: &Header) -> Vec<Effect> {
    let mut effects = Vec::new();
    if after.phase != before.phase {
        match after.phase {
            Phase::Starting => effects.push(Effect::AddDevices),
            Phase::Aborting => effects.push(Effect::WithdrawOffers),
            Phase::Pausing => effects.push(Effect::PauseOffers),
            Phase::Ready
            | Phase::Running
            | Phase::Paused
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborted => {}
        }
    }
    let question = |header: &Header| header.waves.as_ref()?.gate.as_ref().map(|a| a.question);
    if let Some(question) = question(after).filter(|_| question(before) != question(after)) {
        effects.push(Effect::Ask { question });
    }
    let stage = |header: &Header| {
        let said = |waves: &Waves| waves.gate.as_ref().map(|asked| asked.answer.clone());
        header.waves.as_ref().map(|waves| (waves.current, waves.stage, said(waves)))
    };
    let has_moved = before.counts.total == after.counts.total && before.counts != after.counts;
    if after.phase != before.phase || stage(before) != stage(after) || has_moved {
        effects.push(Effect::Publish);
    }
    effects
}

fn fits(devices: usize, ctx: &Ctx<'_>) -> Result<(), Rejected> {
    let max = ctx.limits.devices_max;
    if devices > max { Err(Rejected::TooMany { devices, max }) } else { Ok(()) }
}

/// What the waves are computed from; `None` without a plan.
fn world<'a>(counts: &'a Counts, ctx: &Ctx<'a>) -> Option<World<'a>> {
    let Ctx { now_s, is_urgent, .. } = *ctx;
    ctx.plan.map(|plan| World { totals: counts, plan, is_urgent, now_s })
}

/// A device changed its category. One that was without an offer and now waits has one.
fn moved(
    header: &mut Header,
    wave: Option<u32>,
    (from, to): (Category, Category),
    ctx: &Ctx<'_>,
) -> Result<(), Rejected> {
    let miscounted = Rejected::Miscounted(from);
    header.counts = header.counts.moved(from, to).ok_or(miscounted.clone())?;
    let Some(waves) = &mut header.waves else { return Ok(()) };
    if let Some(wave) = wave {
        waves.moved(wave, from, to).ok_or(miscounted)?;
    }
    let is_offer = match from {
        Category::Pending | Category::Unreached | Category::Failed => to == Category::Waiting,
        Category::Unconfirmed
        | Category::Moving
        | Category::Waiting
        | Category::Queued
        | Category::Succeeded => false,
    };
    if is_offer && let Some(world) = world(&header.counts, ctx) {
        waves.offer(world);
    }
    Ok(())
}

/// The current wave took a pending device.
fn opened(header: &mut Header, to: Category, ctx: &Ctx<'_>) -> Result<(), Rejected> {
    let from = Category::Pending;
    header.counts = header.counts.moved(from, to).ok_or(Rejected::Miscounted(from))?;
    let waves = header.waves.as_mut().ok_or(Rejected::NoWaves)?;
    waves.take(to);
    if to != Category::Queued
        && let Some(world) = world(&header.counts, ctx)
    {
        waves.offer(world);
    }
    Ok(())
}

/// Begins the next wave, because an operator says so.
fn go_on(mut header: Header, over_gate: bool, ctx: &Ctx<'_>) -> Result<Header, Rejected> {
    let (Some(waves), Some(world)) = (&mut header.waves, world(&header.counts, ctx)) else {
        return Err(Rejected::NoWaves);
    };
    let devices = waves.unfinished(world);
    if devices > 0 {
        return Err(Rejected::NotDue { devices });
    }
    let outcome = waves.go_on(world, over_gate).ok_or_else(|| Rejected::Gate {
        said: waves.gate.as_ref().map_or_else(String::new, Asked::words),
    })?;
    Ok(Header { phase: phase_after(outcome, world), ..header })
}

/// Goes as far as time and counters permit.
fn advanced(mut header: Header, ctx: &Ctx<'_>) -> Header {
    if header.phase == Phase::Running
        && let (Some(waves), Some(world)) = (&mut header.waves, world(&header.counts, ctx))
    {
        let outcome = waves.advance(world);
        header.phase = phase_after(outcome, world);
    }
    header
}

fn phase_after(outcome: Outcome, world: World<'_>) -> Phase {
    match (outcome, world.plan.on_error) {
        (Outcome::Going, _) => Phase::Running,
        (Outcome::Done, _) => Phase::Succeeded,
        (Outcome::TooManyErrors, OnError::Pause) => Phase::Pausing,
        (Outcome::TooManyErrors, OnError::Abort | OnError::RollBack) => Phase::Aborting,
    }
}

/// Ends a running rollout without waves if all devices have finished. It does not wait for devices
/// that a gate holds back.
fn ended(header: Header) -> Header {
    let Counts { total, succeeded, failed, unreached, .. } = header.counts;
    if header.phase != Phase::Running || header.waves.is_some() {
        return header;
    }
    let is_over = succeeded + failed + unreached == total;
    let phase = if is_over && failed == 0 && succeeded > 0 {
        Phase::Succeeded
    } else if is_over && (failed > 0 || total == 0) {
        Phase::Failed
    } else {
        Phase::Running
    };
    Header { phase, ..header }
}

/// Number of devices that the release may be offered to now: those that return, and in
/// [`to_open`] those that the current wave takes.
#[must_use]
pub fn may_offer(header: &Header, ctx: &Ctx<'_>) -> usize {
    match (header.phase, &header.waves, world(&header.counts, ctx)) {
        (Phase::Running, Some(waves), Some(world)) => waves.places(world),
        (Phase::Starting | Phase::Running, None, _) => usize::MAX,
        (Phase::Starting, Some(_), _)
        | (Phase::Running, Some(_), None)
        | (
            Phase::Ready
            | Phase::Pausing
            | Phase::Paused
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborting
            | Phase::Aborted,
            _,
            _,
        ) => 0,
    }
}

/// Pending devices that are to be offered the release now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToOpen {
    /// Devices of waves that have begun, which return. Without waves: all that are pending.
    pub returned: usize,
    /// Devices that the current wave takes.
    pub new: usize,
}

/// Pending devices that are to be offered the release now.
#[must_use]
pub fn to_open(header: &Header, ctx: &Ctx<'_>) -> ToOpen {
    if header.phase != Phase::Running {
        return ToOpen::default();
    }
    let (Some(waves), Some(world)) = (&header.waves, world(&header.counts, ctx)) else {
        return ToOpen { returned: header.counts.pending, new: 0 };
    };
    let places = waves.places(world);
    let returned = waves.returned().min(places);
    ToOpen { returned, new: waves.left(world).min(places - returned) }
}

/// Whether the server should look for silent devices, and for those whose pause has ended.
#[must_use]
pub fn is_check_due(header: &Header, now_s: u64) -> bool {
    let checked = header.waves.as_ref().map(|waves| waves.checked_s);
    header.phase == Phase::Running
        && header.counts.in_flight() + header.counts.queued > 0
        && checked.is_some_and(|checked_s| now_s >= checked_s.saturating_add(CHECK_S))
}

/// When a running rollout has something to do without an event, Unix seconds.
#[must_use]
pub fn due_s(header: &Header, ctx: &Ctx<'_>) -> Option<u64> {
    if header.phase != Phase::Running {
        return None;
    }
    match (&header.waves, world(&header.counts, ctx)) {
        (Some(waves), Some(world)) => waves.due_s(world),
        (Some(_), None) | (None, _) => (header.counts.pending > 0).then_some(ctx.now_s),
    }
}

#[cfg(test)]
mod tests;
