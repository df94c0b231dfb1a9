//! Pages of rollouts.

use super::page::{Page, Result, see, show};
use super::view::{Badge, RolloutRow, device_phase};
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::rollouts;
use fleeti_core::wire::api::{CreateRollout, Rollout, RolloutSummary};

const ROWS: u32 = 100;
const DEVICES: usize = 200;

#[derive(Template)]
#[template(path = "rollouts.html", blocks = ["main"])]
struct List {
    page: Page,
    rollouts: Vec<RolloutRow>,
}

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let rollouts = rollouts::summaries(&cx, ROWS).await?.iter().map(RolloutRow::from).collect();
    show!(request, List { page: Page::new("/rollouts", &request, &["rollout"]), rollouts })
}

struct DeviceRow {
    id: String,
    phase: Badge,
    why: String,
}

#[derive(Template)]
#[template(path = "rollout.html", blocks = ["main"])]
struct One {
    page: Page,
    r: RolloutRow,
    running: bool,
    devices: Vec<DeviceRow>,
    more: usize,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let rollout = rollouts::get(&cx, &id).await?;
    show!(request, One::of(Page::new("/rollouts", &request, &["rollout"]), &rollout))
}

impl One {
    fn of(page: Page, rollout: &Rollout) -> Self {
        let mut devices: Vec<_> = rollout
            .state
            .devices
            .iter()
            .map(|(id, phase)| (id.to_string(), device_phase(phase)))
            .collect();
        // Devices that need attention first, then those in progress, then the rest.
        let order =
            |tone: &str| ["bad", "warn", "busy", "", "good"].iter().position(|t| *t == tone);
        devices.sort_by_key(|(_, (badge, _))| order(badge.tone));
        Self {
            page,
            r: RolloutRow::from(&RolloutSummary::from(rollout)),
            running: !rollout.state.phase.is_terminal(),
            more: devices.len().saturating_sub(DEVICES),
            devices: devices
                .into_iter()
                .take(DEVICES)
                .map(|(id, (phase, why))| DeviceRow { id, phase, why })
                .collect(),
        }
    }
}

pub async fn start(cx: Data<Context>, form: Form<CreateRollout>) -> Result<HttpResponse> {
    let rollout = rollouts::start(&cx, &form).await?;
    Ok(see(&format!("/rollouts/{}", rollout.id)))
}

pub async fn abort(cx: Data<Context>, id: Path<String>) -> Result<HttpResponse> {
    rollouts::abort(&cx, &id).await?;
    Ok(see(&format!("/rollouts/{id}")))
}
