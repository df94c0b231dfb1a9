//! Commands to devices, their answers and results. The machine of a command is
//! [`fleeti_core::command`].

pub mod queue;

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::devices;
use crate::error::Error;
use crate::guard;
use crate::secrets;
use fleeti_core::command::State;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{CommandStatus, CreateCommand, Event};
use fleeti_core::wire::command::{CommandKind, Impact};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;
use fleeti_store::commands::Message;

/// Number of commands in the list of a device.
pub const LISTED_MAX: u32 = 50;

/// What a device has not answered, oldest first: commands, and cancellations of commands.
pub async fn pending(cx: &Context, device: &DeviceId) -> Result<Vec<Message>, Error> {
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
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<CommandStatus, Error> {
    store::commands::get(cx.db.pool(), id, cx.now_s())
        .await?
        .ok_or_else(|| Error::not_found("command", id))
}

/// The newest commands of a device, newest first: at most [`LISTED_MAX`].
///
/// # Errors
/// [`Code::NotFound`].
pub async fn of_device(cx: &Context, device: &DeviceId) -> Result<Vec<CommandStatus>, Error> {
    if devices::fleet_of(cx, device).await?.is_none() {
        return Err(Error::not_found("device", device.as_str()));
    }
    Ok(store::commands::of_device(cx.db.pool(), device, LISTED_MAX, cx.now_s()).await?)
}

/// Queues a command for a device. The server delivers it now, or on reconnect.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`], also for a factory reset that does not name the device;
/// [`Code::Forbidden`] for a factory reset by an actor who may not revoke devices;
/// [`Code::SecondPerson`] for more factory resets and revocations than one person may make;
/// [`Code::Conflict`] if [`PENDING_MAX`](fleeti_store::commands::PENDING_MAX) commands wait for the
/// device, or the device is revoked.
pub async fn create(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, Error> {
    if request.kind.impact() == Impact::Deletes {
        check_deletion(cx, by, device, request).await?;
    }
    let mut tx = cx.db.write().await?;
    devices::in_service(&mut tx, device).await?;
    if request.kind.impact() == Impact::Deletes {
        // As much as a revocation, so it counts as one.
        guard::revocation(cx, &mut tx, by, 1).await?;
    }
    let status = queue::put(cx, by, &mut tx, device, request).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    cx.hub.commands_wait(device);
    Ok(status)
}

/// Data of a device is deleted by an actor who may also end the device, and who names it twice.
async fn check_deletion(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<(), Error> {
    let fleet = devices::fleet_of(cx, device).await?;
    let fleet = fleet.ok_or_else(|| Error::not_found("device", device.as_str()))?;
    by.authorize(Permission::Revoke, Scope::Fleet(&fleet))?;
    let is_meant =
        matches!(&request.kind, CommandKind::FactoryReset { device: named } if named == device);
    if !is_meant || request.confirm.as_deref() != Some(device.as_str()) {
        let text = format!("this is confirmed by the id of the device: {device}");
        return Err(Error::new(Code::Invalid, text));
    }
    Ok(())
}

/// Cancels a command. The device is asked to stop it, or not to begin it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a command that has ended.
pub async fn cancel(cx: &Context, by: &Actor, id: &str) -> Result<CommandStatus, Error> {
    let device = get(cx, id).await?.device;
    let mut tx = cx.db.write().await?;
    let changed = store::commands::cancel(&mut tx, id, cx.now_s()).await?;
    match changed.ok_or_else(|| Error::not_found("command", id))? {
        Ok(_) => {}
        Err(state) => {
            let text = format!("the command is {}, and cannot be cancelled", state.as_str());
            return Err(Error::new(Code::Conflict, text));
        }
    }
    cx.audit(&mut tx, by.act("command.cancel", id)).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    cx.hub.commands_wait(&device);
    get(cx, id).await
}

/// The result of a command.
///
/// # Errors
/// [`Code::NotFound`] if there is no such command, or it has no result.
pub async fn result(cx: &Context, by: &Actor, id: &str) -> Result<Vec<u8>, Error> {
    let found = store::commands::result(cx.db.pool(), id).await?;
    let result = found.ok_or_else(|| Error::not_found("result of command", id))?;
    let mut tx = cx.db.write().await?;
    cx.audit(&mut tx, by.act("command.result", id)).await?;
    tx.commit().await?;
    Ok(result)
}

/// Stores the result that a device has collected for one of its own commands.
///
/// # Errors
/// [`Code::NotFound`] for a command of another device; [`Code::Invalid`] for a result that the
/// command does not have, or that is too large; [`Code::Conflict`] for a command that has ended.
pub async fn keep_result(
    cx: &Context,
    device: &DeviceId,
    id: &str,
    result: &[u8],
) -> Result<(), Error> {
    // A device learns nothing of commands of others.
    let status = get(cx, id).await.ok().filter(|status| status.device == *device);
    let status = status.ok_or_else(|| Error::not_found("command", id))?;
    let max = status.kind.result_max();
    if result.is_empty() || result.len() > max {
        let text = format!("a result of {} has 1 to {max} bytes, not {}", id, result.len());
        return Err(Error::new(Code::Invalid, text));
    }
    // The device may have begun in time and come back late.
    let is_awaited = |state: State| state.is_open() || state == State::Expired;
    if !State::named(&status.status).is_some_and(is_awaited) {
        return Err(Error::new(Code::Conflict, format!("{id} is {}", status.status)));
    }
    let mut tx = cx.db.write().await?;
    store::commands::put_result(&mut tx, device, id, (result, cx.now_s())).await?;
    Ok(tx.commit().await?)
}
