//! The first page: what the devices run, and what is on its way to them.

use super::page::{Page, Result, show};
use super::shown::{BuildRow, DeviceRow, ReleaseRow, RolloutRow};
use crate::app::AppRef;
use crate::db;
use crate::service::devices::{self, Filter};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_core::wire::api::Fleet;

const DEVICES: u32 = 25;
const ROWS: u32 = 5;
const ROLLOUTS: u32 = 3;

#[derive(Template)]
#[template(path = "overview.html", blocks = ["main"])]
struct Overview {
    page: Page,
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

pub async fn show(app: Data<AppRef>, request: HttpRequest) -> Result<HttpResponse> {
    let pool = app.db.pool();
    let (counts, fleets) = (devices::counts(&app).await?, devices::fleets(&app).await?);
    let view = Overview {
        page: Page::new("/", &request, &["device", "rollout", "build", "release"]),
        devices_total: fleets.iter().map(|f| f.devices).sum(),
        online: counts.online,
        moving: counts.moving,
        attention: counts.in_trouble,
        fleets,
        rollouts: db::rollouts::summaries(pool, ROLLOUTS).await?.iter().map(RolloutRow::from).collect(),
        devices: devices::page(&app, Filter::All, "", DEVICES).await?.iter().map(DeviceRow::from).collect(),
        builds: db::builds::newest(pool, ROWS).await?.iter().map(BuildRow::from).collect(),
        releases: db::releases::newest(pool, ROWS).await?.iter().map(ReleaseRow::from).collect(),
    };
    show!(request, view)
}
