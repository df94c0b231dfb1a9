//! Receivers of e-mail about alerts under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post};
use fleeti_control::context::Context;
use fleeti_control::email;
use fleeti_core::wire::email::{AddReceiver, EmailDelivery, EmailReceiver};

type Result<T> = std::result::Result<T, AppError>;

/// List the receivers of e-mail about alerts.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "Receivers", body = Vec<EmailReceiver>)))]
#[get("/email-receivers")]
pub async fn list_receivers(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(email::list(&cx).await?))
}

/// Add a receiver, which gets e-mail about alerts from now on.
#[utoipa::path(tag = "alerts", responses((status = 201, description = "The receiver", body = EmailReceiver)))]
#[post("/email-receivers")]
pub async fn add_receiver(
    cx: Data<Context>,
    by: By,
    body: Json<AddReceiver>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(email::add(&cx, &by, &body).await?))
}

/// Remove a receiver with its e-mails.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Removed")))]
#[delete("/email-receivers/{receiver}")]
pub async fn remove_receiver(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
) -> Result<impl Responder> {
    email::remove(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}

/// Send a receiver e-mail again.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Enabled")))]
#[post("/email-receivers/{receiver}/enable")]
pub async fn enable_receiver(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
) -> Result<impl Responder> {
    email::set_enabled(&cx, &by, &id, true).await?;
    Ok(HttpResponse::NoContent())
}

/// Send a receiver no e-mail, also none that waits.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "Disabled")))]
#[post("/email-receivers/{receiver}/disable")]
pub async fn disable_receiver(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
) -> Result<impl Responder> {
    email::set_enabled(&cx, &by, &id, false).await?;
    Ok(HttpResponse::NoContent())
}

/// Send a test e-mail to a receiver.
#[utoipa::path(tag = "alerts", responses((status = 204, description = "The e-mail is on its way")))]
#[post("/email-receivers/{receiver}/test")]
pub async fn test_receiver(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    email::test(&cx, &by, &id).await?;
    Ok(HttpResponse::NoContent())
}

/// List the newest e-mails to a receiver, newest first.
#[utoipa::path(tag = "alerts", responses((status = 200, description = "E-mails", body = Vec<EmailDelivery>)))]
#[get("/email-receivers/{receiver}/emails")]
pub async fn list_emails(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(email::deliveries(&cx, &id).await?))
}
