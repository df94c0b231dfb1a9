//! Local time: when a window begins and ends.
//!
//! A time of the day that does not exist, because clocks are set forward over it, stands for the
//! moment at which they are. A time that happens twice stands for the first of both where a window
//! begins, and for the second where it ends: the window opens once, and lasts longer.

use super::line::Window;
use super::zone::of;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use std::ops::Range;

/// Days in which the next time of a window is looked for: a window of one day of the week that does
/// not open once, because clocks are set forward over it, opens a week later.
const DAYS_AHEAD: i64 = 15;

/// A moment at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local<'a> {
    /// Unix seconds.
    pub now_s: u64,
    /// The zone of the device, for windows that name none. One that is unknown stands for UTC.
    pub zone: &'a str,
}

/// The times of a window around now, Unix seconds: none that ended, and those of two weeks.
pub(super) fn times(window: &Window, at: Local<'_>) -> Vec<Range<u64>> {
    let zone = of(window.zone().unwrap_or(at.zone));
    // The last second that the calendar has; no clock is right then.
    let now = i64::try_from(at.now_s).ok().and_then(|s| Timestamp::from_second(s).ok());
    let Some(now) = now else { return Vec::new() };
    let today = zone.to_datetime(now).date();
    (-1..DAYS_AHEAD)
        .filter_map(|n| today.checked_add(Span::new().days(n)).ok())
        .filter(|date| window.begins_on(monday_is_zero(*date)))
        .filter_map(|date| time(window, date, &zone))
        .filter(|time| time.end > at.now_s)
        .collect()
}

/// As [`times`], without the end of each, in which a job would not fit.
pub(super) fn begins(window: &Window, at: Local<'_>) -> Vec<Range<u64>> {
    let fits_s = window.fits_s();
    // A job that fits exactly may begin.
    let shorter = |time: Range<u64>| match fits_s {
        0 => time,
        fits_s => time.start..time.end.saturating_sub(fits_s).saturating_add(1),
    };
    times(window, at).into_iter().map(shorter).filter(|time| time.start < time.end).collect()
}

impl Window {
    /// When it next begins after a moment, Unix seconds. A window without a zone is in UTC. `None`
    /// if it does not within two weeks, or the moment is beyond the calendar.
    #[must_use]
    pub fn begins_after(&self, after_s: u64) -> Option<u64> {
        let at = Local { now_s: after_s, zone: "Etc/UTC" };
        begins(self, at).into_iter().map(|time| time.start).filter(|start| *start > after_s).min()
    }

    /// Whether it says how long a job takes.
    #[must_use]
    pub fn has_fits(&self) -> bool {
        self.fits_s() > 0
    }

    /// Whether it is open, so that what it is for may begin. A window without a zone is in UTC.
    #[must_use]
    pub fn is_open(&self, now_s: u64) -> bool {
        let at = Local { now_s, zone: "Etc/UTC" };
        begins(self, at).iter().any(|time| time.contains(&now_s))
    }
}

fn monday_is_zero(date: Date) -> u8 {
    u8::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(u8::MAX)
}

/// The time of a window that begins on a date; `None` if it does not open then.
fn time(window: &Window, date: Date, zone: &TimeZone) -> Option<Range<u64>> {
    let (from_min, until_min) = window.minutes();
    let start_s = moment(date, from_min, zone, Timestamp::min)?;
    let end_s = moment(date, until_min, zone, Timestamp::max)?;
    (start_s < end_s).then_some(start_s..end_s)
}

/// The moment of a time of the day; `pick` chooses of a time that happens twice.
fn moment(
    date: Date,
    minutes: u16,
    zone: &TimeZone,
    pick: fn(Timestamp, Timestamp) -> Timestamp,
) -> Option<u64> {
    let (days, minutes) = (minutes / 1440, minutes % 1440);
    let date = date.checked_add(Span::new().days(i64::from(days))).ok()?;
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
    let time = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
    let moment = match time.offset() {
        AmbiguousOffset::Unambiguous { .. } => time.unambiguous().ok()?,
        AmbiguousOffset::Fold { .. } => pick(time.earlier().ok()?, time.later().ok()?),
        // Between both is the moment at which clocks are set forward.
        AmbiguousOffset::Gap { .. } => {
            let (before, after) = (time.earlier().ok()?, time.later().ok()?);
            let jump = zone.following(before).next()?.timestamp();
            if jump <= after { jump } else { after }
        }
    };
    u64::try_from(moment.as_second()).ok()
}
