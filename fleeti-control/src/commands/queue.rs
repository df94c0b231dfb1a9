//! The queue of commands of a device.

use crate::accounts::actor::Actor;
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::device::Command;
use fleeti_core::wire::problem::Code;
use fleeti_store::commands::PENDING_MAX;
use fleeti_store::{self as store, Tx};

const VALID_S_MAX: u32 = 30 * 86_400;

/// Queues a command in the caller's transaction. The caller notifies the device's session
/// afterwards.
pub(crate) async fn put(
    cx: &Context,
    by: &Actor,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, Error> {
    if !(1..=VALID_S_MAX).contains(&request.valid_s) {
        return Err(Error::new(
            Code::Invalid,
            format!("valid_s is {}, must be 1 to {VALID_S_MAX}", request.valid_s),
        ));
    }
    let now = cx.now_s();
    let command = Command {
        id: new_id("cmd"),
        kind: request.kind,
        deadline_s: now + u64::from(request.valid_s),
    };
    if store::commands::pending_count(tx, device, now).await? >= PENDING_MAX {
        return Err(Error::new(
            Code::Conflict,
            format!("{PENDING_MAX} commands are already pending for {device}"),
        ));
    }
    store::commands::insert(tx, device, &command, now).await?;
    cx.audit(tx, by.act("command.create", format!("{} {device} {:?}", command.id, command.kind)))
        .await?;
    Ok(CommandStatus { id: command.id, kind: command.kind, status: "pending".into() })
}
