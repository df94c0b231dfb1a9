//! The server's log, on stderr: exactly one line per event, whatever text clients put into it, and
//! a bounded number of lines.
//!
//! Events name their subject in a field `device` or `peer`. Per kind (place in the source) and
//! subject, the log gets one line per minute; per kind without subject, `PER_KIND` lines.
//! Suppressed lines are counted, and reported in the next minute.

mod json;

use clap::ValueEnum;
use fleeti_control::clock::now_s;
use fleeti_core::foreign::{self, Foreign};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as format};

/// Lines per minute of a kind without subject.
const PER_KIND: u32 = 60;
/// Maximum number of kinds and subjects that are distinguished per minute. The rest counts as one.
const KEYS_MAX: usize = 2000;
/// Maximum bytes per minute in total.
const BYTES_PER_MINUTE: usize = 768 * 1024;
/// Maximum lines per minute about suppressed lines.
const REPORTED_MAX: usize = 50;

/// Format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line: `time`, `level`, `target`, `message`, and the fields of the event.
    Json,
}

/// Starts the log, filtered by `RUST_LOG` or a default. Colours only for a terminal, and not with
/// `NO_COLOR`.
pub fn start(as_format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let layer = format::layer().fmt_fields(debug_fn(field)).with_writer(Bounded::default());
    let lines = match as_format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.with_ansi(false).event_format(Json).boxed(),
    };
    let quota = Quota { format: as_format, ..Quota::default() };
    tracing_subscriber::registry().with(filter).with(quota).with(lines).init();
}

/// Formats an event as JSON.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let at = event.metadata();
        let line = json::line(*at.level(), at.target(), |fields| event.record(fields));
        writeln!(writer, "{line}")
    }
}

/// Writes a field, escaped.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    foreign::log_field(writer, field.name(), value)
}

/// A writer that truncates after a number of characters.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

/// The subject of an event.
#[derive(Default)]
struct Whom(Option<String>);

impl Visit for Whom {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "device" | "peer") {
            let mut text = Cut { text: String::new(), left: 64 };
            write!(text, "{value:?}").ok();
            self.0 = Some(text.text);
        }
    }
}

type Kind = (Identifier, Option<String>);

#[derive(Default)]
struct Minute {
    began_s: u64,
    kinds: HashMap<Kind, Count>,
    /// Lines suppressed because there were too many kinds.
    beyond: u32,
}

struct Count {
    written: u32,
    left_out: u32,
    at: &'static Metadata<'static>,
}

/// Suppresses lines that are too frequent.
#[derive(Default)]
struct Quota {
    minute: Mutex<Minute>,
    format: LogFormat,
}

impl Quota {
    /// Whether a line may be written, and the report about the previous minute.
    fn take(
        &self,
        at: &'static Metadata<'static>,
        whom: Option<String>,
        now_s: u64,
    ) -> (bool, Vec<String>) {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        if now_s.abs_diff(minute.began_s) >= 60 {
            lines = std::mem::replace(&mut *minute, Minute { began_s: now_s, ..Minute::default() })
                .report();
        }
        let most = if whom.is_some() { 1 } else { PER_KIND };
        let has_room = minute.kinds.len() < KEYS_MAX;
        let kind = (at.callsite(), whom);
        if !has_room && !minute.kinds.contains_key(&kind) {
            minute.beyond += 1;
            return (false, lines);
        }
        let count = minute.kinds.entry(kind).or_insert(Count { written: 0, left_out: 0, at });
        let may = count.written < most;
        if may {
            count.written += 1;
        } else {
            count.left_out += 1;
        }
        (may, lines)
    }
}

impl Minute {
    fn report(self) -> Vec<String> {
        let left_out: Vec<_> =
            self.kinds.into_iter().filter(|(_, count)| count.left_out > 0).collect();
        let mut lines = Vec::new();
        for ((_, whom), count) in left_out.iter().take(REPORTED_MAX) {
            let whom = whom
                .as_deref()
                .map_or_else(String::new, |w| format!(" about {}", Foreign::new(w, 64)));
            let (place, line) = (count.at.target(), count.at.line().unwrap_or(0));
            lines.push(format!(
                "suppressed {} more lines of {place}:{line}{whom} within a minute",
                count.left_out
            ));
        }
        let others: u64 = left_out
            .iter()
            .skip(REPORTED_MAX)
            .map(|(_, count)| u64::from(count.left_out))
            .sum::<u64>()
            + u64::from(self.beyond);
        if others > 0 {
            lines.push(format!("suppressed {others} more lines of other kinds within a minute"));
        }
        lines
    }
}

