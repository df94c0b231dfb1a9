//! Login sessions of browsers, and the administrator's token.

pub(crate) mod token;

use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store as store;
use std::net::IpAddr;

/// Lifetime of a session, in seconds.
pub const SESSION_S: u64 = 12 * 3600;

/// Audit action: a sign-in with a wrong token.
const REFUSED: &str = "session.refused";

/// Whether this is the administrator's token.
#[must_use]
pub fn is_admin_token(cx: &Context, given: &str) -> bool {
    cx.admin_token.is(given)
}

/// Audit action: an API request with a wrong token.
const API_REFUSED: &str = "api.refused";
/// Maximum number of these entries per alarm interval, over all addresses.
const API_REFUSED_MAX: usize = 16;

/// Records an API request with a wrong token in the audit log, once per address and alarm interval.
pub async fn api_refused(cx: &Context, address: Option<IpAddr>) -> Result<(), Error> {
    let from =
        address.map_or_else(|| "an unknown address".to_owned(), |a| a.to_canonical().to_string());
    let is_counted =
        || (0..API_REFUSED_MAX).any(|n| cx.alarms.is_new("api.refused, of all", &n.to_string()));
    if cx.alarms.is_new(API_REFUSED, &from) && is_counted() {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new("unknown", API_REFUSED, format!("from {from}"))).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// A MAC that ties a session to the administrator's token: the session ends when that token is
/// replaced, and an attacker who can only write the database cannot create one.
fn credential(cx: &Context, session_sha256: &str) -> Result<String, Error> {
    cx.admin_token.mac(session_sha256)
}

/// Begins a session. Only the return value contains its token.
///
/// # Errors
/// [`Code::Unauthenticated`] for a wrong token.
pub async fn begin(cx: &Context, token: &str) -> Result<String, Error> {
    if !is_admin_token(cx, token.trim()) {
        // Once per alarm interval, so that guessing does not fill the log.
        if cx.alarms.is_new(REFUSED, "web") {
            let mut tx = cx.db.write().await?;
            cx.audit(&mut tx, Act::new("unknown", REFUSED, "web")).await?;
            tx.commit().await?;
        }
        return Err(Error::new(Code::Unauthenticated, "that is not the administrator's token")
            .hint("read the token from DIR/admin.token"));
    }
    let session = hex::encode(rand::random::<[u8; 32]>());
    let session_sha256 = sha256_hex(session.as_bytes());
    let credential = credential(cx, &session_sha256)?;
    let mut tx = cx.db.write().await?;
    store::sessions::insert(
        &mut tx,
        &session_sha256,
        &credential,
        cx.now_s(),
        cx.now_s() + SESSION_S,
    )
    .await?;
    cx.audit(&mut tx, Act::new("admin", "session.begin", "web")).await?;
    tx.commit().await?;
    Ok(session)
}

/// Whether a session is live.
pub async fn is_live(cx: &Context, session: &str) -> Result<bool, Error> {
    let session_sha256 = sha256_hex(session.as_bytes());
    Ok(store::sessions::is_live(
        cx.db.pool(),
        &session_sha256,
        &credential(cx, &session_sha256)?,
        cx.now_s(),
    )
    .await?)
}

/// Ends a session.
pub async fn end(cx: &Context, session: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    store::sessions::delete(&mut tx, &sha256_hex(session.as_bytes())).await?;
    cx.audit(&mut tx, Act::new("admin", "session.end", "web")).await?;
    tx.commit().await?;
    Ok(())
}
