//! Changes of all devices that a filter matches: first a preview with their number, then the change
//! with that number.

use crate::accounts::actor::Actor;
use crate::changes::record::record_devices;
use crate::commands::queue;
use crate::context::{Context, ContextRef};
use crate::devices::search;
use crate::error::Error;
use crate::guard;
use crate::labels;
use crate::trust::revocation;
use fleeti_core::filter::Filter;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::labels::{
    COMMANDED_MAX, Change, ChangeDevices, DevicesChanged, LABELLED_MAX, PREVIEW, REVOKED_MAX,
    devices_in_words,
};
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};

/// Shows or changes the devices that a filter matches and the actor may change.
///
/// # Errors
/// [`Code::Invalid`] for a filter, label or command that is refused, and for a change that is not
/// confirmed; [`Code::SecondPerson`]; [`Code::Forbidden`] without the permission for any fleet; [`Code::Conflict`] for
/// another number of devices than expected, or too many.
pub async fn change(
    cx: &ContextRef,
    by: &Actor,
    request: &ChangeDevices,
) -> Result<DevicesChanged, Error> {
    let (permission, max) = match &request.change {
        Change::Label { .. } | Change::Unlabel { .. } => (Permission::Operate, LABELLED_MAX),
        Change::Revoke { .. } => (Permission::Revoke, REVOKED_MAX),
        Change::Command { .. } => (Permission::Operate, COMMANDED_MAX),
    };
    let filter = wanted(cx, by, request, permission).await?;
    let mut tx = cx.db.write().await?;
    let limit = u32::try_from(max + 1).unwrap_or(u32::MAX);
    let ids = search::ids_in(cx, &mut tx, (by, permission), &filter, limit).await?;
    check_change(&mut tx, &request.change).await?;
    let Some(expected) = request.expected else {
        drop(tx);
        let devices = search::count(cx, by, permission, &filter).await?;
        return Ok(changed(devices, &ids, false));
    };
    check(request, expected, ids.len() as u64, max)?;
    apply(cx, by, tx, (&request.change, &filter), &ids).await?;
    Ok(changed(expected, &ids, true))
}

/// The devices that a confirmed request to revoke names now, for a second person.
///
/// # Errors
/// As [`change`]; [`Code::Invalid`] for a preview, or another change.
pub(crate) async fn to_revoke(
    cx: &Context,
    by: &Actor,
    request: &ChangeDevices,
) -> Result<(Vec<DeviceId>, RevocationReason), Error> {
    let (Change::Revoke { reason }, Some(expected)) = (&request.change, request.expected) else {
        let text = "only a revocation with the number of its preview needs a second person";
        return Err(Error::new(Code::Invalid, text));
    };
    let filter = wanted(cx, by, request, Permission::Revoke).await?;
    let mut tx = cx.db.write().await?;
    let limit = u32::try_from(REVOKED_MAX + 1).unwrap_or(u32::MAX);
    let ids = search::ids_in(cx, &mut tx, (by, Permission::Revoke), &filter, limit).await?;
    check(request, expected, ids.len() as u64, REVOKED_MAX)?;
    Ok((ids, *reason))
}

/// The filter of a request.
async fn wanted(
    cx: &Context,
    by: &Actor,
    request: &ChangeDevices,
    permission: Permission,
) -> Result<Filter, Error> {
    if !by.may_somewhere(permission) {
        return Err(by.refused(permission, crate::accounts::actor::Scope::All));
    }
    let filter = search::parsed(cx, &request.filter).await?.map_err(search::refused)?;
    if filter.is_empty() {
        return Err(Error::new(Code::Invalid, "the filter is empty, and would match every device")
            .hint("write a filter such as site=berlin"));
    }
    Ok(filter)
}

fn changed(devices: u64, ids: &[DeviceId], done: bool) -> DevicesChanged {
    DevicesChanged { devices, first: ids.iter().take(PREVIEW).cloned().collect(), done }
}

