//! An act that waits for the approval of a second person: its states.
//!
//! [`step`] is pure. The server stores the state that it returns, and performs an act only after the
//! commit of [`State::Approved`], at most once.

use serde::{Deserialize, Serialize};
use std::fmt;

/// State of a pending act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ApprovalState)]
pub enum State {
    /// Waits for a second person.
    Waiting,
    /// Approved, and not performed yet: its requester collects what it shows, or the server stopped
    /// meanwhile.
    Approved,
    /// Denied by a second person.
    Denied,
    /// Withdrawn by its requester.
    Withdrawn,
    /// Not approved, or not collected, in time.
    Expired,
    /// Performed.
    Done,
    /// Approved, and refused when it was performed.
    Failed,
}

/// What happens to a pending act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A second person approves it.
    Approve,
    /// A second person denies it.
    Deny,
    /// Its requester withdraws it.
    Withdraw,
    /// The server looks at the time.
    Look,
    /// It is performed.
    Perform,
    /// It is refused: by its operation, or as its requester has lost a right.
    Refuse,
}

/// An event that the state does not permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the act is {0}")]
pub struct Rejected(pub State);

impl State {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Approved,
        Self::Denied,
        Self::Withdrawn,
        Self::Expired,
        Self::Done,
        Self::Failed,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Waiting | Self::Approved => false,
            Self::Denied | Self::Withdrawn | Self::Expired | Self::Done | Self::Failed => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state after an event.
///
/// # Errors
/// [`Rejected`], with the state that does not permit the event: [`State::Expired`] for one that came
/// too late.
pub fn step(state: State, event: Event, expires_s: u64, now_s: u64) -> Result<State, Rejected> {
    let is_late = now_s > expires_s;
    match (state, event) {
        (State::Waiting | State::Approved, Event::Look) if is_late => Ok(State::Expired),
        (State::Waiting | State::Approved, Event::Look) => Ok(state),
        (State::Waiting, Event::Withdraw) => Ok(State::Withdrawn),
        (State::Waiting, Event::Deny) => Ok(State::Denied),
        (State::Waiting | State::Approved, Event::Refuse) => Ok(State::Failed),
        (State::Waiting, Event::Approve) | (State::Approved, Event::Perform) if is_late => {
            Err(Rejected(State::Expired))
        }
        (State::Waiting, Event::Approve) => Ok(State::Approved),
        (State::Approved, Event::Perform) => Ok(State::Done),
        (State::Waiting, Event::Perform)
        | (State::Approved, Event::Approve | Event::Deny | Event::Withdraw)
        | (
            State::Denied | State::Withdrawn | State::Expired | State::Done | State::Failed,
            Event::Approve
            | Event::Deny
            | Event::Withdraw
            | Event::Look
            | Event::Perform
            | Event::Refuse,
        ) => Err(Rejected(state)),
    }
}

#[cfg(test)]
mod tests;
