//! Wrapped values that the server stores but cannot read: recovery keys of data partitions, and
//! secrets of fleets. Only the signing service can unwrap them, and it writes to the audit log
//! first.
//!
//! A device gets the secrets of its fleet in exchange for a ticket. The server sends the ticket
//! over the MQTT session in which the device just proved the required level. The device key alone
//! is not enough: it is in the TPM, which serves any software that an attacker boots on the device.

pub(crate) mod tickets;

use crate::accounts::actor::Actor;
use crate::attestation::{challenge, policy};
use crate::changes::record::record;
use crate::commands::queue;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::guard;
use crate::signing;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::api::{CreateCommand, Device, Event};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::device::CommandKind;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::{
    FleetSecret, REASON, RecoveryKey, RecoveryKeyStatus, SECRET_MAX, SECRETS_MAX, SecretChange,
    Secrets, SecretsTicket, ShowRecoveryKey, is_reason, is_recovery_key,
};
use fleeti_signer_client::wire::{Kept, Request, Response};
use fleeti_store::vault::WrappedSecrets;
use fleeti_store::{self as store, attestations, commands};
use std::sync::Arc;

/// Validity of the command to make a new recovery key, in seconds.
const COMMAND_S: u32 = 30 * 86_400;

fn unexpected() -> Error {
    Error::internal("unexpected response of the signing service")
}

async fn wrapped(cx: &Context, kept: Kept, secret: Secret) -> Result<String, Error> {
    match signing::ask(&cx.signer, Request::Keep { kept, secret }).await? {
        Response::Kept { wrapped } => Ok(wrapped),
        _ => Err(unexpected()),
    }
}

/// Stores the recovery key of a device, and keeps the previous one.
///
/// # Errors
/// [`Code::Invalid`] for an invalid key; [`Code::Unavailable`] if the previous key is too recent.
pub async fn keep_recovery_key(
    cx: &Context,
    device: &DeviceId,
    sent: &RecoveryKey,
) -> Result<(), Error> {
    let key = sent.key.expose();
    if !is_recovery_key(key) {
        return Err(Error::new(Code::Invalid, "key: not a recovery key of systemd-cryptenroll"));
    }
    let sha256 = sha256_hex(key.as_bytes());
    if let Some(known) = store::vault::recovery_key(cx.db.pool(), device).await? {
        // A repeated request, whose response was lost.
        if known.key_sha256 == sha256 {
            return Ok(());
        }
        // A device makes one per boot, so a faster sequence is refused. A key that was shown may be
        // replaced at once.
        let is_seen = known.status.shown_s.is_some();
        if !is_seen
            && cx.now_s().saturating_sub(known.status.kept_s) < cx.settings.limits.recovery_key_s
        {
            return Err(Error::new(
                Code::Unavailable,
                "the server got a recovery key of this device a moment ago",
            )
            .hint("try again in a few minutes"));
        }
    }
    let kept = wrapped(
        cx,
        Kept::RecoveryKey { device: device.clone() },
        Secret::new(STANDARD.encode(key)),
    )
    .await?;
    let mut tx = cx.db.write().await?;
    store::vault::keep_recovery_key(&mut tx, device, &kept, &sha256, cx.now_s()).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    cx.secrets.shown().remove(device);
    Ok(())
}

/// When the recovery key of a device was stored, and when it was last shown.
///
/// # Errors
/// [`Code::NotFound`] when there is none.
pub async fn recovery_key_status(
    cx: &Context,
    device: &DeviceId,
) -> Result<RecoveryKeyStatus, Error> {
    let found = store::vault::recovery_key(cx.db.pool(), device).await?;
    found.map(|row| row.status).ok_or_else(|| no_recovery_key(device))
}

fn no_recovery_key(device: &DeviceId) -> Error {
    Error::not_found("recovery key of", device.as_str())
        .hint("its data partition is not sealed, or the device has not connected since")
}

/// A reason to show a recovery key.
///
/// # Errors
/// [`Code::Invalid`].
pub(crate) fn checked_reason(reason: &str) -> Result<&str, Error> {
    let reason = reason.trim();
    if is_reason(reason) {
        return Ok(reason);
    }
    let (min, max) = (REASON.start(), REASON.end());
    let text = format!(
        "reason must be one line of {min} to {max} bytes; it stays in the audit log forever"
    );
    Err(Error::new(Code::Invalid, text))
}

