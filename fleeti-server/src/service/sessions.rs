//! Sessions of people in the browser.

use crate::app::{App, now_s};
use crate::db;
use crate::error::AppError;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::problem::Code;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// Longest session.
pub const SESSION_S: u64 = 12 * 3600;

/// Somebody tried to sign in with another token.
const REFUSED: &str = "session.refused";

/// Whether this is the administrator's token.
#[must_use]
pub fn is_admin_token(app: &App, given: &str) -> bool {
    // Digests are compared, so the time says nothing about the token.
    sha256_hex(given.as_bytes()) == sha256_hex(app.admin_token.as_bytes())
}

/// Somebody asked the API with another token.
const API_REFUSED: &str = "api.refused";
/// Most of these entries until alarms are new again, from however many addresses.
const API_REFUSED_MAX: usize = 16;

/// Enters that somebody came with a wrong token, once for an address and a while.
///
/// # Errors
/// When the database does not answer.
pub async fn api_refused(app: &App, address: Option<IpAddr>) -> Result<(), AppError> {
    let from =
        address.map_or_else(|| "an unknown address".to_owned(), |a| a.to_canonical().to_string());
    let is_counted =
        || (0..API_REFUSED_MAX).any(|n| app.alarms.is_new("api.refused, of all", &n.to_string()));
    if app.alarms.is_new(API_REFUSED, &from) && is_counted() {
        let mut tx = app.db.write().await?;
        app.audit(&mut tx, now_s(), "somebody", API_REFUSED, &format!("from {from}")).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// What a session is begun with, for its digest alone: it ends when the administrator's token is
/// replaced, and whoever writes the database without knowing that token begins none.
fn credential(app: &App, session_sha256: &str) -> Result<String, AppError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(app.admin_token.as_bytes()).map_err(AppError::internal)?;
    mac.update(session_sha256.as_bytes());
    Ok(hex::encode(mac.finalize().into_bytes()))
}

/// Begins a session; the answer is the only place where its token can be seen.
///
/// # Errors
/// [`Code::Unauthenticated`] for a wrong token.
pub async fn begin(app: &App, token: &str) -> Result<String, AppError> {
    if !is_admin_token(app, token.trim()) {
        // Once in a while, however many there are: who guesses fills no log.
        if app.alarms.is_new(REFUSED, "web") {
            let mut tx = app.db.write().await?;
            app.audit(&mut tx, now_s(), "somebody", REFUSED, "web").await?;
            tx.commit().await?;
        }
        return Err(AppError::new(Code::Unauthenticated, "that is not the administrator's token")
            .hint("it is in DIR/admin.token"));
    }
    let session = hex::encode(rand::random::<[u8; 32]>());
    let session_sha256 = sha256_hex(session.as_bytes());
    let credential = credential(app, &session_sha256)?;
    let mut tx = app.db.write().await?;
    db::sessions::insert(&mut tx, &session_sha256, &credential, now_s(), now_s() + SESSION_S)
        .await?;
    app.audit(&mut tx, now_s(), "admin", "session.begin", "web").await?;
    tx.commit().await?;
    Ok(session)
}

/// Whether a session is live.
///
/// # Errors
/// When the database does not answer.
pub async fn is_live(app: &App, session: &str) -> Result<bool, AppError> {
    let session_sha256 = sha256_hex(session.as_bytes());
    db::sessions::is_live(
        app.db.pool(),
        &session_sha256,
        &credential(app, &session_sha256)?,
        now_s(),
    )
    .await
}

/// Ends a session.
///
/// # Errors
/// When the database does not answer.
pub async fn end(app: &App, session: &str) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    db::sessions::delete(&mut tx, &sha256_hex(session.as_bytes())).await?;
    app.audit(&mut tx, now_s(), "admin", "session.end", "web").await?;
    tx.commit().await?;
    Ok(())
}
