//! Secrets of fleets, and recovery keys of devices.

use super::extract::Json;
use crate::app::AppRef;
use crate::error::AppError;
use crate::service::vault;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::vault::{
    FleetSecret, RecoveryKeyStatus, SetSecret, ShowRecoveryKey, ShownRecoveryKey,
};

type Result<T> = std::result::Result<T, AppError>;

/// Whether a key is kept that opens a device's data partition without its TPM.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Since when", body = RecoveryKeyStatus)))]
#[get("/devices/{device}/recovery-key")]
pub async fn get_recovery_key(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(vault::recovery_key_status(&app, &device).await?))
}

/// Shows that key. Who asked and why is in the audit log first; the device makes a new one at the
/// boot after it has heard of that.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The key", body = ShownRecoveryKey)))]
#[post("/devices/{device}/recovery-key")]
pub async fn show_recovery_key(
    app: Data<AppRef>,
    device: Path<DeviceId>,
    body: Json<ShowRecoveryKey>,
) -> Result<impl Responder> {
    let key = vault::show_recovery_key(&app, &device, &body).await?;
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(ShownRecoveryKey { key }))
}

/// The secrets of a fleet by their names; what is secret about them nobody is shown.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[get("/fleets/{fleet}/secrets")]
pub async fn list_secrets(app: Data<AppRef>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(vault::secrets(&app, &fleet).await?))
}

/// Sets a secret of a fleet: its devices get it once they prove what the fleet's policy asks for
/// secrets.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[put("/fleets/{fleet}/secrets/{name}")]
pub async fn set_secret(
    app: Data<AppRef>,
    path: Path<(FleetId, SecretName)>,
    body: Json<SetSecret>,
) -> Result<impl Responder> {
    vault::set_secret(&app, &path.0, &path.1, &body.value).await?;
    Ok(Json(vault::secrets(&app, &path.0).await?))
}

/// Removes a secret of a fleet.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[delete("/fleets/{fleet}/secrets/{name}")]
pub async fn remove_secret(
    app: Data<AppRef>,
    path: Path<(FleetId, SecretName)>,
) -> Result<impl Responder> {
    vault::remove_secret(&app, &path.0, &path.1).await?;
    Ok(Json(vault::secrets(&app, &path.0).await?))
}
