//! Revocation: at once, everywhere. The database says no at CONNECT and at every request, the revocation list
//! at every handshake, and what is open is closed.

use crate::app::{App, now_s};
use crate::db::{self, audit, from_seconds};
use crate::error::AppError;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_pki::crl::{self, Revoked};

/// Validity of a list; it is made again well before.
pub const CRL_S: u64 = 24 * 3600;

/// Revokes a device.
///
/// # Errors
/// [`Code::NotFound`], [`Code::Conflict`] when it is revoked already.
pub async fn revoke(app: &App, id: &DeviceId) -> Result<(), AppError> {
    if db::devices::get(app.db.pool(), id.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", id.as_str()));
    }
    let mut tx = app.db.write().await?;
    if !db::devices::revoke(&mut tx, id, now_s()).await? {
        return Err(AppError::new(Code::Conflict, format!("device {id} is revoked already")));
    }
    audit(&mut tx, now_s(), "admin", "device.revoke", id.as_str()).await?;
    tx.commit().await?;
    // Order: new connections first, so that a device that is cut off cannot come back in between.
    app.tls.revoke(id.clone());
    publish_list(app).await?;
    app.hub.kick(id);
    app.publish(Event::Device { id: id.clone() });
    Ok(())
}

/// Signs a new list and swaps it in, with a new session store: resumption would bypass it.
///
/// # Errors
/// When the database or the key does not answer.
pub async fn publish_list(app: &App) -> Result<(), AppError> {
    let rows = db::devices::revoked(app.db.pool()).await?;
    for (id, _, _) in &rows {
        app.tls.revoke(id.parse().map_err(AppError::internal)?);
    }
    let revoked: Vec<_> = rows.into_iter().map(|(_, serial, s)| Revoked { serial, revoked_s: from_seconds(s) }).collect();
    let number = from_seconds(app.db.next("crl").await?);
    let list = crl::create(&app.pki.device_authority(), &revoked, number, now_s(), CRL_S)?;
    app.tls.swap(list).map_err(AppError::internal)
}