async fn check_change(tx: &mut Tx<'_>, change: &Change) -> Result<(), Error> {
    if let Change::Command { kind, valid_s } = change {
        return queue::check_for_many(kind, *valid_s);
    }
    let keys = store::labels::keys_in(tx).await?;
    match change {
        Change::Label { key, value } => match labels::wrong(&keys, key, value) {
            Some(wrong) => {
                Err(Error::new(Code::Invalid, wrong.message.clone()).errors(vec![wrong]))
            }
            None => Ok(()),
        },
        Change::Unlabel { key } if !keys.contains_key(key) => {
            Err(Error::new(Code::Invalid, format!("there is no label key {key}")))
        }
        Change::Unlabel { .. } | Change::Revoke { .. } | Change::Command { .. } => Ok(()),
    }
}

fn check(request: &ChangeDevices, expected: u64, found: u64, max: u64) -> Result<(), Error> {
    if found > max {
        let text = format!("the filter matches more than {max} devices, the most for one change");
        return Err(Error::new(Code::Conflict, text).hint("add tests to the filter"));
    }
    if found != expected {
        let text = format!("the filter matches {} now, not {expected}", devices_in_words(found));
        return Err(Error::new(Code::Conflict, text).hint("look at the preview again"));
    }
    let phrase = request.change.phrase(expected);
    if phrase.is_some() && request.confirm != phrase {
        let text = phrase.unwrap_or_default();
        return Err(Error::new(Code::Invalid, format!("this is confirmed by the text {text:?}")));
    }
    Ok(())
}

/// A revoked device gets no command.
async fn check_in_service(tx: &mut Tx<'_>, devices: &[&DeviceId]) -> Result<(), Error> {
    let known = store::devices::existing(tx, devices).await?;
    let revoked = |(_, is_revoked): &(String, bool)| *is_revoked;
    match devices.iter().find(|id| known.get(id.as_str()).is_some_and(revoked)) {
        Some(revoked) => Err(Error::new(Code::Conflict, format!("{revoked} is revoked"))
            .hint("add `and not revoked` to the filter")),
        None => Ok(()),
    }
}

async fn apply(
    cx: &ContextRef,
    by: &Actor,
    mut tx: Tx<'_>,
    (change, filter): (&Change, &Filter),
    ids: &[DeviceId],
) -> Result<(), Error> {
    let devices: Vec<_> = ids.iter().collect();
    let said = match change {
        Change::Label { key, value } => {
            let keys = store::labels::keys_in(&mut tx).await?;
            let all: Vec<_> =
                ids.iter().map(|device| labels::label(&keys, device, key, value)).collect();
            store::labels::set(&mut tx, &all).await?;
            labels::check_number(&mut tx, &devices).await?;
            format!("{key}={value:?}")
        }
        Change::Unlabel { key } => {
            store::labels::unset(&mut tx, key, &devices).await?;
            format!("-{key}")
        }
        Change::Revoke { reason } => {
            guard::revocation(cx, &mut tx, by, ids.len() as u64).await?;
            format!("revoke {}", reason.as_str())
        }
        Change::Command { kind, valid_s } => {
            check_in_service(&mut tx, &devices).await?;
            queue::put_all(cx, by, &mut tx, (kind, *valid_s), ids).await?;
            format!("command {}", kind.describe())
        }
    };
    let subject = format!("{said} on {} devices of {filter}", ids.len());
    cx.audit(&mut tx, by.act("device.change-all", subject)).await?;
    let changes = record_devices(&mut tx, cx.now_s(), ids.iter()).await?;
    tx.commit().await?;
    if let Change::Revoke { reason } = change {
        return revocation::revoke_all(cx, by, ids.to_vec(), *reason).await;
    }
    if matches!(change, Change::Command { .. }) {
        ids.iter().for_each(|id| cx.hub.commands_wait(id));
    }
    changes.into_iter().for_each(|change| cx.publish(change));
    Ok(())
}
