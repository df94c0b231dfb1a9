//! What the server keeps for others and cannot read: the keys that open a device's data partition
//! without its TPM, and secrets of fleets. Only the signer opens what lies here, and what it opens
//! is in the audit log first.
//!
//! A device gets the secrets of its fleet by a ticket, and a ticket over the MQTT session whose
//! question its TPM has just answered, if that was enough. So whoever starts something else on the
//! device has no ticket, though it has the device's key: that one is in the TPM, and a TPM serves
//! whatever runs.

use crate::app::{App, AppRef, now_s};
use crate::db::{self, Db, attestations, commands};
use crate::error::AppError;
use crate::service::{attestation, signing};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::api::{CreateCommand, Device, Event};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::device::Order;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::{
    FleetSecret, REASON, RecoveryKey, RecoveryKeyStatus, SECRET_MAX, SECRETS_MAX, Secrets,
    SecretsTicket, ShowRecoveryKey, TICKET_S, is_reason, is_recovery_key,
};
use fleeti_signer::wire::{Kept, Request, Response};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most tickets that are out.
const TICKETS_MAX: usize = 65_536;
/// How long the order to make a new recovery key waits for its device.
const ORDER_S: u32 = 30 * 86_400;

/// Which fleets have secrets, and whose tickets are out.
pub struct Vault {
    versions: ArcSwap<HashMap<FleetId, u64>>,
    /// Digest of the ticket, and until when it is good: one for each device.
    tickets: Mutex<HashMap<DeviceId, Ticket>>,
    /// Whose recovery key somebody has seen: they are told to make another one.
    shown: Mutex<HashSet<DeviceId>>,
    /// Since when, and how often a device was given secrets.
    given: Mutex<HashMap<DeviceId, (Instant, u32)>>,
}

/// So often a device is given secrets within [`GIVEN_S`]: once a boot is what it needs, and each
/// time is in the audit log.
const GIVEN_MAX: u32 = 5;
/// Seconds.
const GIVEN_S: u64 = 600;

type Ticket = (String, Instant);

