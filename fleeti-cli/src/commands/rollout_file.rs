//! A rollout as a file: what `fleeti rollout apply` reads and `fleeti rollout export` writes.

use super::rollout_plan::{rate, seconds};
use crate::output::{Failure, when};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::budget::Budget;
use fleeti_core::rollout::plan::{ErrorsMax, OnError, Plan, Rate, Size, Start, Wave};
use fleeti_core::wire::api::{CreateRollout, Urgent};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::fmt::{Display, Write};
use std::path::Path;
use std::str::FromStr;

/// Largest file, bytes.
const BYTES_MAX: u64 = 64 << 10;

/// The document. Without waves, everybody at once: no other field may then be set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    release: Text<ReleaseName>,
    fleet: Text<FleetId>,
    /// Why it is urgent.
    urgent: Option<String>,
    max_errors: Option<Text<ErrorsMax>>,
    min_sample: Option<usize>,
    silent_after: Option<Time>,
    unreached_after: Option<Time>,
    on_error: Option<Choice>,
    max_moving: Option<usize>,
    rate: Option<Period>,
    budget: Option<Text<Budget>>,
    retries: Option<u32>,
    /// Id of a webhook.
    gate: Option<String>,
    #[serde(default)]
    wave: Vec<WaveTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveTable {
    size: Text<Size>,
    soak: Option<Time>,
    not_before: Option<Instant>,
    #[serde(default)]
    by_hand: bool,
    #[serde(default)]
    by_approval: bool,
}

/// A value that is written as text.
struct Text<T>(T);
/// As in 90s, 30m, 1h or 2d.
struct Time(u64);
/// As in 100/1h.
struct Period(Rate);
/// As in 2026-12-01T09:00:00Z.
struct Instant(u64);

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    Pause,
    Abort,
    RollBack,
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        seconds(&String::deserialize(from)?).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        rate(&String::deserialize(from)?).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = toml::value::Datetime::deserialize(from)?.to_string();
        let time = text.parse::<jiff::Timestamp>().map_err(|_| {
            de::Error::custom(format!("{text} has no offset, as in 2026-12-01T09:00:00Z"))
        })?;
        u64::try_from(time.as_second()).map(Self).map_err(de::Error::custom)
    }
}

/// Reads the file of a rollout.
pub fn read(path: &Path) -> Result<CreateRollout, Failure> {
    let name = path.display();
    let size = std::fs::metadata(path).map(|found| found.len());
    let text = match size {
        Ok(size) if size > BYTES_MAX => {
            return Err(Failure::new(format!("{name}: more than {BYTES_MAX} bytes"), None::<&str>));
        }
        _ => std::fs::read_to_string(path),
    };
    let text = text.map_err(|e| Failure::new(format!("{name}: {e}"), None::<&str>))?;
    parse(&text).map_err(|e| {
        let hint = "`fleeti rollout export ROLLOUT` writes a file; see docs/guides/waves.md";
        Failure::new(format!("{name}: {e}"), Some(hint))
    })
}

/// Reads a document. The error has a line.
fn parse(text: &str) -> Result<CreateRollout, String> {
    let shown = |e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
        format!("line {line}: {}", Foreign::log(e.message()))
    };
    let table: toml::Table = text.parse().map_err(shown)?;
    // serde would read a list of values as a wave.
    let waves = table.get("wave").and_then(toml::Value::as_array);
    if waves.is_some_and(|waves| waves.iter().any(|wave| !wave.is_table())) {
        return Err("wave: each one is a table: write [[wave]]".into());
    }
    let document: Document = toml::from_str(text).map_err(shown)?;
    let (release, fleet) = (document.release.0.clone(), document.fleet.0.clone());
    let urgent = document.urgent.clone().map(|reason| Urgent { reason });
    let plan = document.plan()?;
    Ok(CreateRollout { release, fleet, plan, urgent })
}

impl Document {
    fn plan(self) -> Result<Option<Plan>, String> {
        let fields = [
            ("max_errors", self.max_errors.is_some()),
            ("min_sample", self.min_sample.is_some()),
            ("silent_after", self.silent_after.is_some()),
            ("unreached_after", self.unreached_after.is_some()),
            ("on_error", self.on_error.is_some()),
            ("max_moving", self.max_moving.is_some()),
            ("rate", self.rate.is_some()),
            ("budget", self.budget.is_some()),
            ("retries", self.retries.is_some()),
            ("gate", self.gate.is_some()),
        ];
        if self.wave.is_empty() {
            return match fields.into_iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => {
                    Err(format!("{name} needs waves: add [[wave]] with size = \"100%\""))
                }
                None => Ok(None),
            };
        }
        let waves = self.wave.into_iter().zip(1..).map(|(wave, n)| wave.read(n));
        let mut plan = Plan::of(waves.collect::<Result<_, _>>()?);
        plan.errors_max = self.max_errors.map_or(plan.errors_max, |max| max.0);
        plan.sample_min = self.min_sample.unwrap_or(plan.sample_min);
        plan.silent_s = self.silent_after.map_or(plan.silent_s, |time| time.0);
        plan.unreached_s = self.unreached_after.map_or(plan.unreached_s, |time| time.0);
        plan.on_error = match self.on_error {
            Some(Choice::Abort) => OnError::Abort,
            Some(Choice::RollBack) => OnError::RollBack,
            Some(Choice::Pause) | None => OnError::Pause,
        };
        plan.moving_max = self.max_moving;
        plan.rate = self.rate.map(|rate| rate.0);
        plan.budget = self.budget.map(|budget| budget.0);
        plan.retries = self.retries.unwrap_or(plan.retries);
        plan.gate = self.gate;
        plan.check().map_err(|e| e.to_string())?;
        Ok(Some(plan))
    }
}

