//! The trust bundle under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::context::Context;
use fleeti_control::trust;
use fleeti_core::wire::api::{ImportBundle, SwitchIssuer, TrustStatus};

type Result<T> = std::result::Result<T, AppError>;

/// Get the trust bundle: which intermediate CAs count, which of them issue, and how many devices
/// have the bundle.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The trust bundle", body = TrustStatus)))]
#[get("/trust-bundle")]
pub async fn get_trust(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(trust::status(&cx).await?))
}

/// Import the result of a root ceremony: a trust bundle, and the transcript of how it was made.
#[utoipa::path(tag = "trust", responses((status = 201, description = "The trust bundle, now in force", body = TrustStatus)))]
#[post("/trust-bundle")]
pub async fn import_bundle(
    cx: Data<Context>,
    by: By,
    body: Json<ImportBundle>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(trust::import(&cx, &by, &body).await?))
}

/// Make another intermediate CA of the trust bundle the issuer.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The trust bundle, with the new issuer", body = TrustStatus)))]
#[post("/trust-bundle/issuer")]
pub async fn switch_issuer(
    cx: Data<Context>,
    by: By,
    body: Json<SwitchIssuer>,
) -> Result<impl Responder> {
    Ok(Json(trust::switch(&cx, &by, &body).await?))
}
