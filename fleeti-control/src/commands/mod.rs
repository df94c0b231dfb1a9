//! Commands to devices.

use crate::app::{App, new_id};
use crate::error::AppError;
use crate::service::vault;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::device::Command;
use fleeti_core::wire::problem::Code;
use fleeti_store::commands::PENDING_MAX;
use fleeti_store::{self as store, Tx};

const VALID_S_MAX: u32 = 30 * 86_400;

/// Commands that a device has not acknowledged, oldest first.
pub async fn pending(app: &App, device: &DeviceId) -> Result<Vec<Command>, AppError> {
    vault::order_new_recovery_key(app, device).await?;
    Ok(store::commands::pending(app.db.pool(), device, app.now_s()).await?)
}

/// The status of a command.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, id: &str) -> Result<CommandStatus, AppError> {
    store::commands::get(app.db.pool(), id, app.now_s())
        .await?
        .ok_or_else(|| AppError::not_found("command", id))
}

/// Queues a command for a device. The server delivers it now, or on reconnect.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`]; [`Code::Conflict`] if [`PENDING_MAX`] commands wait for
/// the device, or the device is revoked.
pub async fn create(
    app: &App,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, AppError> {
    let mut tx = app.db.write().await?;
    super::devices::in_service(&mut tx, device).await?;
    let status = put(app, &mut tx, device, request).await?;
    tx.commit().await?;
    app.hub.commands_wait(device);
    Ok(status)
}

/// Like [`create`], in the caller's transaction. The caller notifies the device's session
/// afterwards.
pub(super) async fn put(
    app: &App,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, AppError> {
    if !(1..=VALID_S_MAX).contains(&request.valid_s) {
        return Err(AppError::new(
            Code::Invalid,
            format!("valid_s is {}, must be 1 to {VALID_S_MAX}", request.valid_s),
        ));
    }
    let now = app.now_s();
    let command = Command {
        id: new_id("cmd"),
        kind: request.kind,
        deadline_s: now + u64::from(request.valid_s),
    };
    if store::commands::pending_count(tx, device, now).await? >= PENDING_MAX {
        return Err(AppError::new(
            Code::Conflict,
            format!("{PENDING_MAX} commands are already pending for {device}"),
        ));
    }
    store::commands::insert(tx, device, &command, now).await?;
    app.audit(
        tx,
        now,
        "admin",
        "command.create",
        &format!("{} {device} {:?}", command.id, command.kind),
    )
    .await?;
    Ok(CommandStatus { id: command.id, kind: command.kind, status: "pending".into() })
}
