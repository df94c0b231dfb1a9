//! Time and ids. The clock is for checks of certificates; tests inject their own, to test what happens when the
//! signing service is away for two weeks.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use ulid::Ulid;

/// A clock, in Unix seconds.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock from a function.
    pub fn of(now_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_s))
    }
    /// Unix seconds.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system clock.
    fn default() -> Self {
        Self::of(now_s)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now_s()).finish()
    }
}

/// Unix seconds by the system's clock.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A new id: a prefix and a ULID (time in milliseconds and 80 random bits), so that rows of the
/// same time are close together in every index.
#[must_use]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", Ulid::generate().to_string().to_ascii_lowercase())
}

/// RFC 3339 in UTC.
#[must_use]
pub fn instant(s: u64) -> String {
    let at = i64::try_from(s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map_or_else(|| s.to_string(), |at| at.to_string())
}
