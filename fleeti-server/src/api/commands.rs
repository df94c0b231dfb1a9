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

/// List the newest commands of a device, newest first.
#[utoipa::path(tag = "commands", responses((status = 200, description = "At most 50 commands", body = Vec<CommandStatus>)))]
#[get("/devices/{device}/commands")]
pub async fn list_commands(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(commands::of_device(&cx, &device).await?))
}

/// Cancel a command. The device is asked to stop it, or not to begin it.
#[utoipa::path(tag = "commands", responses((status = 200, description = "The command", body = CommandStatus)))]
#[post("/commands/{command}/cancel")]
pub async fn cancel_command(
    cx: Data<Context>,
    by: By,
    command: Path<String>,
) -> Result<impl Responder> {
    Ok(Json(commands::cancel(&cx, &by, &command).await?))
}

/// Get the result of a command: the text of logs and diagnostics, or an encrypted support bundle.
#[utoipa::path(
    tag = "commands",
    responses((status = 200, description = "The result, at most 512 KiB", body = Vec<u8>, content_type = "application/octet-stream"))
)]
#[get("/commands/{command}/result")]
pub async fn get_command_result(
    cx: Data<Context>,
    by: By,
    command: Path<String>,
) -> Result<impl Responder> {
    let result = commands::result(&cx, &by, &command).await?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(result))
}

/// Get the status of a command.
#[utoipa::path(tag = "commands", responses((status = 200, description = "The command", body = CommandStatus)))]
#[get("/commands/{command}")]
pub async fn get_command(cx: Data<Context>, command: Path<String>) -> Result<impl Responder> {
    Ok(Json(commands::get(&cx, &command).await?))
}
