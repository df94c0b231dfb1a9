//! Commands to devices.

pub mod queue;

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::devices;
use crate::error::Error;
use crate::secrets;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::device::Command;
use fleeti_store::{self as store};

/// Commands that a device has not acknowledged, oldest first.
pub async fn pending(cx: &Context, device: &DeviceId) -> Result<Vec<Command>, Error> {
    secrets::request_new_recovery_key(cx, device).await?;
    Ok(store::commands::pending(cx.db.pool(), device, cx.now_s()).await?)
}

/// The fleet of the device of a command.
pub async fn fleet_of(cx: &Context, id: &str) -> Result<Option<FleetId>, Error> {
    Ok(store::commands::fleet_of(cx.db.pool(), id).await?)
}

/// The status of a command.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn get(cx: &Context, id: &str) -> Result<CommandStatus, Error> {
    store::commands::get(cx.db.pool(), id, cx.now_s())
        .await?
        .ok_or_else(|| Error::not_found("command", id))
}

/// Queues a command for a device. The server delivers it now, or on reconnect.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound); [`Code::Invalid`](fleeti_core::wire::problem::Code::Invalid); [`Code::Conflict`](fleeti_core::wire::problem::Code::Conflict) if [`PENDING_MAX`](fleeti_store::commands::PENDING_MAX) commands wait for
/// the device, or the device is revoked.
pub async fn create(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, Error> {
    let mut tx = cx.db.write().await?;
    devices::in_service(&mut tx, device).await?;
    let status = queue::put(cx, by, &mut tx, device, request).await?;
    tx.commit().await?;
    cx.hub.commands_wait(device);
    Ok(status)
}
