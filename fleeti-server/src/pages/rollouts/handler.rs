//! Requests to the pages of rollouts.

use super::form::StartForm;
use super::plan::PlanPage;
use super::view::{DEVICES, ROWS, RolloutList, RolloutPage};
use crate::access::By;
use crate::pages::page::{Page, Result, see, show};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::rollouts;
use fleeti_control::second_person::{self, Submitted};
use fleeti_core::wire::api::{NextWave, PauseRollouts, RolloutQuery, RolloutSummary};
use fleeti_core::wire::approval::AskedAct;
use fleeti_core::wire::problem::Code;

pub async fn list(cx: Data<Context>, by: By, request: HttpRequest) -> Result<HttpResponse> {
    let rollouts = rollouts::summaries(&cx, &by, ROWS).await?;
    show!(request, RolloutList::of(Page::new("/rollouts", &request, &["rollout"]), &rollouts))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
    query: Query<RolloutQuery>,
) -> Result<HttpResponse> {
    let query = RolloutQuery { limit: Some(DEVICES), ..query.into_inner() };
    let shown = rollouts::shown(&cx, &id, &query).await?;
    let page = Page::new("/rollouts", &request, &["rollout"]);
    show!(request, RolloutPage::of(page, shown, query.category))
}

pub async fn plan(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    form: Query<StartForm>,
) -> Result<HttpResponse> {
    let form = form.into_inner();
    let found = rollouts::forecast(&cx, &by, &form.clone().read()?).await?;
    show!(request, PlanPage::of(Page::new("/rollouts", &request, &[]), &found, form))
}

pub async fn start(cx: Data<Context>, by: By, form: Form<StartForm>) -> Result<HttpResponse> {
    let (ask, request) = (form.ask.clone(), form.into_inner().read()?);
    let act = AskedAct::StartRollout { request: request.clone() };
    let started = rollouts::start(&cx, &by, &request);
    Ok(match second_person::or_request(&cx, &by, (act, &ask), started).await? {
        Submitted::Done(rollout) => see(&format!("/rollouts/{}", rollout.id)),
        Submitted::Waits(waits) => see(&format!("/approvals/{}", waits.id)),
    })
}

pub async fn pause(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    rollouts::pause(&cx, &by, &id).await?;
    Ok(see(&format!("/rollouts/{id}")))
}

pub async fn pause_all(
    cx: Data<Context>,
    by: By,
    form: Form<PauseRollouts>,
) -> Result<HttpResponse> {
    match rollouts::pause_all(&cx, &by, &form).await?.left.first() {
        None => Ok(see("/")),
        Some(left) => Err(still(left).into()),
    }
}

/// The error for a rollout that could not be paused; the others are.
fn still(left: &RolloutSummary) -> Error {
    let RolloutSummary { release, fleet, phase, .. } = left;
    let text = format!("the rollout of {release} to fleet {fleet} is {phase}, and was not paused");
    Error::new(Code::Conflict, text)
        .hint("stop all rollouts again in a moment; the others are paused")
}

pub async fn resume(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    rollouts::resume(&cx, &by, &id).await?;
    Ok(see(&format!("/rollouts/{id}")))
}

pub async fn next(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<NextWave>,
) -> Result<HttpResponse> {
    let (rollout, request) = (id.to_string(), form.into_inner());
    let (act, reason) = (AskedAct::NextWave { rollout, request: request.clone() }, &request.reason);
    let begun = rollouts::next(&cx, &by, &id, &request);
    Ok(match second_person::or_request(&cx, &by, (act, reason), begun).await? {
        Submitted::Done(_) => see(&format!("/rollouts/{id}")),
        Submitted::Waits(waits) => see(&format!("/approvals/{}", waits.id)),
    })
}

pub async fn roll_back(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<NextWave>,
) -> Result<HttpResponse> {
    let back = rollouts::roll_back(&cx, &by, &id, &form).await?;
    Ok(see(&format!("/rollouts/{}", back.id)))
}

pub async fn abort(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    rollouts::abort(&cx, &by, &id).await?;
    Ok(see(&format!("/rollouts/{id}")))
}
