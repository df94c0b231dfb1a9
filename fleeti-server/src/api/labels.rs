//! Names, notes and labels of devices, saved views, and changes of all devices of a filter, under
//! `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::tags::{IfMatch, Tagged};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_control::context::Context;
use fleeti_control::labels::import;
use fleeti_control::{bulk, devices, labels, replacement, views};
use fleeti_core::id::{DeviceId, LabelKey, ViewName};
use fleeti_core::wire::api::Device;
use fleeti_core::wire::labels::{
    About, ChangeDevices, ChangeLabels, DeclareLabelKey, DevicesChanged, ImportLabels, Imported,
    LabelKeyInfo, Replace, SaveView, View,
};

type Result<T> = std::result::Result<T, AppError>;

/// List label keys.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Label keys", body = Vec<LabelKeyInfo>)))]
#[get("/label-keys")]
pub async fn list_label_keys(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(labels::keys(&cx).await?))
}

/// Declare a label key, or change what values it can have.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The label key", body = LabelKeyInfo)))]
#[put("/label-keys/{key}")]
pub async fn declare_label_key(
    cx: Data<Context>,
    by: By,
    key: Path<LabelKey>,
    body: Json<DeclareLabelKey>,
) -> Result<impl Responder> {
    Ok(Json(labels::declare(&cx, &by, &key, &body).await?))
}

/// Remove a label key that no device has.
#[utoipa::path(tag = "devices", responses((status = 204, description = "Removed")))]
#[delete("/label-keys/{key}")]
pub async fn remove_label_key(
    cx: Data<Context>,
    by: By,
    key: Path<LabelKey>,
) -> Result<impl Responder> {
    labels::remove_key(&cx, &by, &key).await?;
    Ok(HttpResponse::NoContent())
}

/// Change the name and the note of a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/about")]
pub async fn describe_device(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<About>,
) -> Result<impl Responder> {
    labels::describe(&cx, &by, &device, &body).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Set and remove labels of a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/labels")]
pub async fn change_labels(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<ChangeLabels>,
) -> Result<impl Responder> {
    labels::change(&cx, &by, &device, &body).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Set names, notes and labels of many devices: of all rows, or of none.
#[utoipa::path(tag = "devices", responses((status = 200, description = "What changed", body = Imported)))]
#[post("/label-imports")]
pub async fn import_labels(
    cx: Data<Context>,
    by: By,
    body: Json<ImportLabels>,
) -> Result<impl Responder> {
    Ok(Json(import::import(&cx, &by, &body).await?))
}

/// Preview or make a change of all devices that a filter matches.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The devices", body = DevicesChanged)))]
#[post("/device-changes")]
pub async fn change_devices(
    cx: Data<Context>,
    by: By,
    body: Json<ChangeDevices>,
) -> Result<impl Responder> {
    Ok(Json(bulk::change(&cx, &by, &body).await?))
}

/// Put an enrolled device in the place of another one, and revoke that one.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The new device", body = Device)))]
#[post("/devices/{device}/replace")]
pub async fn replace_device(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<Replace>,
) -> Result<impl Responder> {
    replacement::replace(&cx, &by, &device, &body.with).await?;
    Ok(Json(devices::get(&cx, body.with.as_str()).await?))
}

/// List saved views.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Views", body = Vec<View>)))]
#[get("/views")]
pub async fn list_views(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(views::list(&cx).await?))
}

/// Get a saved view.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The view", body = View)))]
#[get("/views/{view}")]
pub async fn get_view(cx: Data<Context>, view: Path<ViewName>) -> Result<impl Responder> {
    Ok(Tagged::of(views::get(&cx, &view).await?))
}

/// Save a view, in place of an earlier one of its name.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The view", body = View)))]
#[put("/views/{view}")]
pub async fn save_view(
    cx: Data<Context>,
    by: By,
    view: Path<ViewName>,
    expected: IfMatch,
    body: Json<SaveView>,
) -> Result<impl Responder> {
    Ok(Tagged::of(views::save(&cx, &by, &view, &body.filter, &expected).await?))
}

/// Remove a saved view.
#[utoipa::path(tag = "devices", responses((status = 204, description = "Removed")))]
#[delete("/views/{view}")]
pub async fn remove_view(
    cx: Data<Context>,
    by: By,
    view: Path<ViewName>,
) -> Result<impl Responder> {
    views::remove(&cx, &by, &view).await?;
    Ok(HttpResponse::NoContent())
}
