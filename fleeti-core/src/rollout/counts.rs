//! What the header of a rollout counts.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the header of a rollout counts, in the order of attention.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutCategory)]
pub enum Category {
    /// Has finished, and does not run the release.
    Failed,
    /// Ran the release and did not reach the server: neither a success nor a failure.
    Unconfirmed,
    /// Updates.
    Moving,
    /// Blocked, or offered and not yet reported.
    Waiting,
    /// Waits for its wave, or for the rollout to be resumed.
    Pending,
    /// Its wave took it, and it waits for the budget of its group, or for its next attempt.
    Queued,
    /// Was offered the release, did not start, and is not heard of; or a gate holds it back. It stops
    /// nobody.
    Unreached,
    /// Runs the release.
    Succeeded,
}

impl Category {
    /// All categories, in the order of attention.
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::Unconfirmed,
        Self::Moving,
        Self::Waiting,
        Self::Pending,
        Self::Queued,
        Self::Unreached,
        Self::Succeeded,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
            Self::Moving => "moving",
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Unreached => "unreached",
            Self::Succeeded => "succeeded",
        }
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;
    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let found = Self::ALL.into_iter().find(|category| category.name() == text);
        found.ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

/// A text that names no [`Category`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not failed, unconfirmed, moving, waiting, pending, queued, unreached or succeeded"
)]
pub struct UnknownCategory(String);

/// Number of devices in each category; those that wait are the rest of the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// All devices.
    pub total: usize,
    /// Devices that run the release.
    pub succeeded: usize,
    /// Devices that have finished and do not run the release.
    pub failed: usize,
    /// Devices that have not finished.
    pub moving: usize,
    /// Devices that ran the release but did not reach the server: neither a success nor a failure.
    #[serde(default)]
    pub unconfirmed: usize,
    /// Devices that wait for their wave, or for the rollout to be resumed.
    #[serde(default)]
    pub pending: usize,
    /// Devices that wait for the budget of their group, or for their next attempt.
    #[serde(default)]
    pub queued: usize,
    /// Devices that did not start and are not heard of, or that a gate holds back: neither a success
    /// nor a failure.
    #[serde(default)]
    pub unreached: usize,
}

impl Counts {
    /// Number of devices in a category.
    #[must_use]
    pub fn of(&self, category: Category) -> usize {
        match category {
            Category::Failed => self.failed,
            Category::Unconfirmed => self.unconfirmed,
            Category::Moving => self.moving,
            Category::Waiting => {
                let others = self.failed
                    + self.unconfirmed
                    + self.moving
                    + self.pending
                    + self.queued
                    + self.unreached
                    + self.succeeded;
                self.total.saturating_sub(others)
            }
            Category::Pending => self.pending,
            Category::Queued => self.queued,
            Category::Unreached => self.unreached,
            Category::Succeeded => self.succeeded,
        }
    }

    /// The counter of a category; devices that wait are what the others leave of the total.
    fn counter(&mut self, category: Category) -> Option<&mut usize> {
        match category {
            Category::Failed => Some(&mut self.failed),
            Category::Unconfirmed => Some(&mut self.unconfirmed),
            Category::Moving => Some(&mut self.moving),
            Category::Waiting => None,
            Category::Pending => Some(&mut self.pending),
            Category::Queued => Some(&mut self.queued),
            Category::Unreached => Some(&mut self.unreached),
            Category::Succeeded => Some(&mut self.succeeded),
        }
    }

    pub(super) fn added(mut self, category: Category) -> Self {
        self.total += 1;
        if let Some(n) = self.counter(category) {
            *n += 1;
        }
        self
    }

    /// `None` if no device is in the category that one leaves.
    pub(super) fn moved(mut self, from: Category, to: Category) -> Option<Self> {
        if self.of(from) == 0 {
            return None;
        }
        if let Some(n) = self.counter(from) {
            *n -= 1;
        }
        if let Some(n) = self.counter(to) {
            *n += 1;
        }
        Some(self)
    }

    /// Devices that have finished: what errors are a part of.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.succeeded + self.failed
    }

    /// Devices that are offered the release and have not finished: what limits of devices at the
    /// same time count.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.of(Category::Waiting) + self.moving + self.unconfirmed
    }

    /// Devices that can still finish without returning first.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.in_flight() + self.pending + self.queued
    }
}
