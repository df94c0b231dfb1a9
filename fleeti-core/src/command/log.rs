//! Makes a log short: of lines that repeat, the first one is kept, and each unit has its share.
//!
//! ```
//! use fleeti_core::command::log::{Digest, Line};
//! let mut digest = Digest::new(1000);
//! for at_us in 1..=3 {
//!     digest.add(Line { at_us, unit: "a.service".into(), message: "no disk".into() });
//! }
//! assert_eq!(digest.text(), "a.service\n  1970-01-01T00:00:00Z no disk (3 times, last 1970-01-01T00:00:00Z)\n");
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// Longest message, characters.
const MESSAGE_MAX: usize = 2000;
/// Maximum number of units. Lines of further ones are counted only.
const UNITS_MAX: usize = 500;
/// Maximum number of different lines of a unit in memory. Newer ones replace those in the middle.
const LINES_MAX: usize = 4000;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, microseconds since 1970.
    pub at_us: u64,
    /// The unit that wrote it.
    pub unit: String,
    /// The text.
    pub message: String,
}

/// A line with the number of its repetitions.
#[derive(Debug)]
struct Kept {
    first_us: u64,
    last_us: u64,
    times: u64,
    message: String,
}

/// The different lines of a unit: the first half of them as they came, then the newest.
#[derive(Debug, Default)]
struct Unit {
    first: Vec<Kept>,
    newest: std::collections::VecDeque<Kept>,
    /// The place of a message in `first`; of those in `newest`, the number since the start.
    places: HashMap<String, usize>,
    left_out: u64,
    dropped: usize,
}

/// A log that is being made short.
#[derive(Debug)]
pub struct Digest {
    bytes_max: usize,
    units: BTreeMap<String, Unit>,
    lines: u64,
    others: u64,
}

impl Digest {
    /// An empty log whose text will have at most this many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, units: BTreeMap::new(), lines: 0, others: 0 }
    }

    /// Number of lines that were added.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Adds a line. Lines come in the order of their time.
    pub fn add(&mut self, line: Line) {
        self.lines += 1;
        if !self.units.contains_key(&line.unit) && self.units.len() >= UNITS_MAX {
            self.others += 1;
            return;
        }
        let message: String = line
            .message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MESSAGE_MAX)
            .collect();
        self.units.entry(line.unit).or_default().add(line.at_us, message);
    }

    /// The text: for each unit its lines. Each unit may use an equal share of the bytes, and what
    /// others do not need.
    #[must_use]
    pub fn text(&self) -> String {
        let mut units: Vec<_> =
            self.units.iter().map(|(name, unit)| (name, unit.lines())).collect();
        // The smallest first: what they leave is shared by the larger ones.
        units.sort_by_key(|(_, lines)| lines.iter().map(String::len).sum::<usize>());
        let mut left = self.bytes_max;
        let count = units.len();
        let mut parts: Vec<_> = units
            .into_iter()
            .enumerate()
            .map(|(i, (name, lines))| {
                let part = part(name, &lines, self.units[name].left_out, left / (count - i));
                left -= part.len();
                (name, part)
            })
            .collect();
        parts.sort_by_key(|(name, _)| *name);
        let mut text: String = parts.into_iter().map(|(_, part)| part).collect();
        let others = format!("{} lines of more than {UNITS_MAX} units are left out\n", self.others);
        if self.others > 0 && text.len() + others.len() <= self.bytes_max {
            text.push_str(&others);
        }
        text
    }
}

impl Unit {
    fn add(&mut self, at_us: u64, message: String) {
        if let Some(&place) = self.places.get(&message) {
            let known = match place.checked_sub(LINES_MAX / 2) {
                None => self.first.get_mut(place),
                Some(place) => place.checked_sub(self.dropped).and_then(|i| self.newest.get_mut(i)),
            };
            if let Some(kept) = known {
                kept.times += 1;
                kept.last_us = at_us;
            }
            return;
        }
        let kept = Kept { first_us: at_us, last_us: at_us, times: 1, message: message.clone() };
        if self.first.len() < LINES_MAX / 2 {
            self.places.insert(message, self.first.len());
            self.first.push(kept);
            return;
        }
        if self.newest.len() >= LINES_MAX / 2
            && let Some(old) = self.newest.pop_front()
        {
            self.places.remove(&old.message);
            self.left_out += old.times;
            self.dropped += 1;
        }
        self.places.insert(message, LINES_MAX / 2 + self.dropped + self.newest.len());
        self.newest.push_back(kept);
    }

    fn lines(&self) -> Vec<String> {
        self.first.iter().chain(&self.newest).map(Kept::line).collect()
    }
}

