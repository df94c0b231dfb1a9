//! The life of one alert: open, acknowledged, resolved.

use serde::{Deserialize, Serialize};

/// An alert that comes back within this time after its end is the same one: it opens again, and
/// nobody is told. So what begins and ends all the time sends two messages, not hundreds.
pub const DAMP_S: u64 = 3600;

/// State of an alert.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// What it is about holds, and nobody has acknowledged it.
    Open,
    /// What it is about holds, and an operator has acknowledged it.
    Acknowledged,
    /// What it was about has ended.
    Resolved,
}

impl State {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Resolved];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// What moves an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// What it is about holds.
    Holds,
    /// What it is about has ended.
    Ended,
    /// An operator acknowledges it.
    Acknowledged,
}

/// An alert, as far as its machine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    /// Its state.
    pub state: State,
    /// When that began, Unix seconds.
    pub changed_s: u64,
    /// How often it opened.
    pub times: u32,
}

/// What follows from a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changes.
    None,
    /// It changes, and nobody is told.
    Quiet,
    /// It changes, and people are told.
    Tell,
    /// This alert is over: another one begins.
    Another,
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the alert is {now} already", now = .0.as_str())]
pub struct Rejected(pub State);

impl Alert {
    /// A new alert.
    #[must_use]
    pub const fn new(now_s: u64) -> Self {
        Self { state: State::Open, changed_s: now_s, times: 1 }
    }
}

/// The one transition function.
///
/// # Errors
/// [`Rejected`] for an acknowledgement of an alert that is not open.
pub fn step(alert: Alert, event: Event, now_s: u64) -> Result<(Alert, Effect), Rejected> {
    let to = |state, times| Alert { state, changed_s: now_s, times };
    match (alert.state, event) {
        (State::Open | State::Acknowledged, Event::Holds) => Ok((alert, Effect::None)),
        (State::Resolved, Event::Holds) if now_s.saturating_sub(alert.changed_s) < DAMP_S => {
            Ok((to(State::Open, alert.times.saturating_add(1)), Effect::Quiet))
        }
        (State::Resolved, Event::Holds) => Ok((Alert::new(now_s), Effect::Another)),
        // Only its first end is told, as only its first beginning was.
        (State::Open | State::Acknowledged, Event::Ended) => {
            let effect = if alert.times == 1 { Effect::Tell } else { Effect::Quiet };
            Ok((to(State::Resolved, alert.times), effect))
        }
        (State::Resolved, Event::Ended) => Ok((alert, Effect::None)),
        (State::Open, Event::Acknowledged) => {
            Ok((to(State::Acknowledged, alert.times), Effect::Quiet))
        }
        (State::Acknowledged | State::Resolved, Event::Acknowledged) => Err(Rejected(alert.state)),
    }
}
