//! Wrapped values that the server stores but cannot read: recovery keys of data partitions, and
//! secrets of fleets. Only the signing service can unwrap them, and it writes to the audit log
//! first.
//!
//! A device gets the secrets of its fleet in exchange for a ticket. The server sends the ticket
//! over the MQTT session in which the device just proved the required level. The device key alone
//! is not enough: it is in the TPM, which serves any software that an attacker boots on the device.

use crate::app::{App, AppRef, now_s};
use crate::error::AppError;
use crate::service::{attestation, signing};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::api::{CreateCommand, Device, Event};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::device::CommandKind;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::{
    FleetSecret, REASON, RecoveryKey, RecoveryKeyStatus, SECRET_MAX, SECRETS_MAX, Secrets,
    SecretsTicket, ShowRecoveryKey, TICKET_S, is_reason, is_recovery_key,
};
use fleeti_signer::wire::{Kept, Request, Response};
use fleeti_store::{self as store, Db, attestations, commands};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of outstanding tickets.
const TICKETS_MAX: usize = 65_536;
/// Validity of the command to make a new recovery key, in seconds.
const COMMAND_S: u32 = 30 * 86_400;

/// Which fleets have secrets, and the outstanding tickets.
pub struct Vault {
    versions: ArcSwap<HashMap<FleetId, u64>>,
    /// Digest and expiry of each device's ticket. A device has at most one.
    tickets: Mutex<HashMap<DeviceId, Ticket>>,
    /// Devices whose recovery key was shown: the server commands them to make a new one.
    shown: Mutex<HashSet<DeviceId>>,
    /// Start of the period, and how often each device got secrets in it.
    given: Mutex<HashMap<DeviceId, (Instant, u32)>>,
}

/// How often a device can get secrets within [`GIVEN_S`]. It needs them once per boot, and each
/// time makes an audit entry.
const GIVEN_MAX: u32 = 5;
/// The period of [`GIVEN_MAX`], in seconds.
const GIVEN_S: u64 = 600;

type Ticket = (String, Instant);

impl Vault {
    /// Loads the names of fleets with secrets, and of devices whose recovery key was shown.
    pub async fn load(db: &Db) -> Result<Self, AppError> {
        Ok(Self {
            versions: ArcSwap::from_pointee(store::vault::versions(db.pool()).await?),
            tickets: Mutex::default(),
            shown: Mutex::new(store::vault::shown(db.pool()).await?),
            given: Mutex::default(),
        })
    }

    fn issue(&self, device: &DeviceId) -> Option<Secret> {
        let (ticket, until) = (
            hex::encode(rand::random::<[u8; 32]>()),
            Instant::now() + Duration::from_secs(TICKET_S),
        );
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= TICKETS_MAX {
            let now = Instant::now();
            tickets.retain(|_, (_, until)| *until > now);
        }
        if tickets.len() >= TICKETS_MAX {
            return None;
        }
        tickets.insert(device.clone(), (sha256_hex(ticket.as_bytes()), until));
        Some(Secret::new(ticket))
    }

