//! Revocation: at once, everywhere. The database says no at every handshake, CONNECT and request,
//! and what is open is closed. The revocation list says the same to others, and to a database that
//! was restored from a copy; when it cannot be signed, the last one stays, and nobody is taken
//! offline by that.

use crate::app::{App, AppRef, now_s};
use crate::db::{self, Db};
use crate::error::AppError;
use crate::gateway::tls::{CheckedLists, IssuerList};
use crate::service::standby::Standby;
use crate::service::trust::Trust;
use crate::service::{rollouts, signing};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{Event, RevocationReason};
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::wire::{Request, RevokedSerial};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// How long a signer that did not answer may take to say that it is there again.
const PROBE: Duration = Duration::from_secs(1);

/// Revokes a device. Safe to repeat: what an interrupted call left undone is done by the next one.
///
/// # Errors
/// There is no such device.
pub async fn revoke(app: &AppRef, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    // A task of its own: an operator whose connection breaks in the middle must not leave a device
    // connected whose revocation is in the database.
    let (app, id) = (Arc::clone(app), id.clone());
    tokio::spawn(async move { carry_out(&app, &id, reason).await })
        .await
        .map_err(AppError::internal)?
}

async fn carry_out(app: &App, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    if db::devices::revoke(&mut tx, id, reason, now_s()).await? {
        app.audit(&mut tx, now_s(), "admin", "device.revoke", &format!("{id} {}", reason.as_str()))
            .await?;
    }
    let outcome = match db::devices::fleet_of_revoked(&mut tx, id).await? {
        Some(fleet) => rollouts::device_revoked(&mut tx, &fleet, id).await?,
        None => return Err(AppError::not_found("device", id.as_str())),
    };
    tx.commit().await?;
    // Nothing that can fail stands before these two: whoever is cut off stays cut off.
    app.tls.revoke(id.clone());
    app.hub.kick(id);
    outcome.hand_out(app);
    app.publish(Event::Device { id: id.clone() });
    if let Err(e) = publish_list(app).await {
        tracing::error!(
            "{id} is cut off, and the revocation list says so once it can be signed: {e}"
        );
        app.lists.retry.notify_one();
    }
    Ok(())
}

/// Revocation lists on their way. Those who want one together get one: a list of all of them.
#[derive(Default)]
pub struct Lists {
    /// Held while lists are signed and swapped in.
    pub alone: Mutex<()>,
    wanted: AtomicU64,
    done: AtomicU64,
    /// A list could not be had: it is tried again soon.
    pub retry: Notify,
}

/// Takes back a revocation that was a hold.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] when the device is not on hold.
pub async fn release_hold(app: &App, id: &DeviceId) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    if !db::devices::release_hold(&mut tx, id).await? {
        drop(tx);
        crate::service::devices::get(app, id.as_str()).await?;
        let refused = AppError::new(Code::Conflict, format!("{id} is not on hold"));
        return Err(refused.hint("only a hold can be taken back; enroll the device anew"));
    }
    app.audit(&mut tx, now_s(), "admin", "device.release-hold", id.as_str()).await?;
    tx.commit().await?;
    app.publish(Event::Device { id: id.clone() });
    publish_list(app).await
}

/// Signs a new list and swaps it in, with a new session store: resumption would bypass it.
///
/// # Errors
/// When the database or the key does not answer.
pub async fn publish_list(app: &App) -> Result<(), AppError> {
    let mine = app.lists.wanted.fetch_add(1, Ordering::SeqCst) + 1;
    // One at a time, or an older list could replace a newer one.
    let _alone = app.lists.alone.lock().await;
    // Begun after this one was wanted, by somebody before in the line: what was committed before is
    // on it.
    if app.lists.done.load(Ordering::SeqCst) >= mine {
        return Ok(());
    }
    let covered = app.lists.wanted.load(Ordering::SeqCst);
    swap_lists(app).await?;
    app.lists.done.store(covered, Ordering::SeqCst);
    Ok(())
}

/// Takes from the database who is revoked: from then on no handshake of theirs succeeds, whatever
/// the list says.
pub async fn load_revoked(app: &App) -> Result<(), AppError> {
    let count = app.tls.revocations();
    app.tls.set_revoked(db::devices::revoked(app.db.pool()).await?, count);
    Ok(())
}

/// [`publish_list`] for who holds the lock.
pub(super) async fn swap_lists(app: &App) -> Result<(), AppError> {
    load_revoked(app).await?;
    // Nobody waits for a signer of whom it is known that it does not answer.
    if app.health.is_signer_away()
        && signing::ask_for(&app.signer, Request::Issuers, PROBE).await.is_err()
    {
        return Err(AppError::new(Code::Unavailable, "the signer does not answer")
            .hint("start fleeti-signer, or look into its log"));
    }
    let lists = lists(&app.db, &app.signer, &app.trust.load_full(), app.now_s()).await?;
    let kept = lists.clone();
    let checked = tokio::task::spawn_blocking(move || CheckedLists::read(lists))
        .await
        .map_err(AppError::internal)?;
    app.tls.swap_checked(checked.map_err(AppError::internal)?).map_err(AppError::internal)?;
    let standby = Standby::of(&app.config.data);
    tokio::task::spawn_blocking(move || standby.keep_lists(&kept)).await.map_err(AppError::internal)
}

/// How often what has ended is deleted.
const PRUNE: Duration = Duration::from_secs(3600);
/// Rows of one kind that are deleted in one transaction.
const PRUNED_TOGETHER: u32 = 1000;

/// Deletes certificates that have ended, and commands that nobody can carry out any more, until the
/// task is ended. A few at once, so that nobody waits for it.
pub async fn prune(app: AppRef) {
    loop {
        match prune_some(&app).await {
            Ok(0) => tokio::time::sleep(PRUNE).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(e) => {
                tracing::warn!("what has ended is not deleted: {e}");
                tokio::time::sleep(PRUNE).await;
            }
        }
    }
}

/// Deletes some of what has ended; how many rows went.
pub async fn prune_some(app: &App) -> Result<u64, AppError> {
    let mut tx = app.db.write().await?;
    let gone = db::certificates::prune(&mut tx, app.now_s(), PRUNED_TOGETHER).await?;
    let expired = db::commands::expire_all(&mut tx, app.now_s()).await?;
    tx.commit().await?;
    Ok(gone + expired)
}

/// A new list of each intermediate for devices that counts. One whose list cannot be had does not
/// count: its devices cannot come, as if the list had ended.
///
/// # Errors
/// When the database does not answer, or there is no list of the intermediate that signs.
pub async fn lists(
    db: &Db,
    signer: &SignerHandle,
    trust: &Trust,
    now_s: u64,
) -> Result<Vec<IssuerList>, AppError> {
    let mut lists = Vec::new();
    for accepted in trust.devices() {
        let rows = db::certificates::revoked(db.pool(), &accepted.sha256, now_s).await?;
        let revoked = rows
            .into_iter()
            .map(|(serial, revoked_s, reason)| RevokedSerial { serial, revoked_s, reason })
            .collect();
        match signing::revocation_list(signer, &accepted.sha256, revoked).await {
            Ok(list) => {
                let (key_id, issuer) = (accepted.key_id.clone(), accepted.certificate.clone());
                lists.push(IssuerList { key_id, issuer, list });
            }
            Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
            // Any other fault leaves the lists that there are, and is tried again soon.
            Err(e) if e.code() != Code::Conflict => return Err(e),
            Err(e) => tracing::error!(
                "no device of {} can come: {e}",
                accepted.certificate.tbs_certificate().subject()
            ),
        }
    }
    Ok(lists)
}
