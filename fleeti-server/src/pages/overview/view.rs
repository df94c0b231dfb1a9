//! The overview: devices, rollouts, fleets, builds and releases.

use super::page::{Notice, Page, Result, show};
use super::view::{BuildRow, DeviceRow, ReleaseRow, RolloutRow};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::overview;
use fleeti_core::wire::api::Fleet;

#[derive(Template)]
#[template(path = "overview.html", blocks = ["main"])]
struct Overview {
    page: Page,
    /// Why devices cannot connect, or soon no longer can.
    problem: Option<Notice>,
    devices_total: u64,
    online: usize,
    moving: u64,
    attention: u64,
    rollouts: Vec<RolloutRow>,
    fleets: Vec<Fleet>,
    devices: Vec<DeviceRow>,
    builds: Vec<BuildRow>,
    releases: Vec<ReleaseRow>,
}

pub async fn show(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let overview = overview::get(&cx).await?;
    let problem = overview::ready(&cx).await.err();
    show!(
        request,
        Overview::of(
            Page::new("/", &request, &["device", "rollout", "build", "release"]),
            problem.as_ref(),
            overview
        )
    )
}

impl Overview {
    fn of(page: Page, problem: Option<&Error>, o: overview::Overview) -> Self {
        Self {
            page,
            problem: problem.map(|e| Notice {
                message: e.to_string(),
                hint: e.what_to_do().map(str::to_owned),
            }),
            devices_total: o.fleets.iter().map(|f| f.devices).sum(),
            online: o.counts.online,
            moving: o.counts.moving,
            attention: o.counts.in_trouble,
            fleets: o.fleets,
            rollouts: o.rollouts.iter().map(RolloutRow::from).collect(),
            devices: o.devices.iter().map(DeviceRow::from).collect(),
            builds: o.builds.iter().map(BuildRow::from).collect(),
            releases: o.releases.iter().map(ReleaseRow::from).collect(),
        }
    }
}
