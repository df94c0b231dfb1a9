//! The examination of the server under `/api/v1`.

use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::Data;
use actix_web::{Responder, get};
use fleeti_control::context::Context;
use fleeti_control::doctor;
use fleeti_core::wire::doctor::Diagnosis;

type Result<T> = std::result::Result<T, AppError>;

/// Examine the server: what works, what ends when, and what to do about it.
#[utoipa::path(tag = "server", responses((status = 200, description = "The examination", body = Diagnosis)))]
#[get("/doctor")]
pub async fn get_diagnosis(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(doctor::diagnose(&cx).await))
}
