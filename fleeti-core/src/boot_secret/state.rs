//! The states of a secret of a device's boot.

use serde::{Deserialize, Serialize};

/// A value of the secret, by the server's number and the time at which it was set. Both together
/// name it: a server that was restored from a backup uses a number again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Number of the change of the fleet's secrets that set it.
    pub version: u64,
    /// When it was set, Unix seconds.
    pub set_s: u64,
}

/// What a device may use: a value, or none.
pub type Held = Option<Value>;

/// The value that is held beside the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// The value.
    pub held: Held,
    /// Why it is not in use.
    pub fate: Fate,
}

/// Why a held value is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Fate {
    /// The device used it before the value in use.
    Replaced,
    /// The device tried it and did not reach the server.
    Refused {
        /// When the device returned to the other value, Unix seconds.
        at_s: u64,
    },
    /// The device has not tried it yet: another trial comes first, or the image is on trial.
    Waiting,
}

/// Which value is in use, and why. Times are seconds since the device's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum State {
    /// The server was last reached with the value in use.
    Settled {
        /// The value in use.
        used: Held,
        /// The other value.
        spare: Option<Spare>,
        /// How long the device waits for the server before it uses the other value; `None` while
        /// the server is reached.
        until_s: Option<u64>,
        /// Previous boots without contact, one after the other.
        boots: u8,
    },
    /// A new value is in use, for a limited time.
    Trial {
        /// The value that returns.
        old: Held,
        /// The value in use.
        new: Value,
        /// When the trial ends.
        until_s: u64,
        /// Boots during the trial.
        boots: u8,
    },
    /// The server was not reached with either value: the device uses them in turn.
    Searching {
        /// The value with which the server was last reached.
        last: Held,
        /// The other value.
        other: Spare,
        /// Whether the other value is in use.
        uses_other: bool,
        /// When the device uses the other one of them.
        until_s: u64,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::in_contact(None, None)
    }
}

impl State {
    pub(super) const fn in_contact(used: Held, spare: Option<Spare>) -> Self {
        Self::Settled { used, spare, until_s: None, boots: 0 }
    }

    /// The value in use.
    #[must_use]
    pub const fn used(&self) -> Held {
        match *self {
            Self::Settled { used, .. } => used,
            Self::Trial { new, .. } => Some(new),
            Self::Searching { last, uses_other: false, .. } => last,
            Self::Searching { other, uses_other: true, .. } => other.held,
        }
    }

    /// The value that is held beside the one in use.
    #[must_use]
    pub const fn spare(&self) -> Option<Spare> {
        match *self {
            Self::Settled { spare, .. } => spare,
            Self::Trial { old, .. } => Some(Spare { held: old, fate: Fate::Replaced }),
            Self::Searching { other, uses_other: false, .. } => Some(other),
            Self::Searching { last, uses_other: true, .. } => {
                Some(Spare { held: last, fate: Fate::Replaced })
            }
        }
    }

    /// Whether a value is held: every other one can be deleted.
    #[must_use]
    pub fn holds(&self, value: Value) -> bool {
        self.used() == Some(value) || self.spare().is_some_and(|s| s.held == Some(value))
    }

    /// When [`super::Event::Tick`] changes the state, if nothing happens before.
    #[must_use]
    pub const fn deadline_s(&self) -> Option<u64> {
        match *self {
            Self::Settled { spare: Some(_), until_s, .. } => until_s,
            Self::Settled { .. } => None,
            Self::Trial { until_s, .. } | Self::Searching { until_s, .. } => Some(until_s),
        }
    }

    /// Whether a new value is on trial.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        matches!(self, Self::Trial { .. })
    }
}
