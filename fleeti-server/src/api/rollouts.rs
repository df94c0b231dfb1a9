//! Rollouts under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::paged::Paged;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::context::Context;
use fleeti_control::rollouts;
use fleeti_core::rollout::forecast::Forecast;
use fleeti_core::wire::api::{
    CreateRollout, NextWave, PauseRollouts, PausedRollouts, Rollout, RolloutQuery, RolloutSummary,
};
use fleeti_core::wire::list::RolloutsQuery;

type Result<T> = std::result::Result<T, AppError>;

/// List rollouts, newest first, one page at a time. `Link` has the address of the next page.
#[utoipa::path(tag = "rollouts", params(RolloutsQuery), responses((status = 200, description = "Rollouts, without their devices", body = Vec<RolloutSummary>)))]
#[get("/rollouts")]
pub async fn list_rollouts(
    cx: Data<Context>,
    by: By,
    query: Query<RolloutsQuery>,
) -> Result<impl Responder> {
    let fleet = query.fleet.as_ref().map(ToString::to_string);
    let limit = query.limit.map(|limit| limit.to_string());
    let page = rollouts::page(&cx, &by, &query).await?;
    Ok(Paged::of(page, &[("fleet", fleet), ("limit", limit)]))
}

/// Start a rollout: to everybody at once, or in waves. The devices of a large fleet join in chunks, while the rollout is `starting`.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts")]
pub async fn start_rollout(
    cx: Data<Context>,
    by: By,
    body: Json<CreateRollout>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::start(&cx, &by, &body).await?))
}

/// Plan a rollout: what it would come to if it started now, computed from what is known of the devices. Starts nothing.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "How many devices in which wave, and the expected end", body = Forecast)))]
#[post("/rollout-plans")]
pub async fn plan_rollout(
    cx: Data<Context>,
    by: By,
    body: Json<CreateRollout>,
) -> Result<impl Responder> {
    Ok(Json(rollouts::forecast(&cx, &by, &body).await?))
}

/// Get a rollout, with a page of its devices.
#[utoipa::path(tag = "rollouts", params(RolloutQuery), responses((status = 200, description = "The rollout, with a page of its devices, ordered by id", body = Rollout)))]
#[get("/rollouts/{rollout}")]
pub async fn get_rollout(
    cx: Data<Context>,
    id: Path<String>,
    query: Query<RolloutQuery>,
) -> Result<impl Responder> {
    Ok(Json(rollouts::get(&cx, &id, &query).await?))
}

/// Pause a rollout. No other device is offered the release, and those that have not rebooted into it
/// lose their offer; of a large fleet in chunks, while the rollout is `pausing`.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/pause")]
pub async fn pause_rollout(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::pause(&cx, &by, &id).await?))
}

/// Pause all rollouts that run, of the fleets that the caller may roll out to: at most 1000. Each has an entry in the audit log. A rollout whose devices still join, or that waits for the end of another one, is left and named.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollouts that were paused, and those that are left", body = PausedRollouts)))]
#[post("/rollout-pauses")]
pub async fn pause_all_rollouts(
    cx: Data<Context>,
    by: By,
    body: Json<PauseRollouts>,
) -> Result<impl Responder> {
    Ok(Json(rollouts::pause_all(&cx, &by, &body).await?))
}

/// Resume a rollout that is paused. Its errors so far are accepted.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/resume")]
pub async fn resume_rollout(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::resume(&cx, &by, &id).await?))
}

/// Begin the next wave of a rollout, whatever it waits for: its time, its soak time, or an operator.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/next")]
pub async fn begin_wave(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<NextWave>,
) -> Result<impl Responder> {
    Ok(Json(rollouts::next(&cx, &by, &id, &body).await?))
}

/// Start a rollout in place of an active one of its fleet, which is aborted. It is `ready` until the last offer of that one is withdrawn.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The new rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/supersede")]
pub async fn supersede_rollout(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<CreateRollout>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::supersede(&cx, &by, &id, &body).await?))
}

/// Roll a rollout back: another rollout takes its devices back to the release that most of them ran before. An active one is aborted first.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The rollout that goes back, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/roll-back")]
pub async fn roll_back_rollout(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<NextWave>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::roll_back(&cx, &by, &id, &body).await?))
}

/// Abort a rollout. Devices that have not started the update keep what they run. The offers of a
/// large fleet are withdrawn in chunks, while the rollout is `aborting`.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/abort")]
pub async fn abort_rollout(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::abort(&cx, &by, &id).await?))
}
