//! The timeline of a device: what happened to it, in words.

use super::commands::tone;
use crate::pages::alerts::severity;
use crate::pages::display::{Badge, time};
use crate::pages::page::{Page, Result, show};
use crate::pages::rollouts::phases::device_phase;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::timeline::{self, Entry, Timeline, What};
use fleeti_core::alert::state::State;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::strict;
use fleeti_core::wire::command::CommandKind;
use serde::Deserialize;

/// The page of a device shows this many entries.
pub const FIRST: usize = 12;

/// An entry, ready for the page.
pub struct EntryRow {
    /// HTML.
    pub at: String,
    pub kind: Badge,
    pub title: String,
    pub detail: String,
    /// Path and text.
    pub link: Option<(String, String)>,
}

fn release(name: Option<&ReleaseName>) -> String {
    name.map_or_else(|| "an unknown release".to_owned(), ToString::to_string)
}

impl From<&Entry> for EntryRow {
    fn from(entry: &Entry) -> Self {
        let (kind, title, detail) = words(&entry.what);
        let link = match &entry.what {
            What::Alert(row) => Some((format!("/alerts/{}", row.id), "Open alert".into())),
            What::Rollout(row) => {
                Some((format!("/rollouts/{}", row.rollout), "Open rollout".into()))
            }
            What::Moved { to, .. } => Some((format!("/fleets/{to}"), "Open fleet".into())),
            What::First { .. }
            | What::Booted { .. }
            | What::Updated { .. }
            | What::Level { .. }
            | What::Command(_) => None,
        };
        Self { at: time(entry.at_s), kind, title, detail, link }
    }
}

/// Kind, title and detail.
fn words(what: &What) -> (Badge, String, String) {
    match what {
        What::First { running, level } => {
            let title = format!("First known state: {}", release(running.as_ref()));
            (Badge::new("", "enrolled"), title, format!("level {}", level.code()))
        }
        What::Booted { running } => {
            let title = format!("Booted {}", release(running.as_ref()));
            (Badge::new("", "boot"), title, String::new())
        }
        What::Updated { from, to } => {
            let title = format!("Runs {}", release(to.as_ref()));
            let detail = format!("before: {}", release(from.as_ref()));
            (Badge::new("good", "update"), title, detail)
        }
        What::Level { from, to } => {
            let tone = if to < from { "warn" } else { "good" };
            let title = format!("Attestation level {}: {}", to.code(), to.title());
            (Badge::new(tone, "evidence"), title, format!("before: {}", from.code()))
        }
        What::Moved { from, to } => {
            (Badge::new("", "fleet"), format!("Moved to fleet {to}"), format!("before: {from}"))
        }
        What::Alert(row) => {
            let (kind, title) = match row.state {
                State::Open => (severity(row.severity), row.kind.title().to_owned()),
                State::Acknowledged => {
                    (Badge::new("busy", "alert"), format!("Acknowledged: {}", row.kind.title()))
                }
                State::Resolved => {
                    (Badge::new("good", "alert"), format!("Resolved: {}", row.kind.title()))
                }
            };
            let detail = match row.state {
                State::Acknowledged => format!("by {}", row.by),
                State::Open | State::Resolved => Foreign::log(&row.detail).to_string(),
            };
            (kind, title, detail)
        }
        What::Command(row) => {
            let title = format!("Command: {}", command(&row.kind));
            (Badge::new(tone(Some(row.state)), "command"), title, row.state.as_str().to_owned())
        }
        What::Rollout(row) => {
            let (phase, why) = device_phase(&row.phase);
            let title = format!("Rollout of {}: {}", row.release, phase.text);
            (Badge::new(phase.tone, "rollout"), title, why)
        }
    }
}

/// A command in words.
fn command(kind: &str) -> String {
    let kind = strict::from_slice::<CommandKind>(kind.as_bytes());
    kind.map_or_else(|_| "unknown".to_owned(), |kind| kind.describe())
}

/// A page of the timeline.
#[derive(Template)]
#[template(path = "timeline.html", blocks = ["main"])]
pub struct TimelinePage {
    page: Page,
    device: String,
    entries: Vec<EntryRow>,
    next: Option<String>,
}

impl TimelinePage {
    fn of(page: Page, device: &DeviceId, found: &Timeline) -> Self {
        let next = found.next_s.map(|s| format!("/devices/{device}/timeline?before={s}"));
        let entries = found.entries.iter().map(EntryRow::from).collect();
        Self { page, device: device.to_string(), entries, next }
    }
}

/// The query of the page.
#[derive(Deserialize)]
pub struct TimelineQuery {
    before: Option<u64>,
}

pub async fn show_timeline(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<DeviceId>,
    query: Query<TimelineQuery>,
) -> Result<HttpResponse> {
    let found = timeline::get(&cx, &id, query.before).await?;
    // An older part does not change.
    let events: &[&str] = if query.before.is_some() { &[] } else { &["device", "alerts"] };
    show!(request, TimelinePage::of(Page::new("/devices", &request, events), &id, &found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_whatever_it_carries() {
        assert_eq!(command("{\"type\":\"clear_alarm\"}"), "clear-alarm");
        assert_eq!(command("{\"type\":\"logs\",\"unit\":\"x.service\"}"), "logs of x.service");
        assert_eq!(command(""), "unknown");
    }
}
