//! What the overview shows.

use super::charts::charts;
use super::needs::{Need, needs};
use crate::pages::builds::view::BuildRow;
use crate::pages::devices::view::DeviceRow;
use crate::pages::page::Page;
use crate::pages::releases::view::ReleaseRow;
use crate::pages::rollouts::view::RolloutRow;
use crate::pages::svg::Chart;
use askama::Template;
use fleeti_control::board::Numbers;
use fleeti_control::overview::Overview;
use fleeti_core::id::FleetId;
use fleeti_core::rollout::Phase;
use fleeti_core::wire::api::{BuildPhase, RolloutSummary};

/// A fleet in the list.
struct FleetRow {
    name: String,
    devices: u64,
    updating: u64,
    troubled: u64,
    revoked: u64,
}

impl From<&(FleetId, Numbers)> for FleetRow {
    fn from((name, n): &(FleetId, Numbers)) -> Self {
        Self {
            name: name.to_string(),
            devices: n.devices,
            updating: n.updating,
            troubled: n.failed + n.alarms,
            revoked: n.revoked,
        }
    }
}

/// A rollout that has not ended, and whether the caller may pause it.
fn in_flight(page: &Page, r: &RolloutSummary) -> (RolloutRow, bool) {
    let may = page.may_in("/rollouts/{rollout}/pause", r.fleet.as_str());
    (RolloutRow::from(r), may && r.phase == Phase::Running)
}

/// Number of rollouts that the question before a stop names.
const NAMED: usize = 5;

/// What the browser asks before all rollouts are paused; empty if none runs that the caller may
/// pause.
fn stop_question(in_flight: &[(RolloutRow, bool)]) -> String {
    let named = in_flight.iter().filter(|(_, may_pause)| *may_pause);
    let named: Vec<_> = named.map(|(r, _)| format!("{} to fleet {}", r.release, r.fleet)).collect();
    let Some(shown) = named.get(..named.len().min(NAMED)).filter(|shown| !shown.is_empty()) else {
        return String::new();
    };
    let more = named.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(", and {more} others") };
    format!(
        "Pause every rollout that runs ({}{more})? No other device is offered a release, and devices \
         that have not rebooted into it lose their offer. Each rollout can be resumed.",
        shown.join(", ")
    )
}

/// The overview.
#[derive(Template)]
#[template(path = "overview.html", blocks = ["main"])]
pub struct OverviewPage {
    page: Page,
    devices_total: u64,
    updating: u64,
    troubled: u64,
    online: Option<usize>,
    needs: Vec<Need>,
    charts: Vec<Chart>,
    in_flight: Vec<(RolloutRow, bool)>,
    /// What the browser asks before all rollouts are paused; empty if there is nothing to pause.
    stop: String,
    /// Builds that have not ended.
    building: Vec<BuildRow>,
    ended: Vec<RolloutRow>,
    fleets: Vec<FleetRow>,
    devices: Vec<DeviceRow>,
    builds: Vec<BuildRow>,
    releases: Vec<ReleaseRow>,
    may_enroll: bool,
}

impl OverviewPage {
    pub fn of(page: Page, o: &Overview) -> Self {
        let total = &o.board.total;
        let is_moving = |phase| matches!(phase, BuildPhase::Queued | BuildPhase::Running);
        let building = o.builds.iter().filter(|b| is_moving(b.signing.unwrap_or(b.phase)));
        let flights: Vec<_> = o.active.iter().map(|r| in_flight(&page, r)).collect();
        Self {
            devices_total: total.devices,
            updating: total.updating,
            troubled: total.failed + total.alarms,
            online: o.online,
            needs: needs(&page, o),
            charts: charts(total, None, o.online.is_some()),
            stop: stop_question(&flights),
            in_flight: flights,
            building: building.map(BuildRow::from).collect(),
            ended: o.ended.iter().map(RolloutRow::from).collect(),
            fleets: o.board.fleets.iter().map(FleetRow::from).collect(),
            devices: o.devices.iter().map(DeviceRow::from).collect(),
            builds: o.builds.iter().map(BuildRow::from).collect(),
            releases: o.releases.iter().map(ReleaseRow::from).collect(),
            may_enroll: page.may("/enroll"),
            page,
        }
    }
}
