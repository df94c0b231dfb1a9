//! Devices and fleets under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get, post, put};
use fleeti_control::context::Context;
use fleeti_control::devices::search::{self, Wanted};
use fleeti_control::trust::revocation;
use fleeti_control::{boot, channels, details, devices, drift, history};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{ChangeBoot, Device, Fleet, Forgive, Revoke};
use fleeti_core::wire::fixes::FleetFixes;
use fleeti_core::wire::history::{Drift, History, HistoryQuery};
use fleeti_core::wire::updates::{Channel, PinFleet, UpdateOrder, Why};
use serde::Deserialize;
use utoipa::IntoParams;

type Result<T> = std::result::Result<T, AppError>;

/// Selects a page of devices.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The last id of the previous page; empty for the first page.
    #[serde(default)]
    #[param(max_length = 64, pattern = "^([a-z0-9][a-z0-9-]*)?$")]
    after: String,
    /// Maximum number of devices in the page, 1 to 500; default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Return only devices of this fleet.
    fleet: Option<FleetId>,
    /// Return only devices that this filter matches, such as `site=berlin and version<2`. An account
    /// with roles for single fleets sees the devices of these.
    #[serde(default)]
    #[param(max_length = 1000)]
    filter: String,
    /// Return only devices that run another release than their desired one.
    #[serde(default)]
    drift: bool,
}

/// List devices, ordered by id, one page at a time.
#[utoipa::path(tag = "devices", params(Page), responses((status = 200, description = "One page of devices", body = Vec<Device>)))]
#[get("/devices")]
pub async fn list_devices(cx: Data<Context>, by: By, page: Query<Page>) -> Result<impl Responder> {
    let Page { after, limit, fleet, filter, drift } = &*page;
    let (fleet, limit) = (fleet.as_ref(), limit.unwrap_or(100));
    let is_drifting = *drift;
    Ok(Json(search::list(&cx, &by, Wanted { fleet, filter, is_drifting, after, limit }).await?))
}

/// Get a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[get("/devices/{device}")]
pub async fn get_device(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Get how a device differs from what is desired of it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The differences", body = Drift)))]
#[get("/devices/{device}/drift")]
pub async fn get_drift(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(drift::of(&cx, &device).await?))
}

/// Get what a device was in a span of time, and its metrics.
#[utoipa::path(tag = "devices", params(HistoryQuery), responses((status = 200, description = "The history", body = History)))]
#[get("/devices/{device}/history")]
pub async fn get_history(
    cx: Data<Context>,
    device: Path<DeviceId>,
    query: Query<HistoryQuery>,
) -> Result<impl Responder> {
    Ok(Json(history::get(&cx, &device, &query).await?))
}

/// Get the certificate of a device, PEM.
#[utoipa::path(tag = "devices", responses((status = 200, description = "PEM", body = String, content_type = "application/pem-certificate-chain")))]
#[get("/devices/{device}/certificate")]
pub async fn get_certificate(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    let pem = devices::certificate(&cx, &device).await?;
    Ok(HttpResponse::Ok().content_type("application/pem-certificate-chain").body(pem))
}

/// Revoke the certificate of a device and disconnect the device at once.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/revoke")]
pub async fn revoke_device(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<Revoke>,
) -> Result<impl Responder> {
    revocation::revoke(&cx, &by, &device, body.reason).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Release a hold, the only revocation that can be undone.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/release-hold")]
pub async fn release_hold(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
) -> Result<impl Responder> {
    revocation::release_hold(&cx, &by, &device).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Allow a device to try a version again after a rollback.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/forgive")]
pub async fn forgive_device(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<Forgive>,
) -> Result<impl Responder> {
    devices::forgive(&cx, &by, &device, &body.version).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Explain why a device is, or is not, offered a release: all gates in order, and what would change
/// those that do not let the offer through.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The gates", body = Why)))]
#[get("/devices/{device}/why")]
pub async fn get_why(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(channels::why(&cx, &device).await?))
}

/// Hold the updates of a device, pin it to a release, end either, or move it to another fleet.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The gates, as they are then", body = Why)))]
#[post("/devices/{device}/updates")]
pub async fn order_updates(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<UpdateOrder>,
) -> Result<impl Responder> {
    channels::order(&cx, &by, &device, &body).await?;
    Ok(Json(channels::why(&cx, &device).await?))
}

/// Get what the devices of a fleet should run.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The channel of the fleet, and its pin", body = Channel)))]
#[get("/fleets/{fleet}/channel")]
pub async fn get_channel(cx: Data<Context>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(channels::channel(&cx, &fleet).await?))
}

/// Get the security fixes that the release of a fleet lacks.
#[utoipa::path(tag = "devices", responses((status = 200, description = "What the release lacks", body = FleetFixes)))]
#[get("/fleets/{fleet}/fixes")]
pub async fn get_fixes(cx: Data<Context>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(details::fixes(&cx, &fleet).await?))
}

/// Pin a fleet to a release, or end that. Its devices are offered the release when they next report or
/// connect, without waves.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The channel of the fleet, and its pin", body = Channel)))]
#[put("/fleets/{fleet}/channel")]
pub async fn pin_fleet(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    body: Json<PinFleet>,
) -> Result<impl Responder> {
    Ok(Json(channels::pin_fleet(&cx, &by, &fleet, &body).await?))
}

/// Change the Secure Boot keys of a device. The device applies the change once it learns of it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/boot-keys")]
pub async fn change_boot(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<ChangeBoot>,
) -> Result<impl Responder> {
    boot::change(&cx, &by, &device, &body).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// List fleets that have, or had, a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Fleets", body = Vec<Fleet>)))]
#[get("/fleets")]
pub async fn list_fleets(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(devices::fleets_for(&cx, &by).await?))
}
