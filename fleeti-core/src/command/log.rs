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

use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

/// Longest message, characters.
const MESSAGE_MAX: usize = 2000;
/// Maximum number of units. Lines of further ones are counted only.
const UNITS_MAX: usize = 500;
/// Maximum number of different lines of a unit in memory. Newer ones replace those in the middle.
const LINES_MAX: usize = 4000;
/// Maximum size of all messages in memory, bytes. Beyond it the unit with most of them loses lines.
const BYTES_MAX: usize = 8 << 20;

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
    message: Arc<str>,
}

/// The different lines of a unit: the first half of them as they came, then the newest.
#[derive(Debug, Default)]
struct Unit {
    first: Vec<Kept>,
    newest: VecDeque<Kept>,
    /// The place of a message in `first`; of those in `newest`, the number since the start.
    places: HashMap<Arc<str>, usize>,
    left_out: u64,
    dropped: usize,
    /// Size of the messages.
    bytes: usize,
    /// Whether further lines are among the newest.
    has_all_first: bool,
}

/// A log that is being made short.
#[derive(Debug)]
pub struct Digest {
    bytes_max: usize,
    units: BTreeMap<String, Unit>,
    lines: u64,
    others: u64,
    /// Size of the messages of all units.
    bytes: usize,
}

impl Digest {
    /// An empty log whose text will have at most this many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, units: BTreeMap::new(), lines: 0, others: 0, bytes: 0 }
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
        let unit = self.units.entry(line.unit).or_default();
        let before = unit.bytes;
        unit.add(line.at_us, message.into());
        self.bytes = self.bytes - before + unit.bytes;
        if self.bytes > BYTES_MAX {
            self.shrink();
        }
    }

    /// Leaves out lines of the largest units until there is room for a quarter again.
    fn shrink(&mut self) {
        while self.bytes > BYTES_MAX / 4 * 3 {
            let Some(unit) = self.units.values_mut().max_by_key(|unit| unit.bytes) else { return };
            let before = unit.bytes;
            unit.shrink();
            self.bytes = self.bytes - before + unit.bytes;
        }
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
    fn add(&mut self, at_us: u64, message: Arc<str>) {
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
        self.bytes += message.len();
        let kept = Kept { first_us: at_us, last_us: at_us, times: 1, message: message.clone() };
        self.has_all_first |= self.first.len() >= LINES_MAX / 2;
        if !self.has_all_first {
            self.places.insert(message, self.first.len());
            self.first.push(kept);
            return;
        }
        if self.newest.len() >= LINES_MAX / 2 {
            self.drop_oldest_of_the_newest();
        }
        self.places.insert(message, LINES_MAX / 2 + self.dropped + self.newest.len());
        self.newest.push_back(kept);
    }

    fn drop_oldest_of_the_newest(&mut self) {
        if let Some(old) = self.newest.pop_front() {
            self.dropped += 1;
            self.leave_out(&old);
        }
    }

    /// Leaves out lines in the middle, until half of the bytes are left.
    fn shrink(&mut self) {
        self.has_all_first = true;
        let wanted = self.bytes / 2;
        while self.bytes > wanted && !self.newest.is_empty() {
            self.drop_oldest_of_the_newest();
        }
        while self.bytes > wanted
            && let Some(old) = self.first.pop()
        {
            self.leave_out(&old);
        }
    }

    fn leave_out(&mut self, old: &Kept) {
        self.places.remove(&old.message);
        self.bytes -= old.message.len();
        self.left_out += old.times;
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

/// A time as in RFC 3339, in UTC, without a part of a second.
fn time(at_us: u64) -> String {
    let second = i64::try_from(at_us / 1_000_000).ok();
    let time = second.and_then(|second| Timestamp::from_second(second).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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
    fn many_units_with_long_messages_do_not_fill_the_memory() {
        let mut digest = Digest::new(100_000);
        let long = "x".repeat(MESSAGE_MAX);
        digest.add(line(0, "quiet.service", "only one"));
        for n in 0..20_000_u64 {
            digest.add(line(n, &format!("u{}.service", n % 200), &format!("{n} {long}")));
            assert!(digest.bytes <= BYTES_MAX, "{}", digest.bytes);
        }
        let kept: usize = digest.units.values().map(|unit| unit.bytes).sum();
        assert_eq!(digest.bytes, kept);
        let text = digest.text();
        assert!(text.contains("only one\n"), "the lines of a unit that says little stay");
        let others = text.matches("lines are left out").count();
        assert!(others >= 40, "{others}");
        assert_eq!(digest.lines(), 20_001);
    }

    #[test]
    fn what_is_left_out_of_a_unit_is_what_came_in_the_middle() {
        let mut unit = Unit::default();
        (0..100).for_each(|n| unit.add(n, format!("message {n}").into()));
        unit.shrink();
        (100..120).for_each(|n| unit.add(n, format!("message {n}").into()));
        unit.add(7, "message 3".into());
        let lines = unit.lines();
        assert!(lines[3].contains("message 3 (2 times"), "{}", lines[3]);
        assert!(lines.last().unwrap().contains("message 119"));
        assert_eq!(unit.left_out + lines.len() as u64, 120);
        unit.shrink();
        assert!(unit.newest.is_empty() || unit.first.len() == lines.len() - 20);
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
