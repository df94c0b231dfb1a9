//! The penalty box: a version that failed on a device is not offered to it again at once.

use crate::id::Version;
use crate::update::State;
use serde::{Deserialize, Serialize};

/// How long a version waits after its first failure, seconds.
pub const FIRST_S: u64 = 600;
/// The longest wait, seconds.
pub const LONGEST_S: u64 = 86_400;

/// A version that failed on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdatePenalty)]
pub struct Penalty {
    /// The version.
    pub version: Version,
    /// How often it failed in succession.
    pub failures: u32,
    /// When it may be offered again, Unix seconds; absent until an operator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<u64>,
}

impl Penalty {
    /// Whether a version is not offered at a time. A higher version is.
    #[must_use]
    pub fn closes(&self, version: &Version, now_s: u64) -> bool {
        *version <= self.version && self.until_s.is_none_or(|until_s| now_s < until_s)
    }
}

/// The penalty after an update has ended without success; `None` if it did not. The wait doubles
/// with each failure. A version that was rolled back, or that the device refuses for good, waits
/// for an operator.
#[must_use]
pub fn after_failure(before: Option<&Penalty>, update: &State, now_s: u64) -> Option<Penalty> {
    let (version, may_retry) = match update {
        State::RolledBack { target, .. } => (target, false),
        State::Failed { target, code } => (target, code.is_retryable()),
        State::Idle
        | State::Staging { .. }
        | State::Staged { .. }
        | State::Armed { .. }
        | State::Trying { .. }
        | State::Unconfirmed { .. } => return None,
    };
    let earlier = before.filter(|penalty| penalty.version == *version);
    let failures = earlier.map_or(0, |penalty| penalty.failures).saturating_add(1);
    let wait_s = FIRST_S.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_S);
    let until_s = may_retry.then(|| now_s.saturating_add(wait_s));
    Some(Penalty { version: version.clone(), failures, until_s })
}