impl<S: Subscriber> Layer<S> for Quota {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut whom = Whom::default();
        event.record(&mut whom);
        let (may, lines) = self.take(event.metadata(), whom.0, now_s());
        // Not a tracing event: this code handles tracing events.
        for line in lines {
            let line = match self.format {
                LogFormat::Text => {
                    format!("{} WARN fleeti_server::log: {line}", jiff::Timestamp::now())
                }
                LogFormat::Json => json::said(&line),
            };
            writeln!(io::stderr(), "{line}").ok();
        }
        may
    }
}

/// Stderr, up to [`BYTES_PER_MINUTE`].
#[derive(Default)]
struct Bounded(Mutex<(u64, usize)>);

impl Bounded {
    fn admits(&self, bytes: usize, now_s: u64) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now_s.abs_diff(spent.0) >= 60 {
            *spent = (now_s, 0);
        }
        spent.1 += bytes;
        spent.1 <= BYTES_PER_MINUTE
    }
}

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

struct Line<'a>(&'a Bounded);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Report suppressed bytes as written.
        if self.0.admits(bytes.len(), now_s()) {
            io::stderr().write(bytes)
        } else {
            Ok(bytes.len())
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log output while `act` runs.
    fn written(act: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = format::layer()
            .with_ansi(false)
            .fmt_fields(debug_fn(field))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(Quota::default()).with(lines),
            act,
        );
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn one_event_is_one_line_whatever_was_put_into_it() {
        let evil = "x\n2026-11-29T00:00:00Z ERROR forged\r\u{1b}[2J\u{202e}";
        let text =
            written(|| tracing::warn!(device = evil, "refused: {evil} {}", "y".repeat(100_000)));
        assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{text}");
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\r'),
            "{text}"
        );
        assert!(
            text.contains("refused: x\\n2026") && text.contains("device=") && text.len() < 4000,
            "{text}"
        );
    }

    #[test]
    fn in_json_one_event_is_one_object_with_the_same_escapes() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines =
            format::layer().with_ansi(false).event_format(Json).with_writer(move || writer.clone());
        let evil = "x\n{\"level\":\"ERROR\"}\r\u{1b}[2J\u{202e}\"";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(device = evil, count = 3, "refused: {evil} {}", "y".repeat(100_000))
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&object["level"], &object["count"]), (&"WARN".into(), &"3".into()));
        let message = object["message"].as_str().unwrap();
        assert!(message.starts_with("refused: x\\n{") && message.len() < 1000, "{message}");
        assert!(object["device"].as_str().unwrap().contains("\\u{1b}"), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&json::said(evil)).is_ok());
    }

    #[test]
    fn a_device_has_one_line_of_a_kind_in_a_minute_and_others_have_theirs() {
        let text = written(|| {
            for n in 0..1000 {
                tracing::warn!(device = "greedy", "garbage {n}");
                tracing::error!("a fault {n}");
            }
            tracing::warn!(device = "other", "garbage");
        });
        assert_eq!(
            (text.matches("greedy").count(), text.matches("a fault").count()),
            (1, usize::try_from(PER_KIND).unwrap())
        );
        // Another place in the source, so another kind.
        assert_eq!(text.matches("other").count(), 1);
    }

    #[test]
    fn suppressed_lines_are_counted_in_the_next_minute() {
        let quota = Quota::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Finds), || {
            tracing::warn!("somewhere")
        });
        let at = FOUND.lock().unwrap().unwrap();
        assert!(quota.take(at, Some("a".into()), 100).0);
        assert!(
            !quota.take(at, Some("a".into()), 101).0 && !quota.take(at, Some("a".into()), 102).0
        );
        let (may, lines) = quota.take(at, Some("a".into()), 160);
        assert!(
            may && lines.len() == 1
                && lines[0].starts_with("suppressed 2 more lines of")
                && lines[0].contains("about a"),
            "{lines:?}"
        );
        for n in 0..KEYS_MAX * 2 {
            quota.take(at, Some(n.to_string()), 161);
        }
        assert!(quota.minute.lock().unwrap().kinds.len() <= KEYS_MAX, "memory is bounded");
    }

    static FOUND: Mutex<Option<&'static Metadata<'static>>> = Mutex::new(None);
    struct Finds;
    impl<S: Subscriber> Layer<S> for Finds {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *FOUND.lock().unwrap() = Some(event.metadata());
        }
    }

    #[test]
    fn bytes_are_bounded_in_a_minute() {
        let bounded = Bounded::default();
        assert!(
            bounded.admits(BYTES_PER_MINUTE, 100)
                && !bounded.admits(1, 130)
                && bounded.admits(1, 161)
        );
    }
}
