//! One-time links with which a person sets a password: for a new account, for a forgotten password,
//! and for the first administrator.

use super::actor::{Actor, Via};
use super::{independence, rows, sessions, sign_in};
use crate::context::Context;
use crate::error::Error;
use crate::places::Origin;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{AccountKind, PasswordLink};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_store::accounts::{AccountRow, LinkRow};
use fleeti_store::{self as store, Connection, Tx};

/// Validity of a link, in seconds.
pub const LINK_S: u64 = 3 * 86_400;
/// Validity of the link of the first administrator, in seconds.
pub const FIRST_LINK_S: u64 = 86_400;

/// Makes a link in the caller's transaction, in place of an earlier one of the same account.
pub(super) async fn make(
    cx: &Context,
    tx: &mut Tx<'_>,
    account: Option<&AccountName>,
    valid_s: u64,
) -> Result<PasswordLink, Error> {
    let token = hex::encode(rand::random::<[u8; 32]>());
    let mut row = LinkRow {
        account: account.cloned(),
        token_sha256: sha256_hex(token.as_bytes()),
        expires_s: cx.now_s() + valid_s,
        seal: String::new(),
    };
    row.seal = cx.accounts.key.link(&row)?;
    store::accounts::put_link(tx, &row).await?;
    Ok(PasswordLink { path: Secret::new(format!("/join/{token}")), expires_s: row.expires_s })
}

/// Makes the link of the first administrator, unless an administrator can sign in with a password.
///
/// # Errors
/// When the database does not answer.
pub async fn first(cx: &Context) -> Result<Option<PasswordLink>, Error> {
    let mut tx = cx.db.write().await?;
    if rows::accounts(cx, &mut tx).await?.iter().any(rows::is_person_in_charge) {
        return Ok(None);
    }
    let link = make(cx, &mut tx, None, FIRST_LINK_S).await?;
    cx.audit(&mut tx, Actor::server().act("account.link", "first administrator")).await?;
    tx.commit().await?;
    Ok(Some(link))
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "this link has been used, has ended, or was replaced")
        .hint("an administrator makes a new one with `fleeti user link NAME`")
}

/// The link with this token.
async fn find(cx: &Context, connection: &mut Connection, token: &str) -> Result<LinkRow, Error> {
    let found = store::accounts::link(connection, &sha256_hex(token.as_bytes())).await?;
    let row = found.filter(|row| cx.now_s() <= row.expires_s).ok_or_else(unknown)?;
    if cx.accounts.key.link(&row)? == row.seal { Ok(row) } else { Err(unknown()) }
}

/// Whose password a link sets; `None` for the first administrator, who chooses a name.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn of(cx: &Context, token: &str) -> Result<Option<AccountName>, Error> {
    Ok(find(cx, &mut cx.db.reader().await?, token).await?.account)
}

/// Sets the password with a link, which works once. All earlier sessions of the account end;
/// returns the token of a new one.
///
/// # Errors
/// [`Code::NotFound`] for a link that does not count; [`Code::Invalid`] for a password of a wrong
/// length; [`Code::Conflict`] for a name that is taken, or an account that is disabled.
pub async fn redeem(
    cx: &Context,
    from: Origin,
    token: &str,
    (name, password): (Option<AccountName>, &str),
) -> Result<String, Error> {
    find(cx, &mut cx.db.reader().await?, token).await?;
    let hash = sign_in::hashed(cx, from, password).await?;
    let mut tx = cx.db.write().await?;
    let link = find(cx, &mut tx, token).await?;
    store::accounts::remove_link(&mut tx, link.account.as_ref()).await?;
    let account = match &link.account {
        Some(account) => set(cx, &mut tx, account, &hash).await?,
        None => first_administrator(cx, &mut tx, name, &hash).await?,
    };
    independence::joined(cx, &mut tx, &account.name).await?;
    let by = Actor::new(account.name.as_str(), Via::Link, vec![], None);
    cx.audit(&mut tx, by.act("account.password", account.name.as_str())).await?;
    let session = sessions::begin(cx, &mut tx, &account, &hash).await?;
    tx.commit().await?;
    Ok(session)
}

async fn set(
    cx: &Context,
    tx: &mut Tx<'_>,
    name: &AccountName,
    hash: &str,
) -> Result<AccountRow, Error> {
    let found = rows::account(cx, tx, name).await?;
    let mut row = found.filter(|row| row.disabled_s.is_none()).ok_or_else(unknown)?;
    row.password = Some(hash.to_owned());
    rows::update(cx, tx, row.clone()).await?;
    store::sessions::delete_all(tx, name).await?;
    Ok(row)
}

async fn first_administrator(
    cx: &Context,
    tx: &mut Tx<'_>,
    name: Option<AccountName>,
    hash: &str,
) -> Result<AccountRow, Error> {
    // An administrator may have been added since the link was made.
    if rows::accounts(cx, tx).await?.iter().any(rows::is_person_in_charge) {
        return Err(unknown());
    }
    let invalid = || {
        Error::new(Code::Invalid, "name: must be a-z, 0-9 and -, and begin with a letter or digit")
    };
    let row = AccountRow {
        name: name.ok_or_else(invalid)?,
        kind: AccountKind::Person,
        created_s: cx.now_s(),
        disabled_s: None,
        password: Some(hash.to_owned()),
        grants: vec![rows::ADMINISTRATOR],
        seal: String::new(),
    };
    let row = rows::sealed(cx, row)?;
    if !store::accounts::insert(tx, &row).await? {
        return Err(rows::taken(&row.name));
    }
    Ok(row)
}
