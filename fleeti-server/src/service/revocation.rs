//! Revocation: at once, everywhere. The database says no at CONNECT and at every request, the revocation list
//! at every handshake, and what is open is closed.

use crate::app::{App, AppRef, now_s};
use crate::db::{self, Db};
use crate::error::AppError;
use crate::gateway::tls::IssuerList;
use crate::service::trust::Trust;
use crate::service::{rollouts, signing};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{Event, RevocationReason};
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::wire::{Request, RevokedSerial};
use std::sync::Arc;

/// Revokes a device. Safe to repeat: what an interrupted call left undone is done by the next one.
///
/// # Errors
/// There is no such device; a fault when the list could not be signed, after everything else has been done.
pub async fn revoke(app: &AppRef, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    // A task of its own: an operator whose connection breaks in the middle must not leave a device connected whose
    // revocation is in the database.
    let (app, id) = (Arc::clone(app), id.clone());
    tokio::spawn(async move { carry_out(&app, &id, reason).await }).await.map_err(AppError::internal)?
}

async fn carry_out(app: &App, id: &DeviceId, reason: RevocationReason) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    if db::devices::revoke(&mut tx, id, reason, now_s()).await? {
        app.audit(&mut tx, now_s(), "admin", "device.revoke", &format!("{id} {}", reason.as_str())).await?;
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
    publish_list(app).await
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
    // One at a time, or an older list could replace a newer one.
    let _alone = app.list.lock().await;
    swap_lists(app).await
}

/// [`publish_list`] for who holds the lock.
pub(super) async fn swap_lists(app: &App) -> Result<(), AppError> {
    let count = app.tls.revocations();
    app.tls.set_revoked(db::devices::revoked(app.db.pool()).await?, count);
    let lists = lists(&app.db, &app.signer, &app.trust.load_full()).await?;
    app.tls.swap(&lists).map_err(AppError::internal)
}

/// A new list of each intermediate for devices that counts. One whose list cannot be had does not count: its devices
/// cannot come, as if the list had ended.
///
/// # Errors
/// When the database does not answer, or there is no list of the intermediate that signs.
pub async fn lists(db: &Db, signer: &SignerHandle, trust: &Trust) -> Result<Vec<IssuerList>, AppError> {
    let mut lists = Vec::new();
    for accepted in trust.devices() {
        let rows = db::devices::revoked_certificates(db.pool(), &accepted.sha256, now_s()).await?;
        let revoked = rows.into_iter().map(|(serial, revoked_s, reason)| RevokedSerial { serial, revoked_s, reason }).collect();
        let request = Request::RevocationList { revoked, issuer: Some(accepted.sha256.clone()) };
        match signing::revocation_list(signer, request).await {
            Ok(list) => lists.push(IssuerList { key_id: accepted.key_id.clone(), issuer: accepted.certificate.clone(), list }),
            Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
            // Any other fault leaves the lists that there are, and is tried again soon.
            Err(e) if e.code() != Code::Conflict => return Err(e),
            Err(e) => tracing::error!("no device of {} can come: {e}", accepted.certificate.tbs_certificate().subject()),
        }
    }
    Ok(lists)
}
