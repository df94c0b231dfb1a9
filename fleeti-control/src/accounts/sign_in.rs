//! Signing in, with a password or the token of the first start.

use super::actor::Actor;
use super::bootstrap::BOOTSTRAP;
use super::{password, rows, sessions};
use crate::context::Context;
use crate::error::Error;
use crate::places::Origin;
use fleeti_core::id::AccountName;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store as store;

/// Audit action: a refused attempt to sign in.
const REFUSED: &str = "session.refused";

/// Records a refused attempt, once per alarm interval and account, so that guessing does not fill
/// the log.
pub(super) async fn refused(cx: &Context, subject: &str) -> Result<(), Error> {
    if cx.alarms.is_new(REFUSED, subject) {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new("unknown", REFUSED, subject)).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Begins a session with the token of the first start. Only the return value contains its token.
///
/// # Errors
/// [`Code::Unauthenticated`] for a wrong token.
pub async fn with_token(cx: &Context, token: &str) -> Result<String, Error> {
    // A wrong token takes no turn at the database.
    if !cx.accounts.bootstrap.is(token.trim()) {
        refused(cx, "web").await?;
        return Err(wrong_token());
    }
    let name: AccountName = BOOTSTRAP.parse().map_err(Error::internal)?;
    let mut tx = cx.db.write().await?;
    // It may have been disabled meanwhile.
    let account = rows::account(cx, &mut tx, &name).await?;
    let account = account.filter(|row| row.disabled_s.is_none()).ok_or_else(wrong_token)?;
    let credential = cx.accounts.bootstrap.fingerprint();
    let session = sessions::begin(cx, &mut tx, &account, &credential).await?;
    tx.commit().await?;
    Ok(session)
}

fn wrong_token() -> Error {
    Error::new(Code::Unauthenticated, "that is not the administrator's token")
        .hint("read the token from DIR/admin.token")
}

/// Begins a session with a password. Takes as long for an unknown account as for a known one.
///
/// # Errors
/// [`Code::Unauthenticated`] for an unknown or disabled account or a wrong password;
/// [`Code::TooMany`] after too many failed attempts from this address.
pub async fn with_password(
    cx: &Context,
    from: Origin,
    name: &str,
    given: &str,
) -> Result<String, Error> {
    let name: Option<AccountName> = name.trim().parse().ok();
    let counted = name.as_ref().map_or("", AccountName::as_str);
    cx.accounts.attempts.begin(from, counted, cx.now_s())?;
    let known = match &name {
        Some(name) => rows::account(cx, &mut cx.db.reader().await?, name).await?,
        None => None,
    };
    let hash = known.as_ref().and_then(|row| rows::credential(cx, row));
    let is_right = verified(cx, from, given, hash.clone()).await?;
    // Read again: the account may have been changed meanwhile.
    let mut tx = cx.db.write().await?;
    let now = match &name {
        Some(name) => rows::account(cx, &mut tx, name).await?,
        None => None,
    };
    let account = now.filter(|row| is_right && rows::credential(cx, row) == hash);
    let (Some(account), Some(credential)) = (account, hash) else {
        drop(tx);
        refused(cx, counted).await?;
        let text = "the name or the password is wrong, or the account is disabled";
        return Err(Error::new(Code::Unauthenticated, text)
            .hint("an administrator makes a new link with `fleeti user link NAME`"));
    };
    cx.accounts.attempts.succeeded(from, counted);
    let session = sessions::begin(cx, &mut tx, &account, &credential).await?;
    tx.commit().await?;
    Ok(session)
}

fn busy() -> Error {
    Error::new(Code::Unavailable, "too many attempts to sign in wait").hint("try again in a moment")
}

/// Whether a password has a hash, computed one at a time.
pub(super) async fn verified(
    cx: &Context,
    from: Origin,
    given: &str,
    hash: Option<String>,
) -> Result<bool, Error> {
    let place = cx.accounts.hashing.wait(&from).await.ok_or_else(busy)?;
    let (cost, given) = (cx.accounts.cost, given.to_owned());
    // The place is free when the computation ends, also if the client has disconnected.
    let compute = move || {
        let is = password::is(&given, hash.as_deref(), cost);
        drop(place);
        is
    };
    tokio::task::spawn_blocking(compute).await.map_err(Error::internal)?
}

/// The hash of a new password, computed one at a time.
pub(super) async fn hashed(cx: &Context, from: Origin, given: &str) -> Result<String, Error> {
    password::check(given)?;
    let place = cx.accounts.hashing.wait(&from).await.ok_or_else(busy)?;
    let (cost, given) = (cx.accounts.cost, given.to_owned());
    let compute = move || {
        let hash = password::hash(&given, cost);
        drop(place);
        hash
    };
    tokio::task::spawn_blocking(compute).await.map_err(Error::internal)?
}

/// Changes the own password. All sessions of the account end; returns the token of a new one.
///
/// # Errors
/// [`Code::Unauthenticated`] for a wrong current password; [`Code::Invalid`] for a new one of a wrong
/// length; [`Code::TooMany`]; [`Code::Conflict`] for an account without a password.
pub async fn change_password(
    cx: &Context,
    by: &Actor,
    from: Origin,
    (current, new): (&str, &str),
) -> Result<String, Error> {
    password::check(new)?;
    let name: AccountName = by.account().parse().map_err(Error::internal)?;
    let row = rows::account(cx, &mut cx.db.reader().await?, &name).await?;
    let known = row.filter(|row| row.name.as_str() != BOOTSTRAP).and_then(|row| row.password);
    let Some(known) = known else {
        return Err(Error::new(Code::Conflict, format!("{name} has no password")));
    };
    cx.accounts.attempts.begin(from, name.as_str(), cx.now_s())?;
    if !verified(cx, from, current, Some(known.clone())).await? {
        return Err(Error::new(Code::Unauthenticated, "the current password is wrong"));
    }
    cx.accounts.attempts.succeeded(from, name.as_str());
    let hash = hashed(cx, from, new).await?;
    let mut tx = cx.db.write().await?;
    let account = rows::account(cx, &mut tx, &name).await?;
    let account =
        account.filter(|row| row.password.as_ref() == Some(&known) && row.disabled_s.is_none());
    let mut account = account.ok_or_else(|| {
        Error::new(Code::Conflict, "the account was changed meanwhile").hint("sign in again")
    })?;
    account.password = Some(hash.clone());
    rows::update(cx, &mut tx, account.clone()).await?;
    store::sessions::delete_all(&mut tx, &name).await?;
    store::accounts::remove_link(&mut tx, Some(&name)).await?;
    cx.audit(&mut tx, by.act("account.password", name.as_str())).await?;
    let session = sessions::begin(cx, &mut tx, &account, &hash).await?;
    tx.commit().await?;
    Ok(session)
}