impl WaveTable {
    fn read(self, number: usize) -> Result<Wave, String> {
        let start = match (self.by_hand, self.by_approval, self.not_before) {
            (true, false, None) => Start::ByHand,
            (false, true, None) => Start::ByApproval,
            (false, false, Some(Instant(time_s))) => Start::At { time_s },
            (false, false, None) => Start::AfterSuccess,
            (true, true, _) | (true, false, Some(_)) | (false, true, Some(_)) => {
                return Err(format!(
                    "wave {number}: by_hand, by_approval and not_before exclude each other"
                ));
            }
        };
        Ok(Wave { size: self.size.0, start, soak_s: self.soak.map_or(0, |time| time.0) })
    }
}

/// The document of a rollout, in one form: equal rollouts have equal texts.
pub fn text(rollout: &CreateRollout) -> String {
    let CreateRollout { release, fleet, plan, urgent } = rollout;
    let mut text = format!("release = \"{release}\"\nfleet = \"{fleet}\"\n");
    if let Some(Urgent { reason }) = urgent {
        // A reason may have quotes.
        writeln!(text, "urgent = {}", toml::Value::String(reason.clone())).ok();
    }
    if let Some(plan) = plan {
        lines(&mut text, plan).ok();
    }
    text
}

fn lines(text: &mut String, plan: &Plan) -> std::fmt::Result {
    let compact = |max: ErrorsMax| max.to_string().replace(' ', "");
    writeln!(text, "max_errors = \"{}\"", compact(plan.errors_max))?;
    writeln!(text, "min_sample = {}", plan.sample_min)?;
    writeln!(text, "silent_after = \"{}\"", time(plan.silent_s))?;
    writeln!(text, "unreached_after = \"{}\"", time(plan.unreached_s))?;
    let on_error = match plan.on_error {
        OnError::Pause => "pause",
        OnError::Abort => "abort",
        OnError::RollBack => "roll-back",
    };
    writeln!(text, "on_error = \"{on_error}\"")?;
    if let Some(max) = plan.moving_max {
        writeln!(text, "max_moving = {max}")?;
    }
    if let Some(Rate { devices, per_s }) = plan.rate {
        writeln!(text, "rate = \"{devices}/{}\"", time(per_s))?;
    }
    if let Some(budget) = &plan.budget {
        writeln!(text, "budget = \"{budget}\"")?;
    }
    if plan.retries > 0 {
        writeln!(text, "retries = {}", plan.retries)?;
    }
    if let Some(gate) = &plan.gate {
        writeln!(text, "gate = {}", toml::Value::from(gate.as_str()))?;
    }
    for Wave { size, start, soak_s } in &plan.waves {
        // A filter may have quotes.
        let size = toml::Value::String(size_text(size));
        writeln!(text, "\n[[wave]]\nsize = {size}")?;
        match start {
            Start::AfterSuccess => {}
            Start::At { time_s } => writeln!(text, "not_before = {}", when(*time_s))?,
            Start::ByHand => writeln!(text, "by_hand = true")?,
            Start::ByApproval => writeln!(text, "by_approval = true")?,
        }
        if *soak_s > 0 {
            writeln!(text, "soak = \"{}\"", time(*soak_s))?;
        }
    }
    Ok(())
}

/// As options and files have it.
fn size_text(size: &Size) -> String {
    match size {
        Size::Count { devices } => devices.to_string(),
        Size::Percent { percent } => format!("{percent}%"),
        Size::List { devices } => {
            let ids: Vec<_> = devices.iter().map(ToString::to_string).collect();
            format!("devices:{}", ids.join(","))
        }
        Size::Filter { filter } => format!("filter:{filter}"),
    }
}

