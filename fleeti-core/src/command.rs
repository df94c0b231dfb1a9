//! The machine of one command, as the server knows it: [`step`]. What a device does with commands
//! is [`ledger`]; how it makes a log short is [`log`].
//!
//! INVARIANT: a device's answer that a command is done, failed or cancelled is final. A command
//! that expired on the server has no answer yet: the device may have been away, and its later answer
//! is the truth.
//!
//! ```
//! use fleeti_core::command::{Event, State, step};
//! use fleeti_core::wire::command::Outcome;
//! let state = step(State::Pending, Event::Answered(Outcome::Begun)).unwrap();
//! assert_eq!(state, State::Running);
//! assert_eq!(step(state, Event::Answered(Outcome::Done)), Ok(State::Done));
//! ```

pub mod ledger;
pub mod log;

use crate::wire::command::Outcome;

/// A command that a device began and did not end expires this long after its deadline, seconds: a
/// day.
pub const OVERDUE_S: u64 = 86_400;

/// State of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The device has not answered.
    Pending,
    /// The device began.
    Running,
    /// An operator cancelled it, and the device has not answered that.
    Cancelling,
    /// Done.
    Done,
    /// The device could not do it.
    Failed,
    /// Cancelled before its end.
    Cancelled,
    /// The device refused it after its deadline, or did not answer in time.
    Expired,
}

/// What happened to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The device answered.
    Answered(Outcome),
    /// An operator cancels it.
    Cancel,
    /// Its deadline has passed.
    DeadlinePassed,
    /// [`OVERDUE_S`] after its deadline.
    Overdue,
}

/// An event that does not apply. The state does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command is {}", .0.as_str())]
pub struct Rejected(pub State);

impl State {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Cancelling,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether an answer of the device is awaited.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Cancelling => true,
            Self::Done | Self::Failed | Self::Cancelled | Self::Expired => false,
        }
    }
}

/// Applies an event to a command.
///
/// # Errors
/// [`Rejected`].
pub const fn step(state: State, event: Event) -> Result<State, Rejected> {
    match (state, event) {
        // INVARIANT: what a device answered last is final.
        (State::Done | State::Failed | State::Cancelled, _) => Err(Rejected(state)),
        (State::Cancelling, Event::Answered(Outcome::Begun) | Event::Cancel) => {
            Ok(State::Cancelling)
        }
        (State::Pending | State::Running | State::Expired, Event::Answered(Outcome::Begun)) => {
            Ok(State::Running)
        }
        (
            State::Pending | State::Running | State::Cancelling | State::Expired,
            Event::Answered(outcome),
        ) => Ok(ended(outcome)),
        (State::Pending | State::Running, Event::Cancel) => Ok(State::Cancelling),
        (State::Pending, Event::DeadlinePassed | Event::Overdue)
        | (State::Running | State::Cancelling, Event::Overdue) => Ok(State::Expired),
        (State::Running | State::Cancelling | State::Expired, Event::DeadlinePassed)
        | (State::Expired, Event::Cancel | Event::Overdue) => Err(Rejected(state)),
    }
}

const fn ended(outcome: Outcome) -> State {
    match outcome {
        Outcome::Begun => State::Running,
        Outcome::Done => State::Done,
        Outcome::Failed => State::Failed,
        Outcome::Cancelled => State::Cancelled,
        Outcome::Expired => State::Expired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    const EVENTS: [Event; 8] = [
        Event::Answered(Outcome::Begun),
        Event::Answered(Outcome::Done),
        Event::Answered(Outcome::Failed),
        Event::Answered(Outcome::Cancelled),
        Event::Answered(Outcome::Expired),
        Event::Cancel,
        Event::DeadlinePassed,
        Event::Overdue,
    ];

    #[test]
    fn the_transition_table_of_a_command_is_the_diagram() {
        let mut table = String::new();
        for state in State::ALL {
            for event in EVENTS {
                let after = match step(state, event) {
                    Ok(after) => after.as_str().to_owned(),
                    Err(rejected) => format!("rejected: {rejected}"),
                };
                writeln!(table, "{:<10}  {event:<22?}  {after}", state.as_str()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn each_state_has_its_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.as_str()), Some(state));
        }
        assert_eq!(State::named("sent"), None);
    }

    proptest! {
        #[test]
        fn a_final_answer_is_never_changed_and_every_open_command_can_end(
            events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..40),
        ) {
            let (mut state, mut last) = (State::Pending, None);
            for event in events {
                if let Ok(after) = step(state, event) {
                    prop_assert!(last.is_none(), "{state:?} became {after:?}");
                    state = after;
                    if matches!(state, State::Done | State::Failed | State::Cancelled) {
                        last = Some(state);
                    }
                }
            }
            if state.is_open() {
                prop_assert_eq!(step(state, Event::Overdue), Ok(State::Expired));
                prop_assert_eq!(step(state, Event::Answered(Outcome::Done)), Ok(State::Done));
            }
        }
    }
}
