//! Times in the database: Unix seconds.

/// Converts Unix seconds to the type in the database.
#[must_use]
pub fn seconds(s: u64) -> i64 {
    i64::try_from(s).unwrap_or(i64::MAX)
}

/// Converts Unix seconds from the type in the database.
#[must_use]
pub fn from_seconds(s: i64) -> u64 {
    u64::try_from(s).unwrap_or(0)
}
