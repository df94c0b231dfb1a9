//! Webhooks under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post};
use fleeti_control::context::Context;
use fleeti_control::webhooks;
use fleeti_core::wire::webhook::{CreateWebhook, CreatedWebhook, Delivery, Webhook};

type Result<T> = std::result::Result<T, AppError>;

/// List webhooks, without their secrets.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "Webhooks", body = Vec<Webhook>)))]
#[get("/webhooks")]
pub async fn list_webhooks(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(webhooks::list(&cx).await?))
}

/// Add a webhook, which gets events from now on. Only this response contains its secret.
#[utoipa::path(tag = "alerts", responses((status = 201, description = "The webhook with its secret", body = CreatedWebhook)))]
#[post("/webhooks")]
pub async fn add_webhook(
    cx: Data<Context>,
    by: By,
    body: Json<CreateWebhook>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(webhooks::add(&cx, &by, &body).await?))
}

/// Remove a webhook with its deliveries.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Removed")))]
#[delete("/webhooks/{webhook}")]
pub async fn remove_webhook(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    webhooks::remove(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}

/// Send the event `webhook.test` to a webhook.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "The event is on its way")))]
#[post("/webhooks/{webhook}/test")]
pub async fn test_webhook(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    webhooks::test(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}

/// List the newest deliveries of a webhook, newest first.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "Deliveries", body = Vec<Delivery>)))]
#[get("/webhooks/{webhook}/deliveries")]
pub async fn list_deliveries(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(webhooks::deliveries(&cx, &id).await?))
}