impl Vault {
    /// As it is kept.
    pub async fn load(db: &Db) -> Result<Self, AppError> {
        Ok(Self {
            versions: ArcSwap::from_pointee(db::vault::versions(db.pool()).await?),
            tickets: Mutex::default(),
            shown: Mutex::new(db::vault::shown(db.pool()).await?),
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

    /// Takes the ticket of the device, if it is this one: it is good once.
    fn redeem(&self, device: &DeviceId, ticket: &Secret) -> Option<Ticket> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        // By digests, so that how long it takes says nothing of the ticket.
        let given = sha256_hex(ticket.expose().as_bytes());
        let is_good = tickets
            .get(device)
            .is_some_and(|(sha256, until)| *sha256 == given && *until > Instant::now());
        if is_good { tickets.remove(device) } else { None }
    }

    /// Nothing was given for it: it is good again, unless there is a newer one.
    fn put_back(&self, device: &DeviceId, ticket: Ticket) {
        self.tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(device.clone())
            .or_insert(ticket);
    }

    /// Counts that a device is given secrets.
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
                "the secrets of its fleet were given to this device {GIVEN_MAX} times in {} minutes",
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
            // Whoever committed first may come here last.
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

/// Keeps the recovery key of a device, and the one before it.
///
/// # Errors
/// [`Code::Invalid`] for what is none; [`Code::Unavailable`] for the next one at once.
pub async fn keep_recovery_key(
    app: &App,
    device: &DeviceId,
    sent: &RecoveryKey,
) -> Result<(), AppError> {
    let key = sent.key.expose();
    if !is_recovery_key(key) {
        return Err(AppError::new(
            Code::Invalid,
            "key: this is no recovery key of systemd-cryptenroll",
        ));
    }
    let sha256 = sha256_hex(key.as_bytes());
    if let Some(known) = db::vault::recovery_key(app.db.pool(), device).await? {
        // The answer was lost.
        if known.key_sha256 == sha256 {
            return Ok(());
        }
        // One is made at a boot, and a device does not boot all the time. What somebody has seen is
        // replaced at once.
        let is_seen = known.status.shown_s.is_some();
        if !is_seen
            && now_s().saturating_sub(known.status.kept_s) < app.config.limits.recovery_key_s
        {
            return Err(AppError::new(Code::Unavailable, "a recovery key was kept a moment ago")
                .hint("come back in a few minutes"));
        }
    }
    let kept = wrapped(
        app,
        Kept::RecoveryKey { device: device.clone() },
        Secret::new(STANDARD.encode(key)),
    )
    .await?;
    let mut tx = app.db.write().await?;
    db::vault::keep_recovery_key(&mut tx, device, &kept, &sha256, now_s()).await?;
    tx.commit().await?;
    app.vault.shown().remove(device);
    app.publish(Event::Device { id: device.clone() });
    Ok(())
}

/// Whether a recovery key of a device is kept.
///
/// # Errors
/// [`Code::NotFound`] when there is none.
pub async fn recovery_key_status(
    app: &App,
    device: &DeviceId,
) -> Result<RecoveryKeyStatus, AppError> {
    let found = db::vault::recovery_key(app.db.pool(), device).await?;
    found.map(|row| row.status).ok_or_else(|| no_recovery_key(device))
}

fn no_recovery_key(device: &DeviceId) -> AppError {
    AppError::not_found("recovery key of", device.as_str())
        .hint("its data partition is not sealed, or the device was not here since")
}

/// Shows a recovery key of a device to a person. The signer has written down who, what and why
/// before it is given; the device makes a new one at the boot after it has heard of that.
///
/// # Errors
/// [`Code::NotFound`] when there is none; [`Code::Invalid`] for a reason that is none.
pub async fn show_recovery_key(
    app: &App,
    device: &DeviceId,
    request: &ShowRecoveryKey,
) -> Result<Secret, AppError> {
    let reason = request.reason.trim();
    if !is_reason(reason) {
        let text = format!(
            "reason: {} to {} bytes on one line, they are in the audit log for ever",
            REASON.start(),
            REASON.end()
        );
        return Err(AppError::new(Code::Invalid, text));
    }
    let row = db::vault::recovery_key(app.db.pool(), device)
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
    db::vault::set_shown(&mut tx, device, &wrapped, now_s()).await?;
    tx.commit().await?;
    if !request.previous {
        app.vault.shown().insert(device.clone());
        app.hub.commands_wait(device);
    }
    app.publish(Event::Device { id: device.clone() });
    Ok(Secret::new(plain))
}

/// Orders a device to make another recovery key, where somebody has seen the one that it has, until
/// it has made one.
pub(super) async fn order_new_recovery_key(app: &App, device: &DeviceId) -> Result<(), AppError> {
    if !app.vault.shown().contains(device) {
        return Ok(());
    }
    let row = db::vault::recovery_key(app.db.pool(), device).await?;
    let Some(shown_s) = row.and_then(|r| r.status.shown_s) else { return Ok(()) };
    let mut tx = app.db.write().await?;
    let is_ordered = commands::is_ordered(&mut tx, device, Order::NewRecoveryKey, shown_s).await?;
    if is_ordered
        || commands::pending_count(&mut tx, device, now_s()).await? >= commands::PENDING_MAX
    {
        return Ok(());
    }
    super::commands::put(
        app,
        &mut tx,
        device,
        &CreateCommand { order: Order::NewRecoveryKey, valid_s: ORDER_S },
    )
    .await?;
    Ok(tx.commit().await?)
}

/// The secrets of a fleet, without what is secret.
pub async fn secrets(app: &App, fleet: &FleetId) -> Result<Vec<FleetSecret>, AppError> {
    db::vault::secrets(app.db.pool(), fleet).await
}

/// Sets a secret of a fleet. Its devices that are there are asked what they run, and get it if that
/// is enough.
///
/// # Errors
/// [`Code::Invalid`] for one that is empty or too long; [`Code::Conflict`] for one too many.
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
            format!("value: a secret has 1 to {SECRET_MAX} bytes, this one {length}"),
        ));
    }
    let kept =
        wrapped(app, Kept::Secret { fleet: fleet.clone(), name: name.clone() }, value.clone())
            .await?;
    change(app, fleet, name, Some(kept)).await
}

/// Removes a secret of a fleet, also from its devices once they prove themselves again.
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

