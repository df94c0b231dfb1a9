//! A window as one line: `mon-fri 22:00-05:00 Europe/Berlin fits 30m`.

use super::zone::{ZoneError, check_zone};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest line of a window, bytes.
pub const WINDOW_MAX: usize = 120;
/// Minutes of a day.
const DAY_MIN: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0b111_1111;

/// A time on some days of the week, in which a job may begin: `[DAYS] FROM-UNTIL [ZONE] [fits
/// TIME]`.
///
/// DAYS are names as in `mon-fri` or `sat,sun`: the days on which the window begins; every day
/// without them. FROM and UNTIL are times of the day; a window that ends before it begins lasts
/// until the next day. Without a ZONE of the IANA database, the zone of the device counts. With
/// `fits 30m` (or `2h`), a job begins only if that much of the window is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// The days on which it begins: bit 0 is Monday.
    days: u8,
    /// Minutes of the day.
    from_min: u16,
    /// Minutes of the day, at most 1440; not after the beginning if it lasts until the next day.
    until_min: u16,
    zone: Option<String>,
    fits_min: u16,
}

/// Where a window is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the window {window:?}: {message}; {hint}")]
pub struct WindowError {
    /// The window, cut.
    pub window: String,
    /// The place, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Window {
    /// Whether it begins on a day of the week, 0 for Monday.
    pub(super) fn begins_on(&self, day: u8) -> bool {
        day < 7 && self.days & (1 << day) != 0
    }

    /// When it begins and ends: minutes of the day on which it begins. The end may be on the next.
    pub(super) fn minutes(&self) -> (u16, u16) {
        let next = if self.until_min <= self.from_min { DAY_MIN } else { 0 };
        (self.from_min, self.until_min + next)
    }

    /// Its zone; `None` for that of the device.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// How much of it must be left when a job begins, seconds.
    pub(super) fn fits_s(&self) -> u64 {
        u64::from(self.fits_min) * 60
    }
}

/// What is wrong with a word, and what to write instead.
type Wrong = (String, String);

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
    (message.into(), hint.into())
}

impl FromStr for Window {
    type Err = WindowError;
    fn from_str(text: &str) -> Result<Self, WindowError> {
        let at = |column: usize, (message, hint): Wrong| {
            let window = text.chars().take(WINDOW_MAX).filter(|c| !c.is_control()).collect();
            WindowError { window, column, message, hint }
        };
        if text.len() > WINDOW_MAX {
            let message = format!("the window is longer than {WINDOW_MAX} bytes");
            return Err(at(WINDOW_MAX + 1, wrong(message, "write one window on each line")));
        }
        let end = text.chars().count() + 1;
        let mut words = words(text).into_iter().peekable();
        let days = match words.next_if(|(_, word)| !word.contains(':')) {
            None => EVERY_DAY,
            Some((column, word)) => days(word).map_err(|e| at(column, e))?,
        };
        let Some((column, word)) = words.next() else {
            return Err(at(end, wrong("the times are missing", "write them as in 02:00-05:00")));
        };
        let (from_min, until_min) = times(word).map_err(|e| at(column, e))?;
        let zone = match words.next_if(|(_, word)| *word != "fits") {
            None => None,
            Some((column, word)) => {
                let known = |e: ZoneError| wrong(e.to_string(), e.hint);
                check_zone(word).map_err(|e| at(column, known(e)))?;
                Some(word.to_owned())
            }
        };
        let mut window = Self { days, from_min, until_min, zone, fits_min: 0 };
        if let Some((column, word)) = words.next() {
            if word != "fits" {
                let message = format!("{word:?} is not `fits`");
                let hint = "a window is DAYS FROM-UNTIL ZONE fits TIME";
                return Err(at(column, wrong(message, hint)));
            }
            let (column, word) = words.next().unwrap_or((end, ""));
            window.fits_min = duration(word).map_err(|e| at(column, e))?;
            let (from, until) = window.minutes();
            if window.fits_min > until - from {
                let message = format!("the job takes {word}, and the window is shorter");
                return Err(at(column, wrong(message, "no job could begin: make it longer")));
            }
        }
        match words.next() {
            None => Ok(window),
            Some((column, word)) => {
                let message = format!("{word:?} is too much");
                Err(at(column, wrong(message, "a window ends after `fits TIME`")))
            }
        }
    }
}

