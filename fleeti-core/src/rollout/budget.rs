//! The disruption budget of a rollout: of each group of devices, so many must not update.
//!
//! A group is the devices of the rollout with the same value of a label; those without the label are
//! a group, too. It is fixed when the rollout starts. A device uses a place of its group while it has
//! the release to install, installs it, reboots, or is silent after it started.

use super::DevicePhase;
use crate::id::LabelKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest number of groups of a rollout.
pub const GROUPS_MAX: usize = 10_000;

/// How many devices of each group must not update at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutBudget)]
pub struct Budget {
    /// The label whose value is the group.
    pub group_by: LabelKey,
    /// How many devices of each group the rollout leaves alone at any time.
    pub min_available: MinAvailable,
}

/// How many devices of a group the rollout leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = RolloutMinAvailable)]
pub enum MinAvailable {
    /// This many devices.
    Count {
        /// Number of devices.
        #[schema(minimum = 1)]
        devices: usize,
    },
    /// This part of the group, rounded up.
    Percent {
        /// 1 to 99.
        percent: u8,
    },
}

impl Budget {
    /// How many devices of a group of this size may update at the same time.
    #[must_use]
    pub fn capacity(&self, total: usize) -> usize {
        let min = match self.min_available {
            MinAvailable::Count { devices } => devices,
            MinAvailable::Percent { percent } => (total * usize::from(percent)).div_ceil(100),
        };
        total.saturating_sub(min)
    }

    /// Checks that each group can move.
    ///
    /// # Errors
    /// [`NeverMoves`] for the first group that cannot.
    pub fn check<'a>(
        &self,
        groups: impl Iterator<Item = (&'a str, usize)>,
    ) -> Result<(), NeverMoves> {
        for (group, devices) in groups {
            if self.capacity(devices) == 0 {
                let (group, budget) = (self.group_words(group), self.min_available);
                return Err(NeverMoves { group, devices, budget });
            }
        }
        Ok(())
    }

    /// A group, in words.
    #[must_use]
    pub fn group_words(&self, group: &str) -> String {
        if group.is_empty() {
            format!("the group without a label {}", self.group_by)
        } else {
            format!("group {}={group:?}", self.group_by)
        }
    }
}

/// A budget that a group can never satisfy and move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{group} has {devices} devices, and {budget} must not update: none of them ever could")]
pub struct NeverMoves {
    group: String,
    devices: usize,
    budget: MinAvailable,
}

impl fmt::Display for MinAvailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { devices } => write!(f, "{devices}"),
            Self::Percent { percent } => write!(f, "{percent} %"),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.group_by, self.min_available.to_string().replace(' ', ""))
    }
}

/// A text that is no budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no budget: write LABEL:2 or LABEL:80%")]
pub struct UnknownBudget(String);

impl FromStr for Budget {
    type Err = UnknownBudget;
    fn from_str(text: &str) -> Result<Self, UnknownBudget> {
        let wrong = || UnknownBudget(text.to_owned());
        let (key, min) = text.split_once(':').ok_or_else(wrong)?;
        let min_available = match min.strip_suffix('%') {
            Some(percent) => {
                MinAvailable::Percent { percent: percent.parse().map_err(|_| wrong())? }
            }
            None => MinAvailable::Count { devices: min.parse().map_err(|_| wrong())? },
        };
        Ok(Self { group_by: key.parse().map_err(|_| wrong())?, min_available })
    }
}

/// A group of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// All devices.
    pub total: usize,
    /// Devices that use a place.
    pub in_use: usize,
}

/// Whether a group has a place for one more device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It has; or the rollout has no budget.
    Free,
    /// Not now.
    Full,
    /// It never has: too few devices are in the group.
    Never,
}

impl Group {
    /// Number of places that are free.
    #[must_use]
    pub fn free(&self, budget: &Budget) -> usize {
        budget.capacity(self.total).saturating_sub(self.in_use)
    }

    /// Whether there is a place for one more device.
    #[must_use]
    pub fn room(&self, budget: &Budget) -> Room {
        match (budget.capacity(self.total), self.free(budget)) {
            (0, _) => Room::Never,
            (_, 0) => Room::Full,
            (_, _) => Room::Free,
        }
    }

    /// A device of the group changes its phase.
    #[must_use]
    pub fn moved(self, from: &DevicePhase, to: &DevicePhase) -> Self {
        let in_use = self.in_use.saturating_sub(usize::from(from.uses_place()));
        Self { in_use: in_use + usize::from(to.uses_place()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(text: &str) -> Budget {
        text.parse().unwrap()
    }

    #[test]
    fn a_part_is_rounded_so_that_more_stay_available() {
        assert_eq!(budget("rack:2").capacity(5), 3);
        assert_eq!(budget("rack:80%").capacity(5), 1);
        assert_eq!(budget("rack:80%").capacity(9), 1);
        assert_eq!(budget("rack:50%").capacity(1), 0);
        assert_eq!(budget("rack:3").capacity(2), 0);
    }

    #[test]
    fn a_budget_that_can_never_move_is_refused_by_the_name_of_the_group() {
        let groups = [("", 4), ("a", 3), ("b", 2)];
        assert_eq!(budget("rack:1").check(groups.into_iter()), Ok(()));
        let refused = |text: &str| budget(text).check(groups.into_iter()).unwrap_err().to_string();
        assert_eq!(
            refused("rack:2"),
            "group rack=\"b\" has 2 devices, and 2 must not update: none of them ever could"
        );
        assert_eq!(
            refused("rack:4"),
            "the group without a label rack has 4 devices, and 4 must not update: none of them ever could"
        );
    }

    #[test]
    fn a_budget_is_read_and_written_in_one_form() {
        for text in ["rack:2", "site:80%"] {
            assert_eq!(budget(text).to_string(), text);
        }
        for wrong in ["rack", "rack:", ":2", "rack:-1", "Rack:2", "rack:80 %"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