/// Shows the recovery key of a device to an operator. The signing service first writes actor,
/// subject and reason to the audit log. Once the device learns of it, it makes a new key at its
/// next boot.
///
/// # Errors
/// [`Code::NotFound`] without a recovery key; [`Code::Invalid`] for an invalid reason;
/// [`Code::SecondPerson`].
pub async fn show_recovery_key(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &ShowRecoveryKey,
) -> Result<Secret, Error> {
    let reason = checked_reason(&request.reason)?;
    guard::recovery_key(cx, by).await?;
    let row = store::vault::recovery_key(cx.db.pool(), device)
        .await?
        .ok_or_else(|| no_recovery_key(device))?;
    let wrapped = if request.previous {
        row.previous.ok_or_else(|| no_recovery_key(device))?
    } else {
        row.wrapped
    };
    let (actor, reason) = (by.to_string(), reason.to_owned());
    let asked = Request::ShowRecoveryKey {
        device: device.clone(),
        wrapped: wrapped.clone(),
        actor,
        reason,
    };
    let Response::Shown { secret } = signing::ask(&cx.signer, asked).await? else {
        return Err(unexpected());
    };
    let plain = STANDARD
        .decode(secret.expose())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unexpected)?;
    let mut tx = cx.db.write().await?;
    store::vault::set_shown(&mut tx, device, &wrapped, cx.now_s()).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    if !request.previous {
        cx.secrets.shown().insert(device.clone());
        cx.hub.commands_wait(device);
    }
    Ok(Secret::new(plain))
}

/// Commands a device to make a new recovery key if its current one was shown. Repeats the command
/// until the device has made one.
pub(crate) async fn request_new_recovery_key(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    if !cx.secrets.shown().contains(device) {
        return Ok(());
    }
    let row = store::vault::recovery_key(cx.db.pool(), device).await?;
    let Some(shown_s) = row.and_then(|r| r.status.shown_s) else { return Ok(()) };
    let mut tx = cx.db.write().await?;
    let is_requested =
        commands::has_command_since(&mut tx, device, CommandKind::NewRecoveryKey, shown_s).await?;
    if is_requested
        || commands::pending_count(&mut tx, device, cx.now_s()).await? >= commands::PENDING_MAX
    {
        return Ok(());
    }
    queue::put(
        cx,
        &Actor::server(),
        &mut tx,
        device,
        &CreateCommand { kind: CommandKind::NewRecoveryKey, valid_s: COMMAND_S, confirm: None },
    )
    .await?;
    Ok(tx.commit().await?)
}

/// The names of a fleet's secrets, without values.
pub async fn secrets(cx: &Context, fleet: &FleetId) -> Result<Vec<FleetSecret>, Error> {
    Ok(store::vault::secrets(cx.db.pool(), fleet).await?)
}

/// Sets a secret of a fleet. The server requests evidence from the connected devices, which then
/// get the secret if their level is sufficient.
///
/// # Errors
/// [`Code::Invalid`] for an empty or too long value; [`Code::Conflict`] for more than
/// [`SECRETS_MAX`].
pub async fn set_secret(
    cx: &ContextRef,
    by: &Actor,
    fleet: &FleetId,
    name: &SecretName,
    value: &Secret,
) -> Result<(), Error> {
    let length = STANDARD
        .decode(value.expose())
        .map_err(|e| Error::new(Code::Invalid, format!("value: {e}")))?
        .len();
    if !(1..=SECRET_MAX).contains(&length) {
        return Err(Error::new(
            Code::Invalid,
            format!("value: the secret has {length} bytes, must have 1 to {SECRET_MAX}"),
        ));
    }
    let kept = wrapped(
        cx,
        Kept::Secret { fleet: fleet.clone(), name: name.clone(), actor: by.to_string() },
        value.clone(),
    )
    .await?;
    change(cx, by, fleet, name, Some(kept)).await
}

/// Removes a secret of a fleet, also from its devices once they attest again.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove_secret(
    cx: &ContextRef,
    by: &Actor,
    fleet: &FleetId,
    name: &SecretName,
) -> Result<(), Error> {
    change(cx, by, fleet, name, None).await
}

/// Runs in a task of its own: if the client disconnects, memory and database still change together.
async fn change(
    cx: &ContextRef,
    by: &Actor,
    fleet: &FleetId,
    name: &SecretName,
    kept: Option<String>,
) -> Result<(), Error> {
    let (cx, by, fleet, name) = (Arc::clone(cx), by.clone(), fleet.clone(), name.clone());
    tokio::spawn(async move { changed(&cx, &by, &fleet, &name, kept.as_deref()).await })
        .await
        .map_err(Error::internal)?
}

