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

/// Check whether the server keeps a recovery key for the data partition of a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "When the server got the key, and when it was last shown", body = RecoveryKeyStatus)))]
#[get("/devices/{device}/recovery-key")]
pub async fn get_recovery_key(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(vault::recovery_key_status(&app, &device).await?))
}

/// Show the recovery key of a device. The server first records operator and reason in the audit
/// log. Once the device learns of that, it makes a new key at its next boot.
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

/// List the names of the secrets of a fleet. The API never returns a secret's value.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[get("/fleets/{fleet}/secrets")]
pub async fn list_secrets(app: Data<AppRef>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(vault::secrets(&app, &fleet).await?))
}

/// Set a secret of a fleet. Devices get it once they reach the policy's minimum level for secrets.
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

/// Remove a secret of a fleet.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[delete("/fleets/{fleet}/secrets/{name}")]
pub async fn remove_secret(
    app: Data<AppRef>,
    path: Path<(FleetId, SecretName)>,
) -> Result<impl Responder> {
    vault::remove_secret(&app, &path.0, &path.1).await?;
    Ok(Json(vault::secrets(&app, &path.0).await?))
}
