//! What the overview shows.

use crate::pages::builds::view::BuildRow;
use crate::pages::devices::view::DeviceRow;
use crate::pages::page::{Notice, Page};
use crate::pages::releases::view::ReleaseRow;
use crate::pages::rollouts::view::RolloutRow;
use askama::Template;
use fleeti_control::devices::Counts;
use fleeti_control::overview::Overview;
use fleeti_core::wire::api::Fleet;

/// The overview.
#[derive(Template)]
#[template(path = "overview.html", blocks = ["main"])]
pub struct OverviewPage {
    page: Page,
    /// Why devices cannot connect, or soon no longer can.
    problem: Option<Notice>,
    devices_total: u64,
    counts: Option<Counts>,
    rollouts: Vec<RolloutRow>,
    fleets: Vec<Fleet>,
    devices: Vec<DeviceRow>,
    builds: Vec<BuildRow>,
    releases: Vec<ReleaseRow>,
}

impl OverviewPage {
    pub fn of(page: Page, o: Overview) -> Self {
        Self {
            page,
            problem: o.problem.map(|e| Notice {
                message: e.to_string(),
                hint: e.what_to_do().map(str::to_owned),
            }),
            devices_total: o.fleets.iter().map(|f| f.devices).sum(),
            counts: o.counts,
            fleets: o.fleets,
            rollouts: o.rollouts.iter().map(RolloutRow::from).collect(),
            devices: o.devices.iter().map(DeviceRow::from).collect(),
            builds: o.builds.iter().map(BuildRow::from).collect(),
            releases: o.releases.iter().map(ReleaseRow::from).collect(),
        }
    }
}