    /// Takes the ticket of the device, if it matches. A ticket is valid once.
    fn redeem(&self, device: &DeviceId, ticket: &Secret) -> Option<Ticket> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        // Compares digests, so that the time reveals nothing about the ticket.
        let given = sha256_hex(ticket.expose().as_bytes());
        let is_good = tickets
            .get(device)
            .is_some_and(|(sha256, until)| *sha256 == given && *until > Instant::now());
        if is_good { tickets.remove(device) } else { None }
    }

    /// Makes a ticket valid again after a failure, unless there is a newer one.
    fn put_back(&self, device: &DeviceId, ticket: Ticket) {
        self.tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(device.clone())
            .or_insert(ticket);
    }

    /// Counts how often a device gets secrets.
    fn count(&self, device: &DeviceId) -> Result<(), AppError> {
        let mut all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let left_s = |began: Instant| GIVEN_S.saturating_sub(began.elapsed().as_secs());
        if all.len() >= TICKETS_MAX {
            all.retain(|_, (began, _)| left_s(*began) > 0);
        }
        let (began, count) = all.entry(device.clone()).or_insert_with(|| (Instant::now(), 0));
        if left_s(*began) == 0 {
            (*began, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > GIVEN_MAX {
            let text = format!(
                "this device got the secrets of its fleet {GIVEN_MAX} times within {} minutes",
                GIVEN_S / 60
            );
            return Err(AppError::new(Code::TooMany, text).retry_after(left_s(*began)));
        }
        Ok(())
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, HashSet<DeviceId>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fleet: &FleetId, version: u64) {
        self.versions.rcu(|all| {
            let mut all = HashMap::clone(all);
            // Tasks may arrive here in another order than they committed.
            let known = all.entry(fleet.clone()).or_default();
            *known = version.max(*known);
            all
        });
    }
}

fn unexpected() -> AppError {
    AppError::internal("unexpected response of the signing service")
}

async fn wrapped(app: &App, kept: Kept, secret: Secret) -> Result<String, AppError> {
    match signing::ask(&app.signer, Request::Keep { kept, secret }).await? {
        Response::Kept { wrapped } => Ok(wrapped),
        _ => Err(unexpected()),
    }
}

/// Stores the recovery key of a device, and keeps the previous one.
///
/// # Errors
/// [`Code::Invalid`] for an invalid key; [`Code::Unavailable`] if the previous key is too recent.
pub async fn keep_recovery_key(
    app: &App,
    device: &DeviceId,
    sent: &RecoveryKey,
) -> Result<(), AppError> {
    let key = sent.key.expose();
    if !is_recovery_key(key) {
        return Err(AppError::new(Code::Invalid, "key: not a recovery key of systemd-cryptenroll"));
    }
    let sha256 = sha256_hex(key.as_bytes());
    if let Some(known) = store::vault::recovery_key(app.db.pool(), device).await? {
        // A repeated request, whose response was lost.
        if known.key_sha256 == sha256 {
            return Ok(());
        }
        // A device makes one per boot, so a faster sequence is refused. A key that was shown may be
        // replaced at once.
        let is_seen = known.status.shown_s.is_some();
        if !is_seen
            && now_s().saturating_sub(known.status.kept_s) < app.config.limits.recovery_key_s
        {
            return Err(AppError::new(
                Code::Unavailable,
                "the server got a recovery key of this device a moment ago",
            )
            .hint("try again in a few minutes"));
        }
    }
    let kept = wrapped(
        app,
        Kept::RecoveryKey { device: device.clone() },
        Secret::new(STANDARD.encode(key)),
    )
    .await?;
    let mut tx = app.db.write().await?;
    store::vault::keep_recovery_key(&mut tx, device, &kept, &sha256, now_s()).await?;
    tx.commit().await?;
    app.vault.shown().remove(device);
    app.publish(Event::Device { id: device.clone() });
    Ok(())
}

/// When the recovery key of a device was stored, and when it was last shown.
///
/// # Errors
/// [`Code::NotFound`] when there is none.
pub async fn recovery_key_status(
    app: &App,
    device: &DeviceId,
) -> Result<RecoveryKeyStatus, AppError> {
    let found = store::vault::recovery_key(app.db.pool(), device).await?;
    found.map(|row| row.status).ok_or_else(|| no_recovery_key(device))
}

fn no_recovery_key(device: &DeviceId) -> AppError {
    AppError::not_found("recovery key of", device.as_str())
        .hint("its data partition is not sealed, or the device has not connected since")
}

/// Shows the recovery key of a device to an operator. The signing service first writes actor,
/// subject and reason to the audit log. Once the device learns of it, it makes a new key at its
/// next boot.
///
/// # Errors
/// [`Code::NotFound`] without a recovery key; [`Code::Invalid`] for an invalid reason.
pub async fn show_recovery_key(
    app: &App,
    device: &DeviceId,
    request: &ShowRecoveryKey,
) -> Result<Secret, AppError> {
    let reason = request.reason.trim();
    if !is_reason(reason) {
        let text = format!(
            "reason must be one line of {} to {} bytes; it stays in the audit log forever",
            REASON.start(),
            REASON.end()
        );
        return Err(AppError::new(Code::Invalid, text));
    }
    let row = store::vault::recovery_key(app.db.pool(), device)
        .await?
        .ok_or_else(|| no_recovery_key(device))?;
    let wrapped = if request.previous {
        row.previous.ok_or_else(|| no_recovery_key(device))?
    } else {
        row.wrapped
    };
    let (actor, reason) = ("admin".to_owned(), reason.to_owned());
    let asked = Request::ShowRecoveryKey {
        device: device.clone(),
        wrapped: wrapped.clone(),
        actor,
        reason,
    };
    let Response::Shown { secret } = signing::ask(&app.signer, asked).await? else {
        return Err(unexpected());
    };
    let plain = STANDARD
        .decode(secret.expose())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unexpected)?;
    let mut tx = app.db.write().await?;
    store::vault::set_shown(&mut tx, device, &wrapped, now_s()).await?;
    tx.commit().await?;
    if !request.previous {
        app.vault.shown().insert(device.clone());
        app.hub.commands_wait(device);
    }
    app.publish(Event::Device { id: device.clone() });
    Ok(Secret::new(plain))
}

