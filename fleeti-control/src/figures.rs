//! Counters of the running server, for `/metrics`.

use crate::board::state::BoardState;
use crate::error::Error;
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::problem::Code;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Mutex;

/// What became of a message of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is stored.
    Stored,
    /// It was wrong.
    Refused,
    /// The server could not store it.
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Self; 3] = [Self::Stored, Self::Refused, Self::Failed];

    fn of<T>(result: &Result<T, Error>) -> Self {
        match result.as_ref().map_err(Error::code) {
            Ok(_) => Self::Stored,
            Err(Code::Internal | Code::Unavailable | Code::Full) => Self::Failed,
            Err(_) => Self::Refused,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Kinds of messages of devices, with their names in figures.
pub(crate) const KINDS: [(Up, &str); 4] = [
    (Up::Report, "report"),
    (Up::Acknowledgement, "acknowledgement"),
    (Up::Telemetry, "telemetry"),
    (Up::Evidence, "evidence"),
];

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Figures {
    /// By kind and outcome.
    messages: [[AtomicU64; Outcome::ALL.len()]; KINDS.len()],
    /// The last numbers of devices.
    pub(crate) board: BoardState,
    /// The last text, and when it was made: anybody may ask for it, so it is not made each time.
    pub(crate) text: Mutex<Option<(Instant, String)>>,
}

impl Figures {
    /// Counts a message of a device.
    pub(crate) fn message<T>(&self, kind: Up, result: &Result<T, Error>) {
        self.at(kind, Outcome::of(result)).fetch_add(1, Ordering::Relaxed);
    }

    /// Number of messages.
    pub(crate) fn messages(&self, kind: Up, outcome: Outcome) -> u64 {
        self.at(kind, outcome).load(Ordering::Relaxed)
    }

    fn at(&self, kind: Up, outcome: Outcome) -> &AtomicU64 {
        let row = match kind {
            Up::Report => 0,
            Up::Acknowledgement => 1,
            Up::Telemetry => 2,
            Up::Evidence => 3,
        };
        let column = match outcome {
            Outcome::Stored => 0,
            Outcome::Refused => 1,
            Outcome::Failed => 2,
        };
        &self.messages[row][column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once_by_kind_and_outcome() {
        let figures = Figures::default();
        for (kind, _) in KINDS {
            figures.message(kind, &Ok(()));
            figures.message::<()>(kind, &Err(Error::new(Code::Invalid, "wrong")));
            figures.message::<()>(kind, &Err(Error::new(Code::Unavailable, "later")));
            for outcome in Outcome::ALL {
                assert_eq!(figures.messages(kind, outcome), 1, "{kind:?} {outcome:?}");
            }
        }
    }
}
