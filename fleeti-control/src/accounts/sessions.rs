//! Login sessions of browsers. A session ends after twelve hours, after two hours without a request,
//! and with the credential that began it.

use super::actor::{Actor, Via};
use super::rows::{self, counted_passkey};
use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::LoginSession;
use fleeti_store::accounts::AccountRow;
use fleeti_store::passkeys::PasskeyRow;
use fleeti_store::sessions::SessionRow;
use fleeti_store::{self as store, Tx};

/// Maximum lifetime of a session, in seconds.
pub const SESSION_S: u64 = 12 * 3600;
/// Maximum time between two requests of a session, in seconds.
pub const IDLE_S: u64 = 2 * 3600;
/// Uses within this time are recorded once.
pub(super) const USED_EVERY_S: u64 = 60;

/// The id of a session. Its token cannot be found from it.
fn id(token_sha256: &str) -> String {
    token_sha256.chars().take(16).collect()
}

/// Begins a session of an account in the caller's transaction. Only the return value contains its
/// token.
pub(super) async fn begin(
    cx: &Context,
    tx: &mut Tx<'_>,
    account: &AccountRow,
    credential: &str,
) -> Result<String, Error> {
    begin_by(cx, tx, account, credential, None).await
}

/// As [`begin`], for an account that has proved a passkey.
pub(super) async fn begin_by(
    cx: &Context,
    tx: &mut Tx<'_>,
    account: &AccountRow,
    credential: &str,
    passkey: Option<&PasskeyRow>,
) -> Result<String, Error> {
    let token = hex::encode(rand::random::<[u8; 32]>());
    let now_s = cx.now_s();
    let mut row = SessionRow {
        token_sha256: sha256_hex(token.as_bytes()),
        account: account.name.clone(),
        created_s: now_s,
        used_s: now_s,
        expires_s: now_s + SESSION_S,
        credential: String::new(),
        passkey: passkey.map(|passkey| passkey.about.id.clone()),
    };
    let (credential, subject) = match passkey {
        Some(by) => (rows::with_passkey(credential, by), format!("web by {}", by.about.id)),
        None => (credential.to_owned(), "web".to_owned()),
    };
    row.credential = cx.accounts.key.session(&row, &credential)?;
    store::sessions::insert(tx, &row).await?;
    cx.audit(tx, actor_of(&row, account).act("session.begin", subject)).await?;
    Ok(token)
}

fn actor_of(row: &SessionRow, account: &AccountRow) -> Actor {
    let via = Via::Session(id(&row.token_sha256));
    Actor::new(account.name.as_str(), via, account.grants.clone(), None)
}

/// Whether a session has neither ended nor been idle for too long.
fn is_in_time(row: &SessionRow, now_s: u64) -> bool {
    now_s <= row.expires_s && now_s <= row.used_s + IDLE_S
}

/// A live session and its account.
async fn live(cx: &Context, token: &str) -> Result<Option<(SessionRow, AccountRow)>, Error> {
    let mut reader = cx.db.reader().await?;
    let found = store::sessions::get(&mut reader, &sha256_hex(token.as_bytes())).await?;
    let now_s = cx.now_s();
    let Some(row) = found.filter(|row| is_in_time(row, now_s)) else { return Ok(None) };
    let Some(account) = rows::account(cx, &mut reader, &row.account).await? else {
        return Ok(None);
    };
    let Some(mut credential) = rows::credential(cx, &account) else { return Ok(None) };
    if let Some(id) = &row.passkey {
        let found = store::passkeys::by_id(&mut reader, id).await?;
        let passkey = counted_passkey(cx, found)?.filter(|it| it.about.account == row.account);
        let Some(passkey) = passkey else { return Ok(None) };
        credential = rows::with_passkey(&credential, &passkey);
    }
    let is_sealed = cx.accounts.key.session(&row, &credential)? == row.credential;
    Ok(is_sealed.then_some((row, account)))
}

