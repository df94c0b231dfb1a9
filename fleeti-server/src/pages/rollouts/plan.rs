//! What a rollout would come to, before it starts.

use super::form::StartForm;
use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_core::rollout::forecast::{Duration, End, Forecast, Group, WaveForecast};

/// A kind of devices.
struct Kind {
    devices: usize,
    words: &'static str,
}

/// A wave that would begin.
struct PlannedWave {
    number: usize,
    size: String,
    /// HTML.
    begins: String,
    is_by_hand: bool,
    kinds: Vec<Kind>,
}

/// The page of a plan.
#[derive(Template)]
#[template(path = "rollout_plan.html", blocks = ["main"])]
pub struct PlanPage {
    page: Page,
    form: StartForm,
    devices: usize,
    kinds: Vec<Kind>,
    waves: Vec<PlannedWave>,
    end: Badge,
    /// HTML.
    end_words: String,
    duration: String,
    in_windows: bool,
    active: Option<String>,
}

impl PlanPage {
    pub fn of(page: Page, found: &Forecast, form: StartForm) -> Self {
        let (end, end_words) = end_of(&found.end);
        Self {
            page,
            form,
            devices: found.devices,
            kinds: kinds(&found.expected),
            waves: (1..).zip(&found.waves).map(planned).collect(),
            end,
            end_words,
            duration: duration(found.duration),
            in_windows: found.in_windows,
            active: found.active.clone(),
        }
    }
}

fn kinds(groups: &[Group]) -> Vec<Kind> {
    let kind = |g: &Group| Kind { devices: g.devices, words: g.expected.words() };
    groups.iter().map(kind).collect()
}

fn planned((number, wave): (usize, &WaveForecast)) -> PlannedWave {
    PlannedWave {
        number,
        size: wave.size.to_string(),
        begins: time(wave.begins_s),
        is_by_hand: wave.is_by_hand,
        kinds: kinds(&wave.expected),
    }
}

fn end_of(end: &End) -> (Badge, String) {
    match end {
        End::Succeeds { at_s } => (Badge::new("good", "succeeds"), time(*at_s)),
        End::Fails { at_s } => (Badge::new("bad", "ends with errors"), time(*at_s)),
        End::Stops { at_s, wave, errors } => (
            Badge::new("bad", "stops by itself"),
            format!(
                "in wave {}, {}: {} errors among {} devices that have finished",
                wave + 1,
                time(*at_s),
                errors.failed,
                errors.finished
            ),
        ),
        End::Waits { from_s, wave } => (
            Badge::new("warn", "stays open"),
            format!(
                "in wave {}, from {}: it waits for devices that are offline or blocked",
                wave + 1,
                time(*from_s)
            ),
        ),
        End::TooLong { at_s } => (Badge::new("warn", "still running"), time(*at_s)),
    }
}

fn duration(Duration { seconds, measured }: Duration) -> String {
    match measured {
        0 => format!(
            "{seconds} s for each device: an assumption, as no rollout of the fleet was measured"
        ),
        n => format!("{seconds} s for each device: nine of ten of {n} devices in the last rollout"),
    }
}