/// In a task of its own: whoever asked for it may go away in the middle, and what is in memory goes
/// with what is kept.
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
        Some(_) if db::vault::count_besides(&mut tx, fleet, name).await? >= SECRETS_MAX => {
            return Err(AppError::new(
                Code::Conflict,
                format!("fleet {fleet} has {SECRETS_MAX} secrets already"),
            ));
        }
        Some(wrapped) => {
            db::vault::set_secret(&mut tx, fleet, name, wrapped, now_s()).await?;
            "fleet.secret-set"
        }
        None if !db::vault::remove_secret(&mut tx, fleet, name).await? => {
            return Err(AppError::not_found("secret", name.as_str()));
        }
        None => "fleet.secret-removed",
    };
    let version = db::vault::changed(&mut tx, fleet).await?;
    app.audit(&mut tx, now_s(), "admin", action, &format!("{fleet} {name}")).await?;
    tx.commit().await?;
    app.vault.set(fleet, version);
    app.publish(Event::Fleet { name: fleet.clone() });
    attestation::ask_fleet(app, fleet).await.map(drop)
}

/// Whether a device has proved enough for the secrets of its fleet; gives the fleet.
async fn admitted(app: &App, device: &DeviceId) -> Result<Option<FleetId>, AppError> {
    let mut connection = app.db.pool().acquire().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(None);
    };
    drop(connection);
    // It had a sealed data partition, and says that it has another one: what is given to it would
    // be kept in the clear. Its word counts against itself only.
    let known = db::devices::get(app.db.pool(), device.as_str()).await?;
    let has_recovery_key = db::vault::recovery_key(app.db.pool(), device).await?.is_some();
    if known.is_none_or(|d| has_lost_its_seal(&d, has_recovery_key)) {
        return Ok(None);
    }
    Ok(app.policies.of(&fleet).may_have_secrets(found.level_at(now_s())).then_some(fleet))
}

/// Whether a device whose data partition was sealed, for a recovery key of it is kept, says that it
/// is not any more.
#[must_use]
pub fn has_lost_its_seal(device: &Device, has_recovery_key: bool) -> bool {
    has_recovery_key && device.boot.as_ref().is_some_and(|b| b.sealed_data == Some(false))
}

/// A ticket for the secrets of its fleet, for a device whose TPM has just answered in this session;
/// nothing where there are none, or for a device that has not proved enough.
pub async fn ticket(app: &App, device: &DeviceId) -> Result<Option<SecretsTicket>, AppError> {
    let versions = app.vault.versions.load();
    if versions.is_empty() {
        return Ok(None);
    }
    let Some(fleet) = admitted(app, device).await? else { return Ok(None) };
    let Some(version) = versions.get(&fleet) else { return Ok(None) };
    Ok(app.vault.issue(device).map(|ticket| SecretsTicket { ticket, version: *version }))
}

/// The secrets of a device's fleet, for its ticket.
///
/// # Errors
/// [`Code::Forbidden`] for a ticket that is none, or a device that has not proved enough;
/// [`Code::TooMany`] for one that wants them again and again.
pub async fn give(app: &App, device: &DeviceId, ticket: &Secret) -> Result<Secrets, AppError> {
    let taken = app.vault.redeem(device, ticket).ok_or_else(no_ticket)?;
    let given = given(app, device).await;
    if given.as_ref().is_err_and(|e| e.code() != Code::Forbidden) {
        app.vault.put_back(device, taken);
    }
    given
}

fn no_ticket() -> AppError {
    AppError::new(Code::Forbidden, "this is no ticket for secrets")
        .hint("one comes when the TPM has proved enough")
}

async fn given(app: &App, device: &DeviceId) -> Result<Secrets, AppError> {
    // Looked at again: what is asked may have changed since the ticket was made.
    let fleet = admitted(app, device).await?.ok_or_else(no_ticket)?;
    app.vault.count(device)?;
    let (version, secrets) = db::vault::wrapped_secrets(app.db.pool(), &fleet).await?;
    let asked = Request::GiveSecrets { device: device.clone(), fleet, secrets };
    match signing::ask(&app.signer, asked).await? {
        Response::Secrets { secrets } => Ok(Secrets { version, secrets }),
        _ => Err(unexpected()),
    }
}