/// A time in the largest unit that is exact.
fn time(seconds: u64) -> String {
    let units = [(24 * 3600, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// The lines that differ: `-` as it is, `+` as the file wants it. Equal lines have a blank.
pub fn difference(is: &str, wanted: &str) -> Vec<String> {
    let (is, wanted): (Vec<_>, Vec<_>) = (is.lines().collect(), wanted.lines().collect());
    // Length of the longest common part of the rests, by the beginnings of both.
    let mut common = vec![vec![0usize; wanted.len() + 1]; is.len() + 1];
    let at = |common: &[Vec<usize>], n: usize, m: usize| {
        common.get(n).and_then(|row| row.get(m)).copied().unwrap_or(0)
    };
    for (n, old) in is.iter().enumerate().rev() {
        for (m, new) in wanted.iter().enumerate().rev() {
            let longest = if old == new {
                at(&common, n + 1, m + 1) + 1
            } else {
                at(&common, n + 1, m).max(at(&common, n, m + 1))
            };
            if let Some(cell) = common.get_mut(n).and_then(|row| row.get_mut(m)) {
                *cell = longest;
            }
        }
    }
    let (mut n, mut m, mut lines) = (0, 0, Vec::new());
    loop {
        match (is.get(n), wanted.get(m)) {
            (None, None) => return lines,
            (Some(old), Some(new)) if old == new => {
                lines.push(format!("  {old}"));
                (n, m) = (n + 1, m + 1);
            }
            (Some(old), new) if new.is_none() || at(&common, n + 1, m) >= at(&common, n, m + 1) => {
                lines.push(format!("- {old}"));
                n += 1;
            }
            (_, Some(new)) => {
                lines.push(format!("+ {new}"));
                m += 1;
            }
            (Some(_), None) => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
release = "kiosk@2"
fleet = "lobby"
max_errors = "2%"
on_error = "abort"
rate = "100/1h"
max_moving = 50
budget = "rack:80%"
retries = 2
gate = "hook-1"

[[wave]]
size = "devices:lab-1,lab-2"
soak = "1h"

[[wave]]
size = "10%"
not_before = 2026-12-01T09:00:00Z

[[wave]]
size = "100%"
by_hand = true
"#;

    #[test]
    fn a_filter_with_quotes_comes_back() {
        let file = FILE
            .replace("size = \"10%\"", "size = 'filter:name=\"first \\\"lab\\\"\" and site=lab'");
        let read = parse(&file).unwrap();
        assert!(matches!(&read.plan.as_ref().unwrap().waves[1].size, Size::Filter { .. }));
        assert_eq!(parse(&text(&read)).unwrap().plan, read.plan);
        let refused =
            parse(&FILE.replace("size = \"10%\"", "size = \"filter:site=\"")).unwrap_err();
        assert!(refused.contains("filter of wave 2"), "{refused}");
    }

    #[test]
    fn a_file_is_read_and_written_in_one_form() {
        let read = parse(FILE).unwrap();
        let plan = read.plan.clone().unwrap();
        assert_eq!(plan.errors_max, ErrorsMax::Percent { percent: 2 });
        assert_eq!(plan.rate, Some(Rate { devices: 100, per_s: 3600 }));
        assert_eq!(plan.waves[0].soak_s, 3600);
        assert_eq!(plan.waves[1].start, Start::At { time_s: 1_796_115_600 });
        assert_eq!(plan.waves[2].start, Start::ByHand);
        let written = text(&read);
        assert_eq!(text(&parse(&written).unwrap()), written);
        assert_eq!(parse(&written).unwrap().plan, Some(plan));
        insta::assert_snapshot!(written);
        let urgent =
            parse("release = \"kiosk@2\"\nfleet = \"lobby\"\nurgent = 'a \"hole\"'\n").unwrap();
        assert_eq!(urgent.urgent.as_ref().unwrap().reason, "a \"hole\"");
        assert_eq!(parse(&text(&urgent)).unwrap().urgent, urgent.urgent);
        let all = parse("release = \"kiosk@2\"\nfleet = \"lobby\"\n").unwrap();
        assert_eq!((all.plan.is_none(), text(&all).lines().count()), (true, 2));
    }

    #[test]
    fn an_error_names_its_line_and_what_is_expected() {
        let cases = [
            ("on_error = \"abort\"", "on_error = \"explode\"", "line 5"),
            ("max_moving = 50", "max_moving = \"50\"", "line 7"),
            ("rate = \"100/1h\"", "rate = \"100 an hour\"", "line 6"),
            ("budget = \"rack:80%\"", "budget = \"rack\"", "line 8"),
            ("retries = 2", "retries = 11", "retries is 11"),
            ("gate = \"hook-1\"", "gate = \"https://ops.example/\"", "the id of a webhook"),
            ("gate = \"hook-1\"", "gate = 1", "line 10"),
            ("size = \"10%\"", "size = \"ten\"", "line 17"),
            ("soak = \"1h\"", "soak = 3600", "line 14"),
            ("soak = \"1h\"", "sok = \"1h\"", "line 14"),
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00", "line 18"),
            ("size = \"100%\"", "size = \"90%\"", "100%"),
            ("by_hand = true", "by_hand = true\nnot_before = 2026-12-01T09:00:00Z", "wave 3"),
        ];
        for (from, to, expected) in cases {
            let refused = parse(&FILE.replace(from, to)).unwrap_err();
            assert!(refused.contains(expected), "{to}: {refused}");
        }
        let alone = "release = \"kiosk@2\"\nfleet = \"lobby\"\nmax_errors = \"1\"\n";
        assert!(parse(alone).unwrap_err().contains("max_errors needs waves"));
    }

    #[test]
    fn a_difference_has_the_lines_of_both() {
        let found = difference("a\nb\nc\n", "a\nc\nd\n");
        assert_eq!(found, ["  a", "- b", "  c", "+ d"]);
        assert!(difference("a", "a").iter().all(|line| line.starts_with(' ')));
    }
}