/// Commands a device to make a new recovery key if its current one was shown. Repeats the command
/// until the device has made one.
pub(super) async fn order_new_recovery_key(app: &App, device: &DeviceId) -> Result<(), AppError> {
    if !app.vault.shown().contains(device) {
        return Ok(());
    }
    let row = store::vault::recovery_key(app.db.pool(), device).await?;
    let Some(shown_s) = row.and_then(|r| r.status.shown_s) else { return Ok(()) };
    let mut tx = app.db.write().await?;
    let is_ordered =
        commands::is_ordered(&mut tx, device, CommandKind::NewRecoveryKey, shown_s).await?;
    if is_ordered
        || commands::pending_count(&mut tx, device, now_s()).await? >= commands::PENDING_MAX
    {
        return Ok(());
    }
    super::commands::put(
        app,
        &mut tx,
        device,
        &CreateCommand { kind: CommandKind::NewRecoveryKey, valid_s: COMMAND_S },
    )
    .await?;
    Ok(tx.commit().await?)
}

/// The names of a fleet's secrets, without values.
pub async fn secrets(app: &App, fleet: &FleetId) -> Result<Vec<FleetSecret>, AppError> {
    Ok(store::vault::secrets(app.db.pool(), fleet).await?)
}

/// Sets a secret of a fleet. The server requests evidence from the connected devices, which then
/// get the secret if their level is sufficient.
///
/// # Errors
/// [`Code::Invalid`] for an empty or too long value; [`Code::Conflict`] for more than
/// [`SECRETS_MAX`].
pub async fn set_secret(
    app: &AppRef,
    fleet: &FleetId,
    name: &SecretName,
    value: &Secret,
) -> Result<(), AppError> {
    let length = STANDARD
        .decode(value.expose())
        .map_err(|e| AppError::new(Code::Invalid, format!("value: {e}")))?
        .len();
    if !(1..=SECRET_MAX).contains(&length) {
        return Err(AppError::new(
            Code::Invalid,
            format!("value: the secret has {length} bytes, must have 1 to {SECRET_MAX}"),
        ));
    }
    let kept =
        wrapped(app, Kept::Secret { fleet: fleet.clone(), name: name.clone() }, value.clone())
            .await?;
    change(app, fleet, name, Some(kept)).await
}

/// Removes a secret of a fleet, also from its devices once they attest again.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove_secret(
    app: &AppRef,
    fleet: &FleetId,
    name: &SecretName,
) -> Result<(), AppError> {
    change(app, fleet, name, None).await
}

/// Runs in a task of its own: if the client disconnects, memory and database still change together.
async fn change(
    app: &AppRef,
    fleet: &FleetId,
    name: &SecretName,
    kept: Option<String>,
) -> Result<(), AppError> {
    let (app, fleet, name) = (Arc::clone(app), fleet.clone(), name.clone());
    tokio::spawn(async move { changed(&app, &fleet, &name, kept.as_deref()).await })
        .await
        .map_err(AppError::internal)?
}

