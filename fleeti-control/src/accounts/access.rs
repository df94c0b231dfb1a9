//! The credential of an API request becomes an actor.

use super::actor::{Actor, Via};
use super::bootstrap::BOOTSTRAP;
use super::rows;
use super::sessions::USED_EVERY_S;
use super::tokens::PREFIX;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::AccountName;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store as store;
use std::net::IpAddr;

/// Audit action: an API request with a wrong token.
const REFUSED: &str = "api.refused";
/// Maximum number of these entries per alarm interval, over all addresses.
const REFUSED_MAX: usize = 16;

/// Who sends an API request with this token.
///
/// # Errors
/// [`Code::Unauthenticated`] without a token, or for one that does not count.
pub async fn bearer(
    cx: &Context,
    given: Option<&str>,
    address: Option<IpAddr>,
) -> Result<Actor, Error> {
    let found = match given {
        Some(token) if cx.accounts.bootstrap.is(token) => {
            Some(Actor::new(BOOTSTRAP, Via::Bootstrap, vec![rows::ADMINISTRATOR], None))
        }
        Some(token) if token.starts_with(PREFIX) => by_token(cx, token).await?,
        _ => None,
    };
    if let Some(actor) = found {
        return Ok(actor);
    }
    if given.is_some() {
        refused(cx, address).await?;
    }
    Err(Error::new(Code::Unauthenticated, "missing or invalid bearer token")
        .hint("send an API token, see `fleeti token add`, or the one in DIR/admin.token"))
}

/// Who has this API token. Records its use.
async fn by_token(cx: &Context, token: &str) -> Result<Option<Actor>, Error> {
    let mut reader = cx.db.reader().await?;
    // Looks up the digest, so that the time reveals nothing about the token.
    let digest = sha256_hex(token.as_bytes());
    let Some(row) = store::accounts::token_by_digest(&mut reader, &digest).await? else {
        return Ok(None);
    };
    let now_s = cx.now_s();
    if now_s > row.about.expires_s || cx.accounts.key.token(&row)? != row.seal {
        return Ok(None);
    }
    let account = rows::account(cx, &mut reader, &row.about.account).await?;
    let Some(account) = account.filter(|account| account.disabled_s.is_none()) else {
        return Ok(None);
    };
    drop(reader);
    if row.about.used_s.is_none_or(|used_s| now_s >= used_s + USED_EVERY_S) {
        let mut tx = cx.db.write().await?;
        store::accounts::token_used(&mut tx, &row.about.id, now_s).await?;
        tx.commit().await?;
    }
    let via = Via::Token(row.about.id);
    Ok(Some(Actor::new(account.name.as_str(), via, account.grants, row.about.permissions)))
}

/// An account and a credential of it, by their names in a record, as they count now; `None` if
/// they do not. A session may have ended meanwhile: people sign out.
pub(crate) async fn again(
    cx: &Context,
    name: &AccountName,
    via: &str,
) -> Result<Option<Actor>, Error> {
    let mut reader = cx.db.reader().await?;
    let account = rows::account(cx, &mut reader, name).await?;
    let Some(account) = account.filter(|account| account.disabled_s.is_none()) else {
        return Ok(None);
    };
    let (via, limited_to) = if let Some(id) = via.strip_prefix("token ") {
        let Some(row) = store::accounts::token_by_id(&mut reader, id).await? else {
            return Ok(None);
        };
        let is_in_time = cx.now_s() <= row.about.expires_s;
        if !is_in_time || row.about.account != *name || cx.accounts.key.token(&row)? != row.seal {
            return Ok(None);
        }
        (Via::Token(row.about.id), row.about.permissions)
    } else if let Some(id) = via.strip_prefix("session ") {
        (Via::Session(id.to_owned()), None)
    } else if via == Via::Bootstrap.to_string() && name.as_str() == BOOTSTRAP {
        (Via::Bootstrap, None)
    } else {
        return Ok(None);
    };
    Ok(Some(Actor::new(account.name.as_str(), via, account.grants, limited_to)))
}

/// Records an API request with a wrong token in the audit log, once per address and alarm interval.
async fn refused(cx: &Context, address: Option<IpAddr>) -> Result<(), Error> {
    let from =
        address.map_or_else(|| "an unknown address".to_owned(), |a| a.to_canonical().to_string());
    let is_counted =
        || (0..REFUSED_MAX).any(|n| cx.alarms.is_new("api.refused, of all", &n.to_string()));
    if cx.alarms.is_new(REFUSED, &from) && is_counted() {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new("unknown", REFUSED, format!("from {from}"))).await?;
        tx.commit().await?;
    }
    Ok(())
}
