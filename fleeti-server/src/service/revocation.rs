//! Revocation: at once, everywhere. The database says no at CONNECT and at every request, the revocation list
//! at every handshake, and what is open is closed.

use crate::app::{App, AppRef, now_s};
use crate::db::{self, Db};
use crate::error::AppError;
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
    let count = app.tls.revocations();
    app.tls.set_revoked(db::devices::revoked(app.db.pool()).await?, count);
    let list = list(&app.db, &app.signer).await?;
    app.tls.swap(&list).map_err(AppError::internal)
}

/// A new list of every revoked certificate.
///
/// # Errors
/// When the database or the signer does not answer.
pub async fn list(db: &Db, signer: &SignerHandle) -> Result<Vec<u8>, AppError> {
    let rows = db::devices::revoked_certificates(db.pool(), now_s()).await?;
    let revoked = rows.into_iter().map(|(serial, revoked_s, reason)| RevokedSerial { serial, revoked_s, reason }).collect();
    signing::revocation_list(signer, Request::RevocationList { revoked }).await
}
