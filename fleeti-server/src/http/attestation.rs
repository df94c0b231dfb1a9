//! What devices prove, under `/api/v1/devices/{device}/attestation`.

use crate::app::AppRef;
use crate::error::AppError;
use crate::service::attestation;
use actix_web::web::{Data, Json, Path};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::Attestation;

type Result<T> = std::result::Result<T, AppError>;

/// How far a device can be trusted, what for, and what it measured.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level, claims and registers", body = Attestation)))]
#[get("/devices/{device}/attestation")]
pub async fn get_attestation(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(attestation::get(&app, &device).await?))
}

/// Asks a device's TPM now. The answer comes within seconds, or never.
#[utoipa::path(tag = "attestation", responses((status = 202, description = "It is asked")))]
#[post("/devices/{device}/attestation/challenge")]
pub async fn challenge(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    attestation::ask_now(&app, &device).await?;
    Ok(HttpResponse::Accepted().json(()))
}

/// Accepts the firmware that a device has now.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level and claims", body = Attestation)))]
#[post("/devices/{device}/attestation/accept-firmware")]
pub async fn accept_firmware(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    attestation::accept_firmware(&app, &device).await?;
    Ok(Json(attestation::get(&app, &device).await?))
}
