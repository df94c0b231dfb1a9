//! Secrets of fleets, and recovery keys of devices.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_control::context::Context;
use fleeti_control::secrets;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::vault::{
    FleetSecret, RecoveryKeyStatus, SetSecret, ShowRecoveryKey, ShownRecoveryKey,
};

type Result<T> = std::result::Result<T, AppError>;

/// Check whether the server keeps a recovery key for the data partition of a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "When the server got the key, and when it was last shown", body = RecoveryKeyStatus)))]
#[get("/devices/{device}/recovery-key")]
pub async fn get_recovery_key(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(secrets::recovery_key_status(&cx, &device).await?))
}

/// Show the recovery key of a device. The server first records operator and reason in the audit
/// log. Once the device learns of that, it makes a new key at its next boot.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The key", body = ShownRecoveryKey)))]
#[post("/devices/{device}/recovery-key")]
pub async fn show_recovery_key(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<ShowRecoveryKey>,
) -> Result<impl Responder> {
    let key = secrets::show_recovery_key(&cx, &by, &device, &body).await?;
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(ShownRecoveryKey { key }))
}

/// List the names of the secrets of a fleet. The API never returns a secret's value.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[get("/fleets/{fleet}/secrets")]
pub async fn list_secrets(cx: Data<Context>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(secrets::secrets(&cx, &fleet).await?))
}

/// Set a secret of a fleet. Devices get it once they reach the policy's minimum level for secrets.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[put("/fleets/{fleet}/secrets/{name}")]
pub async fn set_secret(
    cx: Data<Context>,
    by: By,
    path: Path<(FleetId, SecretName)>,
    body: Json<SetSecret>,
) -> Result<impl Responder> {
    secrets::set_secret(&cx, &by, &path.0, &path.1, &body.value).await?;
    Ok(Json(secrets::secrets(&cx, &path.0).await?))
}

/// Remove a secret of a fleet.
#[utoipa::path(tag = "secrets", responses((status = 200, description = "Names", body = Vec<FleetSecret>)))]
#[delete("/fleets/{fleet}/secrets/{name}")]
pub async fn remove_secret(
    cx: Data<Context>,
    by: By,
    path: Path<(FleetId, SecretName)>,
) -> Result<impl Responder> {
    secrets::remove_secret(&cx, &by, &path.0, &path.1).await?;
    Ok(Json(secrets::secrets(&cx, &path.0).await?))
}
