//! What the pages of rollouts show.

use super::phases::{category_words, device_phase, rollout_phase};
use super::waves::{WaveRow, can_go_on, count_words, limits, stopped, wave_rows};
use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_control::rollouts::Shown;
use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
use fleeti_core::wire::api::{Rollout, RolloutDevice, RolloutSummary, UrgentCounts};

/// Maximum number of rollouts on a page.
pub const ROWS: u32 = 100;
/// Maximum number of devices on the page of a rollout.
pub const DEVICES: u32 = 200;

/// A row of a list of rollouts, with its progress bar.
pub struct RolloutRow {
    pub id: String,
    pub release: String,
    pub fleet: String,
    pub phase: Badge,
    pub created: String,
    pub summary: String,
    pub succeeded_percent: f64,
    pub failed_percent: f64,
    pub finished_percent: f64,
    pub moving_percent: f64,
    pub reached_percent: f64,
    pub unconfirmed_percent: f64,
}

impl From<&RolloutSummary> for RolloutRow {
    #[allow(clippy::cast_precision_loss)]
    fn from(r: &RolloutSummary) -> Self {
        let Counts { total, succeeded, failed, moving, unconfirmed, .. } = r.counts;
        let percent = |n: usize| (n as f64 * 1000.0 / total.max(1) as f64).round() / 10.0;
        let summary = count_words(r.counts);
        Self {
            id: r.id.clone(),
            release: r.release.to_string(),
            fleet: r.fleet.to_string(),
            phase: rollout_phase(r.phase),
            created: time(r.created_s),
            summary,
            succeeded_percent: percent(succeeded),
            failed_percent: percent(failed),
            finished_percent: percent(succeeded + failed),
            moving_percent: percent(moving),
            reached_percent: percent(succeeded + failed + moving),
            unconfirmed_percent: percent(unconfirmed),
        }
    }
}

/// The list of rollouts.
#[derive(Template)]
#[template(path = "rollouts.html", blocks = ["main"])]
pub struct RolloutList {
    page: Page,
    rollouts: Vec<RolloutRow>,
}

impl RolloutList {
    pub fn of(page: Page, rollouts: &[RolloutSummary]) -> Self {
        Self { page, rollouts: rollouts.iter().map(RolloutRow::from).collect() }
    }
}

/// A device of a rollout.
struct RolloutDeviceRow {
    id: String,
    phase: Badge,
    why: String,
    since: String,
}

/// Devices with the same trouble.
struct Trouble {
    devices: usize,
    phase: Badge,
    why: String,
}

/// A link to the devices of one category.
struct Filter {
    href: String,
    text: String,
    is_current: bool,
}

/// How far an urgent rollout is.
struct UrgentRow {
    reason: String,
    hours: String,
    counts: UrgentCounts,
}

/// Whole hours and minutes since a rollout began, as in `1 h 05 min`.
fn hours(created_s: u64, now_s: u64) -> String {
    let minutes = now_s.saturating_sub(created_s) / 60;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}

/// The page of one rollout.
#[derive(Template)]
#[template(path = "rollout.html", blocks = ["main"])]
pub struct RolloutPage {
    page: Page,
    r: RolloutRow,
    urgent: Option<UrgentRow>,
    can_abort: bool,
    can_pause: bool,
    can_resume: bool,
    can_go_on: bool,
    has_gate: bool,
    can_roll_back: bool,
    follows: Option<String>,
    back_of: Option<String>,
    troubles: Vec<Trouble>,
    waves: Vec<WaveRow>,
    limits: String,
    stopped: String,
    filters: Vec<Filter>,
    devices: Vec<RolloutDeviceRow>,
    next: Option<String>,
    more: usize,
}

impl RolloutPage {
    pub fn of(page: Page, shown: Shown, current: Option<Category>) -> Self {
        let Shown { rollout, troubles, now_s } = shown;
        let urgent = rollout.urgent.as_ref().map(|urgent| UrgentRow {
            reason: urgent.reason.clone(),
            hours: hours(rollout.created_s, now_s),
            counts: rollout.urgent_counts.unwrap_or_default(),
        });
        let Rollout { id, fleet, created_s, release, phase, counts, .. } = rollout;
        let Rollout { devices, next, plan, waves, follows, back_of, .. } = rollout;
        let path = format!("/rollouts/{id}");
        let all = Filter {
            href: path.clone(),
            text: format!("all {}", counts.total),
            is_current: current.is_none(),
        };
        let of = |category: Category| Filter {
            href: format!("{path}?category={}", category.name()),
            text: format!("{} {}", counts.of(category), category_words(category)),
            is_current: current == Some(category),
        };
        let filters = Category::ALL.into_iter().filter(|c| counts.of(*c) > 0).map(of);
        let which = current.map_or_else(String::new, |c| format!("category={}&", c.name()));
        let is_paged = current.is_some() || next.is_some();
        Self {
            page,
            urgent,
            can_roll_back: can_roll_back(phase, follows.as_ref().or(back_of.as_ref())),
            follows,
            back_of,
            troubles: troubles.into_iter().map(Trouble::from).collect(),
            can_abort: !phase.is_terminal() && phase != Phase::Aborting,
            can_pause: phase == Phase::Running,
            can_resume: phase == Phase::Paused,
            can_go_on: phase == Phase::Running && waves.as_ref().is_some_and(can_go_on),
            has_gate: plan.as_ref().is_some_and(|plan| plan.gate.is_some()),
            waves: wave_rows(plan.as_ref(), waves.as_ref()),
            limits: limits(plan.as_ref()),
            stopped: stopped(plan.as_ref(), waves.as_ref()),
            filters: std::iter::once(all).chain(filters).collect(),
            more: if is_paged { 0 } else { counts.total.saturating_sub(devices.len()) },
            next: next.map(|last| format!("{path}?{which}after={last}")),
            devices: devices.into_iter().map(RolloutDeviceRow::from).collect(),
            r: RolloutRow::from(&RolloutSummary {
                id,
                fleet,
                created_s,
                release,
                phase,
                counts,
                plan: None,
                waves: None,
                follows: None,
                back_of: None,
                urgent: None,
            }),
        }
    }
}

/// A rollout that has another one after it, or is on its way back, cannot be rolled back.
fn can_roll_back(phase: Phase, other: Option<&String>) -> bool {
    other.is_none() && phase != Phase::Ready
}

impl From<(DevicePhase, usize)> for Trouble {
    fn from((phase, devices): (DevicePhase, usize)) -> Self {
        let (badge, why) = device_phase(&phase);
        // The evidence is that of one device.
        let why = match phase {
            DevicePhase::RolledBack { .. } | DevicePhase::Retrying { .. } => {
                "for example: ".to_owned() + &why
            }
            _ => why,
        };
        Self { devices, phase: badge, why }
    }
}

impl From<RolloutDevice> for RolloutDeviceRow {
    fn from(d: RolloutDevice) -> Self {
        let (phase, why) = device_phase(&d.phase);
        let via = d.via.filter(|_| !d.phase.is_finished());
        let via = via.map(|via| format!("by way of {via}"));
        let words = [Some(why).filter(|why| !why.is_empty()), via];
        let why = words.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Self { id: d.device.to_string(), phase, why, since: time(d.since_s) }
    }
}
