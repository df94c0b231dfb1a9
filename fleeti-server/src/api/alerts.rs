//! Alerts, their rules and silences under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::tags::{IfMatch, Tagged};
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_control::alerts;
use fleeti_control::context::Context;
use fleeti_core::wire::alerts::{
    AcknowledgeAlert, Alert, AlertDetails, AlertQuery, CreateSilence, RuleStatus, SetRule, Silence,
};

type Result<T> = std::result::Result<T, AppError>;

/// List alerts, newest first, one page at a time. Without `all` only those that are not resolved.
#[utoipa::path(tag = "alerts", params(AlertQuery), responses((status = 200, description = "One page of alerts", body = Vec<Alert>)))]
#[get("/alerts")]
pub async fn list_alerts(
    cx: Data<Context>,
    by: By,
    query: Query<AlertQuery>,
) -> Result<impl Responder> {
    Ok(Json(alerts::page(&cx, &by, &query).await?))
}

/// Get an alert with its history.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "The alert", body = AlertDetails)))]
#[get("/alerts/{alert}")]
pub async fn get_alert(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(alerts::get(&cx, &by, &id).await?))
}

/// Acknowledge an open alert: an operator takes care of it.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "The alert", body = AlertDetails)))]
#[post("/alerts/{alert}/acknowledge")]
pub async fn acknowledge_alert(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<AcknowledgeAlert>,
) -> Result<impl Responder> {
    Ok(Json(alerts::acknowledge(&cx, &by, &id, &body.note).await?))
}

/// List the rules that count now: the shipped ones, and what operators changed and added.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "Rules", body = Vec<RuleStatus>)))]
#[get("/alert-rules")]
pub async fn list_rules(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(alerts::rules(&cx, &by)))
}

/// Get a rule as it counts now.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "The rule", body = RuleStatus)))]
#[get("/alert-rules/{rule}")]
pub async fn get_rule(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Tagged::of(alerts::rule(&cx, &by, &id)?))
}

/// Change a shipped rule, or add or change another one.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "The rule", body = RuleStatus)))]
#[put("/alert-rules/{rule}")]
pub async fn set_rule(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    expected: IfMatch,
    body: Json<SetRule>,
) -> Result<impl Responder> {
    Ok(Tagged::of(alerts::set_rule(&cx, &by, body.0.rule(&id), &expected).await?))
}

/// Remove an added rule, or the change of a shipped one.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Removed")))]
#[delete("/alert-rules/{rule}")]
pub async fn remove_rule(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    alerts::remove_rule(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}

/// List silences and maintenance windows that have not ended.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "Silences", body = Vec<Silence>)))]
#[get("/silences")]
pub async fn list_silences(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(alerts::silences(&cx, &by).await?))
}

/// Add a silence: nobody is told of alerts that begin while it lasts.
#[utoipa::path(tag = "alerts", responses((status = 201, description = "The silence", body = Silence)))]
#[post("/silences")]
pub async fn add_silence(
    cx: Data<Context>,
    by: By,
    body: Json<CreateSilence>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(alerts::add_silence(&cx, &by, &body).await?))
}

/// Remove a silence.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Removed")))]
#[delete("/silences/{silence}")]
pub async fn remove_silence(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    alerts::remove_silence(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}