/// The words of a text, each with its column.
fn words(text: &str) -> Vec<(usize, &str)> {
    let place = |word: &str| {
        let offset = word.as_ptr().addr() - text.as_ptr().addr();
        text.get(..offset).map_or(1, |before| before.chars().count() + 1)
    };
    text.split_whitespace().map(|word| (place(word), word)).collect()
}

fn days(word: &str) -> Result<u8, Wrong> {
    if word == "daily" {
        return Ok(EVERY_DAY);
    }
    let hint = "write days as in mon-fri or sat,sun, or daily";
    let day = |name: &str| {
        DAYS.iter()
            .position(|known| *known == name)
            .ok_or_else(|| wrong(format!("{name:?} is not a day of the week"), hint))
    };
    let mut days = 0;
    for part in word.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // `sat-mon` goes over the end of the week.
        let length = (last + 7 - first) % 7;
        for n in 0..=length {
            days |= 1 << ((first + n) % 7);
        }
    }
    Ok(days)
}

fn times(word: &str) -> Result<(u16, u16), Wrong> {
    let hint = "write times as in 02:00-05:00";
    let (from, until) =
        word.split_once('-').ok_or_else(|| wrong(format!("{word:?} has no end"), hint))?;
    let time = |text: &str, latest: u16| {
        let part = |text: &str| {
            let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_number)
        };
        text.split_once(':')
            .and_then(|(hour, minute)| Some((part(hour)?, part(minute)?)))
            .filter(|(_, minute)| *minute < 60)
            .map(|(hour, minute)| hour * 60 + minute)
            .filter(|minutes| *minutes <= latest)
            .ok_or_else(|| wrong(format!("{text:?} is not a time of the day"), hint))
    };
    let (from, until) = (time(from, DAY_MIN - 1)?, time(until, DAY_MIN)?);
    if from == until {
        let message = format!("{word:?} ends when it begins, so it never opens");
        return Err(wrong(message, "write 00:00-24:00 for the whole day"));
    }
    Ok((from, until))
}

fn duration(word: &str) -> Result<u16, Wrong> {
    let (number, unit) = match (word.strip_suffix('m'), word.strip_suffix('h')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60),
        (None, None) => ("", 1),
    };
    let is_number = (1..=4).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    number
        .parse::<u16>()
        .ok()
        .filter(|_| is_number)
        .and_then(|number| number.checked_mul(unit))
        .filter(|minutes| (1..=DAY_MIN).contains(minutes))
        .ok_or_else(|| {
            let message = format!("{word:?} is not a time of 1m to 24h");
            wrong(message, "write the longest time that the job takes, as in `fits 30m`")
        })
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            let mut day = 0;
            let mut separator = "";
            while day < 7 {
                let first = day;
                while self.begins_on(day) {
                    day += 1;
                }
                let run = usize::from(first)..usize::from(day);
                match &DAYS[run] {
                    [] => {}
                    [one] => write!(f, "{separator}{one}")?,
                    [one, .., last] => write!(f, "{separator}{one}-{last}")?,
                }
                if day > first {
                    separator = ",";
                }
                day += 1;
            }
            f.write_str(" ")?;
        }
        let (from, until) = (self.from_min, self.until_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)?;
        if let Some(zone) = &self.zone {
            write!(f, " {zone}")?;
        }
        if self.fits_min > 0 { write!(f, " fits {}m", self.fits_min) } else { Ok(()) }
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;
    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl utoipa::PartialSchema for Window {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(
                "A window: `[DAYS] FROM-UNTIL [ZONE] [fits TIME]`, as in \
                 `mon-fri 22:00-05:00 Europe/Berlin fits 30m`.",
            ))
            .examples(["mon-fri 22:00-05:00 Europe/Berlin fits 30m"])
            .max_length(Some(WINDOW_MAX))
            .into()
    }
}

impl utoipa::ToSchema for Window {
    fn name() -> std::borrow::Cow<'static, str> {
        "UpdateWindow".into()
    }
}