/// Who sends a request of this session; `None` if it is not live. Records its use.
///
/// # Errors
/// When the database does not answer.
pub async fn actor(cx: &Context, token: &str) -> Result<Option<Actor>, Error> {
    let Some((row, account)) = live(cx, token).await? else { return Ok(None) };
    if cx.now_s() >= row.used_s + USED_EVERY_S {
        let mut tx = cx.db.write().await?;
        store::sessions::used(&mut tx, &row.token_sha256, cx.now_s()).await?;
        tx.commit().await?;
    }
    Ok(Some(actor_of(&row, &account)))
}

/// Whether a session is live. This is no use of it.
///
/// # Errors
/// When the database does not answer.
pub async fn is_live(cx: &Context, token: &str) -> Result<bool, Error> {
    Ok(live(cx, token).await?.is_some())
}

/// When the session of an actor began, Unix seconds; `None` for another credential.
pub(super) async fn began_s(cx: &Context, by: &Actor) -> Result<Option<u64>, Error> {
    let Via::Session(wanted) = by.via() else { return Ok(None) };
    let account = by.account().parse().map_err(Error::internal)?;
    let all = store::sessions::of(&mut cx.db.reader().await?, &account).await?;
    Ok(all.into_iter().find(|row| id(&row.token_sha256) == *wanted).map(|row| row.created_s))
}

/// Ends a session.
///
/// # Errors
/// When the database does not answer.
pub async fn end(cx: &Context, by: &Actor, token: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    store::sessions::delete(&mut tx, &sha256_hex(token.as_bytes())).await?;
    cx.audit(&mut tx, by.act("session.end", "web")).await?;
    Ok(tx.commit().await?)
}

/// The live sessions of an account.
///
/// # Errors
/// When the database does not answer.
pub async fn of(cx: &Context, account: &AccountName) -> Result<Vec<LoginSession>, Error> {
    let now_s = cx.now_s();
    let rows = store::sessions::of(&mut cx.db.reader().await?, account).await?;
    let shown = |row: SessionRow| LoginSession {
        id: id(&row.token_sha256),
        created_s: row.created_s,
        used_s: row.used_s,
        expires_s: row.expires_s,
    };
    Ok(rows.into_iter().filter(|row| is_in_time(row, now_s)).map(shown).collect())
}

/// The live sessions of the own account.
///
/// # Errors
/// When the database does not answer.
pub async fn own(cx: &Context, by: &Actor) -> Result<Vec<LoginSession>, Error> {
    of(cx, &by.account().parse().map_err(Error::internal)?).await
}

/// Ends a session of the own account, by its id.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn end_own(cx: &Context, by: &Actor, wanted: &str) -> Result<(), Error> {
    end_of(cx, by, &by.account().parse().map_err(Error::internal)?, wanted).await
}

/// Ends a session of an account, by its id.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn end_of(
    cx: &Context,
    by: &Actor,
    account: &AccountName,
    wanted: &str,
) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let all = store::sessions::of(&mut tx, account).await?;
    let found = all.into_iter().find(|row| id(&row.token_sha256) == wanted);
    let row = found.ok_or_else(|| Error::not_found("session", wanted))?;
    store::sessions::delete(&mut tx, &row.token_sha256).await?;
    cx.audit(&mut tx, by.act("session.end", format!("{wanted} of {account}"))).await?;
    Ok(tx.commit().await?)
}

/// Ends all sessions of an account.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn end_all(cx: &Context, by: &Actor, account: &AccountName) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if rows::account(cx, &mut tx, account).await?.is_none() {
        return Err(Error::not_found("account", account.as_str()));
    }
    let ended = store::sessions::delete_all(&mut tx, account).await?;
    cx.audit(&mut tx, by.act("session.end", format!("{ended} of {account}"))).await?;
    Ok(tx.commit().await?)
}
