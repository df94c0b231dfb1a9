//! Commands to devices under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::commands;
use fleeti_control::context::Context;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};

type Result<T> = std::result::Result<T, AppError>;

/// Queue a command for a device.
#[utoipa::path(tag = "commands", responses((status = 201, description = "The queued command", body = CommandStatus)))]
#[post("/devices/{device}/commands")]
pub async fn create_command(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
    body: Json<CreateCommand>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(commands::create(&cx, &by, &device, &body).await?))
}

/// Get the status of a command.
#[utoipa::path(tag = "commands", responses((status = 200, description = "The command", body = CommandStatus)))]
#[get("/commands/{command}")]
pub async fn get_command(cx: Data<Context>, command: Path<String>) -> Result<impl Responder> {
    Ok(Json(commands::get(&cx, &command).await?))
}
