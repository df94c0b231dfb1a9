//! Alerts: rules, what they judge, and the life of an alert.
//!
//! A rule is data: a kind, a threshold, a severity and fleets. [`Rule::judge`] compares it with one
//! [`Observation`]. [`state`] is the state machine of one alert. Nothing here looks at a fleet: an
//! observation is of one device, of one fleet as a whole, or of the server.

mod kind;
mod observation;
pub mod state;

pub use kind::{Kind, Severity, Subject};
pub use observation::{DISK_CLEARANCE, Observation, Verdict};

use crate::id::{FleetId, ID_MAX, is_word};
use serde::{Deserialize, Serialize};

/// Maximum number of rules that an operator adds or changes.
pub const RULES_MAX: usize = 100;
/// Maximum number of fleets of a rule.
pub const RULE_FLEETS_MAX: usize = 200;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rule {
    /// Its id: 1 to 64 characters of a-z, 0-9 and '-'.
    pub id: String,
    /// What it watches.
    pub kind: Kind,
    /// From which value on it raises an alert, in the unit of its kind.
    pub threshold: u64,
    /// How severe its alerts are.
    pub severity: Severity,
    /// Fleets that it watches; empty for all. A rule about the server has none.
    pub fleets: Vec<FleetId>,
    /// Whether it raises alerts.
    pub enabled: bool,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Not an id.
    #[error(
        "id {0:?}: must be 1 to {ID_MAX} characters of a-z, 0-9 and '-', starting with a letter or digit"
    )]
    Id(String),
    /// The threshold is outside the range of the kind.
    #[error("threshold is {threshold}, must be {min} to {max} ({unit}) for {kind}", kind = kind.code(), unit = kind.unit())]
    Threshold {
        /// The kind.
        kind: Kind,
        /// The threshold.
        threshold: u64,
        /// Smallest threshold.
        min: u64,
        /// Largest threshold.
        max: u64,
    },
    /// Too many fleets.
    #[error("fleets: {0} are too many, at most {RULE_FLEETS_MAX} are allowed")]
    Fleets(usize),
    /// A rule about the server names fleets.
    #[error("fleets: {kind} is about the server, not about fleets", kind = .0.code())]
    OfServer(Kind),
    /// A shipped rule gets another kind.
    #[error("kind: the shipped rule {id} watches {kind}; add a rule with another id", kind = kind.code())]
    Kind {
        /// The rule.
        id: String,
        /// Its kind.
        kind: Kind,
    },
}

impl Rule {
    /// The rules that are shipped: one for each kind, with its code as id. An operator changes them,
    /// and gets them back by removing the change.
    #[must_use]
    pub fn shipped() -> Vec<Self> {
        Kind::ALL
            .into_iter()
            .map(|kind| Self {
                id: kind.code().to_owned(),
                kind,
                threshold: kind.default_threshold(),
                severity: kind.default_severity(),
                fleets: vec![],
                enabled: true,
            })
            .collect()
    }

    /// The shipped rules, with the changed and added ones of an operator in place.
    #[must_use]
    pub fn effective(changed: Vec<Self>) -> Vec<Self> {
        let is_changed = |id: &str| changed.iter().any(|rule| rule.id == id);
        let mut rules: Vec<_> =
            Self::shipped().into_iter().filter(|r| !is_changed(&r.id)).collect();
        rules.extend(changed);
        rules.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        rules
    }

    /// Checks what an operator wrote.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn check(&self) -> Result<(), RuleError> {
        if !is_word(&self.id, ID_MAX) {
            return Err(RuleError::Id(self.id.clone()));
        }
        if let Some(kind) = Kind::ALL.into_iter().find(|k| k.code() == self.id && *k != self.kind) {
            return Err(RuleError::Kind { id: self.id.clone(), kind });
        }
        let (min, max) = self.kind.thresholds();
        if !(min..=max).contains(&self.threshold) {
            let (kind, threshold) = (self.kind, self.threshold);
            return Err(RuleError::Threshold { kind, threshold, min, max });
        }
        if self.fleets.len() > RULE_FLEETS_MAX {
            return Err(RuleError::Fleets(self.fleets.len()));
        }
        if !self.fleets.is_empty() && self.kind.subject() == Subject::Server {
            return Err(RuleError::OfServer(self.kind));
        }
        Ok(())
    }

    /// Whether it watches devices of a fleet, the fleet itself, or the server, which has no fleet.
    #[must_use]
    pub fn watches(&self, subject: Subject, fleet: Option<&FleetId>) -> bool {
        let is_its_fleet = match (subject, fleet) {
            (Subject::Server, None) => true,
            (Subject::Device | Subject::Fleet, Some(fleet)) => {
                self.fleets.is_empty() || self.fleets.contains(fleet)
            }
            (Subject::Server, Some(_)) | (Subject::Device | Subject::Fleet, None) => false,
        };
        self.enabled && self.kind.subject() == subject && is_its_fleet
    }
}

#[cfg(test)]
mod tests;
