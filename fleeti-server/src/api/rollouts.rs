//! Rollouts under `/api/v1`.

use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::context::Context;
use fleeti_control::rollouts;
use fleeti_core::wire::api::{CreateRollout, Rollout, RolloutQuery, RolloutSummary};

use super::LIST_MAX;

type Result<T> = std::result::Result<T, AppError>;

/// List the newest rollouts.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "Rollouts, without their devices", body = Vec<RolloutSummary>)))]
#[get("/rollouts")]
pub async fn list_rollouts(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(rollouts::summaries(&cx, LIST_MAX).await?))
}

/// Start a rollout. The devices of a large fleet join in chunks, while the rollout is `starting`.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts")]
pub async fn start_rollout(cx: Data<Context>, body: Json<CreateRollout>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::start(&cx, &body).await?))
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

/// Abort a rollout. Devices that have not started the update keep what they run. The offers of a
/// large fleet are withdrawn in chunks, while the rollout is `aborting`.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/abort")]
pub async fn abort_rollout(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::abort(&cx, &id).await?))
}
