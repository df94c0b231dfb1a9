//! The queue of commands of a device.

use crate::accounts::actor::{Actor, Via};
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::command::{Command, CommandKind, Impact, VALID_S_MAX};
use fleeti_core::wire::problem::Code;
use fleeti_store::commands::{New, PENDING_MAX};
use fleeti_store::{self as store, Tx};

/// Maximum number of commands of people that a device remembers. It remembers at most 256, and takes
/// no others then.
const REMEMBERED_MAX: i64 = 192;

/// Queues a command in the caller's transaction. The caller notifies the device's session
/// afterwards.
pub(crate) async fn put(
    cx: &Context,
    by: &Actor,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    request: &CreateCommand,
) -> Result<CommandStatus, Error> {
    check(&request.kind, request.valid_s)?;
    let now_s = cx.now_s();
    let command = Command {
        id: new_id("cmd"),
        kind: request.kind.clone(),
        deadline_s: now_s + u64::from(request.valid_s),
    };
    check_room(tx, by, device, now_s).await?;
    let sent_by = by.account();
    let new = New { device, command: &command, sent_by };
    store::commands::insert(tx, new, now_s).await?;
    let subject = format!("{} {device} {}", command.id, command.kind.describe());
    cx.audit(tx, by.act("command.create", subject)).await?;
    Ok(CommandStatus {
        id: command.id,
        device: device.clone(),
        kind: command.kind,
        status: "pending".into(),
        detail: None,
        created_s: now_s,
        deadline_s: command.deadline_s,
        changed_s: now_s,
        sent_by: sent_by.to_owned(),
        result_bytes: None,
    })
}

/// Queues a command for many devices in the caller's transaction, which has one audit entry for all.
pub(crate) async fn put_all(
    cx: &Context,
    by: &Actor,
    tx: &mut Tx<'_>,
    (kind, valid_s): (&CommandKind, u32),
    devices: &[DeviceId],
) -> Result<(), Error> {
    let now_s = cx.now_s();
    for device in devices {
        check_room(tx, by, device, now_s).await?;
        let (id, deadline_s) = (new_id("cmd"), now_s + u64::from(valid_s));
        let command = Command { id, kind: kind.clone(), deadline_s };
        let new = New { device, command: &command, sent_by: by.account() };
        store::commands::insert(tx, new, now_s).await?;
    }
    Ok(())
}

/// Whether the device has room for one more command. The server's own have places that nobody else
/// can take.
async fn check_room(
    tx: &mut Tx<'_>,
    by: &Actor,
    device: &DeviceId,
    now_s: u64,
) -> Result<(), Error> {
    if store::commands::pending_count(tx, device, now_s).await? >= PENDING_MAX {
        return Err(full(device));
    }
    let is_server = *by.via() == Via::Process;
    if !is_server && store::commands::remembered_count(tx, device, now_s).await? >= REMEMBERED_MAX {
        let text =
            format!("{device} remembers {REMEMBERED_MAX} commands whose deadlines have not passed");
        return Err(Error::new(Code::Conflict, text).hint("give commands shorter deadlines"));
    }
    Ok(())
}

fn full(device: &DeviceId) -> Error {
    let text = format!("{PENDING_MAX} commands are already pending for {device}");
    Error::new(Code::Conflict, text).hint("cancel some of them, or wait until they have ended")
}

/// Checks a command for many devices.
///
/// # Errors
/// [`Code::Invalid`].
pub(crate) fn check_for_many(kind: &CommandKind, valid_s: u32) -> Result<(), Error> {
    if kind.impact() == Impact::Deletes {
        let text = format!("a {} is sent to one device, which is named", kind.as_str());
        return Err(Error::new(Code::Invalid, text.replace('_', " ")));
    }
    check(kind, valid_s)
}

fn check(kind: &CommandKind, valid_s: u32) -> Result<(), Error> {
    if !(1..=VALID_S_MAX).contains(&valid_s) {
        let text = format!("valid_s is {valid_s}, must be 1 to {VALID_S_MAX}");
        return Err(Error::new(Code::Invalid, text));
    }
    kind.check().map_err(|wrong| Error::new(Code::Invalid, wrong.to_string()))
}