async fn changed(
    cx: &Context,
    by: &Actor,
    fleet: &FleetId,
    name: &SecretName,
    kept: Option<&str>,
) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let version = store::vault::changed(&mut tx, fleet).await?;
    let action = match kept {
        Some(_) if store::vault::count_besides(&mut tx, fleet, name).await? >= SECRETS_MAX => {
            return Err(Error::new(
                Code::Conflict,
                format!("fleet {fleet} already has the maximum of {SECRETS_MAX} secrets"),
            ));
        }
        Some(wrapped) => {
            let change = SecretChange { version, changed_s: cx.now_s() };
            store::vault::set_secret(&mut tx, fleet, name, wrapped, change).await?;
            "fleet.secret-set"
        }
        None if !store::vault::remove_secret(&mut tx, fleet, name).await? => {
            return Err(Error::not_found("secret", name.as_str()));
        }
        None => "fleet.secret-removed",
    };
    cx.audit(&mut tx, by.act(action, format!("{fleet} {name}"))).await?;
    let changed = Event::Fleet { name: fleet.clone() };
    record(&mut tx, cx.now_s(), std::slice::from_ref(&changed)).await?;
    tx.commit().await?;
    cx.secrets.set(fleet, version);
    cx.publish(changed);
    challenge::ask_fleet(cx, fleet).await.map(drop)
}

/// Returns the fleet of a device, if the device has reached the minimum level for secrets.
async fn admitted(cx: &Context, device: &DeviceId) -> Result<Option<FleetId>, Error> {
    let mut connection = cx.db.reader().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(None);
    };
    drop(connection);
    // The device had a sealed data partition and reports an unsealed one: it would store the
    // secrets in the clear. The report can only count against the device.
    let known = store::devices::get(cx.db.pool(), device.as_str()).await?;
    let has_recovery_key = store::vault::recovery_key(cx.db.pool(), device).await?.is_some();
    if known.is_none_or(|d| has_lost_its_seal(&d, has_recovery_key)) {
        return Ok(None);
    }
    let may_have = policy::of(cx, &fleet).may_have_secrets(found.level_at(cx.now_s()));
    Ok(may_have.then_some(fleet))
}

/// Whether the data partition of a device was sealed (the server has a recovery key), and the
/// device now reports that it is not.
#[must_use]
pub fn has_lost_its_seal(device: &Device, has_recovery_key: bool) -> bool {
    has_recovery_key && device.boot.as_ref().is_some_and(|b| b.sealed_data == Some(false))
}

/// A ticket for the secrets of its fleet, for a device that has just sent evidence in this session.
/// `None` if the fleet has no secrets, or the device's level is too low.
pub async fn ticket(cx: &Context, device: &DeviceId) -> Result<Option<SecretsTicket>, Error> {
    let versions = cx.secrets.versions();
    if versions.is_empty() {
        return Ok(None);
    }
    let Some(fleet) = admitted(cx, device).await? else { return Ok(None) };
    let Some(version) = versions.get(&fleet) else { return Ok(None) };
    Ok(cx.secrets.issue(device).map(|ticket| SecretsTicket { ticket, version: *version }))
}

/// Returns the secrets of a device's fleet in exchange for its ticket.
///
/// # Errors
/// [`Code::Forbidden`] for an invalid ticket, or a device whose level is too low; [`Code::TooMany`]
/// after `GIVEN_MAX` times.
pub async fn give(cx: &Context, device: &DeviceId, ticket: &Secret) -> Result<Secrets, Error> {
    let taken = cx.secrets.redeem(device, ticket).ok_or_else(no_ticket)?;
    let given = given(cx, device).await;
    if given.as_ref().is_err_and(|e| e.code() != Code::Forbidden) {
        cx.secrets.put_back(device, taken);
    }
    given
}

fn no_ticket() -> Error {
    Error::new(Code::Forbidden, "invalid or expired ticket for secrets")
        .hint("the server sends a ticket once the device has proved the required level")
}

async fn given(cx: &Context, device: &DeviceId) -> Result<Secrets, Error> {
    // Check again: the policy may have changed since the ticket was issued.
    let fleet = admitted(cx, device).await?.ok_or_else(no_ticket)?;
    cx.secrets.count(device)?;
    let WrappedSecrets { version, wrapped, changes } =
        store::vault::wrapped_secrets(cx.db.pool(), &fleet).await?;
    let asked = Request::GiveSecrets { device: device.clone(), fleet, secrets: wrapped };
    match signing::ask(&cx.signer, asked).await? {
        Response::Secrets { secrets } => Ok(Secrets { version, secrets, changes }),
        _ => Err(unexpected()),
    }
}