impl Kept {
    fn line(&self) -> String {
        let Self { first_us, last_us, times, message } = self;
        let mut line = format!("  {} {message}", time(*first_us));
        if *times > 1 {
            write!(line, " ({times} times, last {})", time(*last_us)).ok();
        }
        line.push('\n');
        line
    }
}

/// The lines of a unit in at most this many bytes: the first and the newest ones.
fn part(name: &str, lines: &[String], left_out: u64, bytes_max: usize) -> String {
    let title = format!("{name}\n");
    let note = |n: u64| format!("  ... {n} lines are left out\n");
    let total: usize = lines.iter().map(String::len).sum();
    if title.len() + total <= bytes_max && left_out == 0 {
        return title + &lines.concat();
    }
    let Some(room) = bytes_max.checked_sub(title.len() + note(u64::MAX).len()) else {
        return String::new();
    };
    let first = fitting(lines.iter(), room / 2);
    let newest = fitting(lines[first..].iter().rev(), room - bytes(&lines[..first]));
    let between = lines.len() - first - newest;
    let between = u64::try_from(between).unwrap_or(u64::MAX).saturating_add(left_out);
    let mut text = title + &lines[..first].concat();
    if between > 0 {
        text.push_str(&note(between));
    }
    text + &lines[lines.len() - newest..].concat()
}

fn bytes(lines: &[String]) -> usize {
    lines.iter().map(String::len).sum()
}

/// How many of the lines have together at most this many bytes.
fn fitting<'a>(lines: impl Iterator<Item = &'a String>, bytes_max: usize) -> usize {
    let mut used = 0;
    lines
        .take_while(|line| {
            used += line.len();
            used <= bytes_max
        })
        .count()
}

/// A time as in RFC 3339, in UTC.
fn time(at_us: u64) -> String {
    let (days, s) = (at_us / 86_400_000_000, at_us / 1_000_000 % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// The Gregorian date of a day since 1970: 400 years have 146,097 days, and a year that begins in
/// March has its leap day last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(at_us: u64, unit: &str, message: &str) -> Line {
        Line { at_us, unit: unit.into(), message: message.into() }
    }

    fn digest(bytes_max: usize, lines: impl IntoIterator<Item = Line>) -> String {
        let mut digest = Digest::new(bytes_max);
        lines.into_iter().for_each(|line| digest.add(line));
        digest.text()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(s * 1_000_000), text);
        }
    }

    #[test]
    fn a_line_that_repeats_a_million_times_hides_neither_its_first_time_nor_other_lines() {
        let mut digest = Digest::new(2000);
        digest.add(line(1, "app.service", "started"));
        for at_us in 2..1_000_000 {
            digest.add(line(at_us, "app.service", "retrying"));
        }
        digest.add(line(1_000_000, "app.service", "gave up"));
        digest.add(line(5, "disk.mount", "read error"));
        let text = digest.text();
        assert!(text.contains("started\n") && text.contains("gave up\n"), "{text}");
        assert!(text.contains("retrying (999998 times") && text.contains("read error"), "{text}");
        assert_eq!(digest.lines(), 1_000_001);
    }

    #[test]
    fn a_unit_that_says_much_leaves_the_share_of_the_others_and_its_own_first_and_newest_lines() {
        let loud = (0..100_000).map(|n| line(n, "loud.service", &format!("message {n}")));
        let quiet = line(7, "quiet.service", "only one");
        let text = digest(4000, loud.chain([quiet]));
        assert!(text.len() <= 4000 && text.len() > 3000, "{}", text.len());
        assert!(text.contains("only one") && text.contains("message 0\n"), "{text}");
        assert!(text.contains("message 99999\n") && text.contains("lines are left out"), "{text}");
    }

    #[test]
    fn a_message_is_no_other_line_and_moves_no_cursor() {
        let text = digest(1000, [line(0, "a.service", "x\nb.service\n\u{1b}[2J")]);
        assert_eq!(text, "a.service\n  1970-01-01T00:00:00Z x b.service  [2J\n");
    }

    proptest! {
        #[test]
        fn a_log_is_never_larger_than_its_limit_and_counts_every_line(
            lines in prop::collection::vec((0..5_u8, 0..40_u32, 0..300_usize), 0..200),
            bytes_max in 0..6000_usize,
        ) {
            let line = |(at, (unit, text, pad)): (u64, (u8, u32, usize))| {
                line(at, &format!("u{unit}.service"), &format!("{text}{}", "ä".repeat(pad)))
            };
            let mut made = Digest::new(bytes_max);
            let count = lines.len() as u64;
            (0..).zip(lines).map(line).for_each(|l| made.add(l));
            prop_assert!(made.text().len() <= bytes_max);
            prop_assert_eq!(made.lines(), count);
        }
    }
}
