//! Pages of rollouts.

use super::page::{Page, Result, see, show};
use super::view::{Badge, RolloutRow, category_words, device_phase, time};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::rollouts;
use fleeti_core::rollout::{Category, Phase};
use fleeti_core::wire::api::{CreateRollout, Rollout, RolloutDevice, RolloutQuery, RolloutSummary};

const ROWS: u32 = 100;
const DEVICES: u32 = 200;

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
    since: String,
}

/// A link to the devices of one category.
struct Filter {
    href: String,
    text: String,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "rollout.html", blocks = ["main"])]
struct One {
    page: Page,
    r: RolloutRow,
    can_abort: bool,
    filters: Vec<Filter>,
    devices: Vec<DeviceRow>,
    next: Option<String>,
    more: usize,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
    query: Query<RolloutQuery>,
) -> Result<HttpResponse> {
    let query = RolloutQuery { limit: Some(DEVICES), ..query.into_inner() };
    let rollout = rollouts::shown(&cx, &id, &query).await?;
    show!(request, One::of(Page::new("/rollouts", &request, &["rollout"]), rollout, query.category))
}

impl One {
    fn of(page: Page, rollout: Rollout, current: Option<Category>) -> Self {
        let Rollout { id, fleet, created_s, release, phase, counts, devices, next } = rollout;
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
            can_abort: !phase.is_terminal() && phase != Phase::Aborting,
            filters: std::iter::once(all).chain(filters).collect(),
            more: if is_paged { 0 } else { counts.total.saturating_sub(devices.len()) },
            next: next.map(|last| format!("{path}?{which}after={last}")),
            devices: devices.into_iter().map(DeviceRow::from).collect(),
            r: RolloutRow::from(&RolloutSummary { id, fleet, created_s, release, phase, counts }),
        }
    }
}

impl From<RolloutDevice> for DeviceRow {
    fn from(d: RolloutDevice) -> Self {
        let (phase, why) = device_phase(&d.phase);
        Self { id: d.device.to_string(), phase, why, since: time(d.since_s) }
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
