//! Revocation takes effect at once and everywhere. The server checks the database at every
//! handshake, CONNECT and request, and closes open connections. The CRL informs others, and
//! protects against a database that was restored from a backup. If a new CRL cannot be signed, the
//! last one stays in use, and no device goes offline because of that.

use crate::app::{App, AppRef, now_s};
use crate::error::AppError;
use crate::gateway::tls::{CheckedCrls, IssuerCrl};
use crate::service::standby::Standby;
use crate::service::trust::Trust;
use crate::service::{rollouts, signing};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{Event, RevocationReason};
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::wire::{Request, RevokedSerial};
use fleeti_store::{self as store, Db};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Timeout for probing a signing service that did not answer before.
const PROBE: Duration = Duration::from_secs(1);

/// Revokes a device. Idempotent: repeating the call completes an interrupted one.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn revoke(app: &AppRef, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    // A task of its own: if the operator's connection breaks, the device must not stay connected
    // although the database has its revocation.
    let (app, id) = (Arc::clone(app), id.clone());
    tokio::spawn(async move { apply(&app, &id, reason).await }).await.map_err(AppError::internal)?
}

async fn apply(app: &App, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    if store::devices::revoke(&mut tx, id, reason, now_s()).await? {
        app.audit(&mut tx, now_s(), "admin", "device.revoke", &format!("{id} {}", reason.as_str()))
            .await?;
    }
    let outcome = match store::devices::fleet_of_revoked(&mut tx, id).await? {
        Some(fleet) => rollouts::device_revoked(&mut tx, &fleet, id).await?,
        None => return Err(AppError::not_found("device", id.as_str())),
    };
    tx.commit().await?;
    // No fallible step before these two: the device stays disconnected.
    app.tls.revoke(id.clone());
    app.hub.kick(id);
    outcome.dispatch(app);
    app.publish(Event::Device { id: id.clone() });
    if let Err(e) = publish_crls(app).await {
        tracing::error!(
            "{id} is revoked and disconnected, but the CRL does not contain it yet: {e}"
        );
        app.crls.retry.notify_one();
    }
    Ok(())
}

/// Coordinates publication of CRLs: concurrent revocations share one new CRL.
#[derive(Default)]
pub struct Crls {
    /// Held while CRLs are signed and put in use.
    pub alone: Mutex<()>,
    wanted: AtomicU64,
    done: AtomicU64,
    /// Signals that a CRL could not be signed and must be retried soon.
    pub retry: Notify,
}

/// Releases a hold.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if the device is not on hold.
pub async fn release_hold(app: &App, id: &DeviceId) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    if !store::devices::release_hold(&mut tx, id).await? {
        drop(tx);
        crate::service::devices::get(app, id.as_str()).await?;
        let refused = AppError::new(Code::Conflict, format!("{id} is not on hold"));
        return Err(refused.hint("only a hold can be undone; enroll the device again"));
    }
    app.audit(&mut tx, now_s(), "admin", "device.release-hold", id.as_str()).await?;
    tx.commit().await?;
    app.publish(Event::Device { id: id.clone() });
    publish_crls(app).await
}

/// Signs a new CRL and puts it in use, with a new TLS session store, because resumption would
/// bypass the CRL.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn publish_crls(app: &App) -> Result<(), AppError> {
    let mine = app.crls.wanted.fetch_add(1, Ordering::SeqCst) + 1;
    // One at a time, or an older CRL could replace a newer one.
    let _alone = app.crls.alone.lock().await;
    // Another caller started a CRL after this request: it contains everything committed before.
    if app.crls.done.load(Ordering::SeqCst) >= mine {
        return Ok(());
    }
    let covered = app.crls.wanted.load(Ordering::SeqCst);
    swap_crls(app).await?;
    app.crls.done.store(covered, Ordering::SeqCst);
    Ok(())
}

/// Loads the revoked devices from the database. From then on their handshakes fail, whatever the
/// CRL contains.
pub async fn load_revoked(app: &App) -> Result<(), AppError> {
    let count = app.tls.revocations();
    app.tls.set_revoked(store::devices::revoked(app.db.pool()).await?, count);
    Ok(())
}

/// [`publish_crls`] for a caller that holds the lock.
pub(super) async fn swap_crls(app: &App) -> Result<(), AppError> {
    load_revoked(app).await?;
    // Do not wait for a signing service that is known to be away.
    if app.health.is_signer_away()
        && signing::ask_for(&app.signer, Request::Issuers, PROBE).await.is_err()
    {
        return Err(AppError::new(Code::Unavailable, "the signing service does not answer")
            .hint("start fleeti-signer, or read its log"));
    }
    let crls = crls(&app.db, &app.signer, &app.trust.load_full(), app.now_s()).await?;
    let kept = crls.clone();
    let checked = tokio::task::spawn_blocking(move || CheckedCrls::read(crls))
        .await
        .map_err(AppError::internal)?;
    app.tls.swap_checked(checked.map_err(AppError::internal)?).map_err(AppError::internal)?;
    let standby = Standby::of(&app.config.data);
    tokio::task::spawn_blocking(move || standby.keep_crls(&kept)).await.map_err(AppError::internal)
}

/// Interval at which expired rows are deleted.
const PRUNE: Duration = Duration::from_secs(3600);
/// Maximum number of rows of a kind that are deleted in one transaction.
const PRUNED_TOGETHER: u32 = 1000;

/// Deletes expired certificates and commands until the task is aborted. Deletes a few at once, so
/// that other writers do not wait.
pub async fn prune(app: AppRef) {
    loop {
        match prune_some(&app).await {
            Ok(0) => tokio::time::sleep(PRUNE).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(e) => {
                tracing::warn!("cannot delete expired rows: {e}");
                tokio::time::sleep(PRUNE).await;
            }
        }
    }
}

/// Deletes some expired rows. Returns their number.
pub async fn prune_some(app: &App) -> Result<u64, AppError> {
    let mut tx = app.db.write().await?;
    let gone = store::certificates::prune(&mut tx, app.now_s(), PRUNED_TOGETHER).await?;
    let expired = store::commands::expire_all(&mut tx, app.now_s()).await?;
    tx.commit().await?;
    Ok(gone + expired)
}

/// New CRLs of all intermediate CAs for devices that count. An intermediate CA whose CRL cannot be
/// signed does not count: its devices cannot connect, as with an expired CRL.
///
/// # Errors
/// When there is no CRL of the issuing intermediate CA.
pub async fn crls(
    db: &Db,
    signer: &SignerHandle,
    trust: &Trust,
    now_s: u64,
) -> Result<Vec<IssuerCrl>, AppError> {
    let mut crls = Vec::new();
    for accepted in trust.devices() {
        let rows = store::certificates::revoked(db.pool(), &accepted.sha256, now_s).await?;
        let revoked = rows
            .into_iter()
            .map(|(serial, revoked_s, reason)| RevokedSerial { serial, revoked_s, reason })
            .collect();
        match signing::crl(signer, &accepted.sha256, revoked).await {
            Ok(crl) => {
                let (key_id, issuer) = (accepted.key_id.clone(), accepted.certificate.clone());
                crls.push(IssuerCrl { key_id, issuer, crl });
            }
            Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
            // After any other error the current CRLs stay in use, and a retry follows soon.
            Err(e) if e.code() != Code::Conflict => return Err(e),
            Err(e) => tracing::error!(
                "devices of intermediate CA {} cannot connect: {e}",
                accepted.certificate.tbs_certificate().subject()
            ),
        }
    }
    Ok(crls)
}