async fn changed(
    app: &App,
    fleet: &FleetId,
    name: &SecretName,
    kept: Option<&str>,
) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    let action = match kept {
        Some(_) if store::vault::count_besides(&mut tx, fleet, name).await? >= SECRETS_MAX => {
            return Err(AppError::new(
                Code::Conflict,
                format!("fleet {fleet} already has the maximum of {SECRETS_MAX} secrets"),
            ));
        }
        Some(wrapped) => {
            store::vault::set_secret(&mut tx, fleet, name, wrapped, now_s()).await?;
            "fleet.secret-set"
        }
        None if !store::vault::remove_secret(&mut tx, fleet, name).await? => {
            return Err(AppError::not_found("secret", name.as_str()));
        }
        None => "fleet.secret-removed",
    };
    let version = store::vault::changed(&mut tx, fleet).await?;
    app.audit(&mut tx, now_s(), "admin", action, &format!("{fleet} {name}")).await?;
    tx.commit().await?;
    app.vault.set(fleet, version);
    app.publish(Event::Fleet { name: fleet.clone() });
    attestation::ask_fleet(app, fleet).await.map(drop)
}

/// Returns the fleet of a device, if the device has reached the minimum level for secrets.
async fn admitted(app: &App, device: &DeviceId) -> Result<Option<FleetId>, AppError> {
    let mut connection = app.db.reader().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(None);
    };
    drop(connection);
    // The device had a sealed data partition and reports an unsealed one: it would store the
    // secrets in the clear. The report can only count against the device.
    let known = store::devices::get(app.db.pool(), device.as_str()).await?;
    let has_recovery_key = store::vault::recovery_key(app.db.pool(), device).await?.is_some();
    if known.is_none_or(|d| has_lost_its_seal(&d, has_recovery_key)) {
        return Ok(None);
    }
    Ok(app.policies.of(&fleet).may_have_secrets(found.level_at(now_s())).then_some(fleet))
}

/// Whether the data partition of a device was sealed (the server has a recovery key), and the
/// device now reports that it is not.
#[must_use]
pub fn has_lost_its_seal(device: &Device, has_recovery_key: bool) -> bool {
    has_recovery_key && device.boot.as_ref().is_some_and(|b| b.sealed_data == Some(false))
}

/// A ticket for the secrets of its fleet, for a device that has just sent evidence in this session.
/// `None` if the fleet has no secrets, or the device's level is too low.
pub async fn ticket(app: &App, device: &DeviceId) -> Result<Option<SecretsTicket>, AppError> {
    let versions = app.vault.versions.load();
    if versions.is_empty() {
        return Ok(None);
    }
    let Some(fleet) = admitted(app, device).await? else { return Ok(None) };
    let Some(version) = versions.get(&fleet) else { return Ok(None) };
    Ok(app.vault.issue(device).map(|ticket| SecretsTicket { ticket, version: *version }))
}

/// Returns the secrets of a device's fleet in exchange for its ticket.
///
/// # Errors
/// [`Code::Forbidden`] for an invalid ticket, or a device whose level is too low; [`Code::TooMany`]
/// after `GIVEN_MAX` times.
pub async fn give(app: &App, device: &DeviceId, ticket: &Secret) -> Result<Secrets, AppError> {
    let taken = app.vault.redeem(device, ticket).ok_or_else(no_ticket)?;
    let given = given(app, device).await;
    if given.as_ref().is_err_and(|e| e.code() != Code::Forbidden) {
        app.vault.put_back(device, taken);
    }
    given
}

fn no_ticket() -> AppError {
    AppError::new(Code::Forbidden, "invalid or expired ticket for secrets")
        .hint("the server sends a ticket once the device has proved the required level")
}

async fn given(app: &App, device: &DeviceId) -> Result<Secrets, AppError> {
    // Check again: the policy may have changed since the ticket was issued.
    let fleet = admitted(app, device).await?.ok_or_else(no_ticket)?;
    app.vault.count(device)?;
    let (version, secrets) = store::vault::wrapped_secrets(app.db.pool(), &fleet).await?;
    let asked = Request::GiveSecrets { device: device.clone(), fleet, secrets };
    match signing::ask(&app.signer, asked).await? {
        Response::Secrets { secrets } => Ok(Secrets { version, secrets }),
        _ => Err(unexpected()),
    }
}
