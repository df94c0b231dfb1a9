//! Accounts as they are stored: only rows whose seal is right, and sealed when they are written.

use super::bootstrap::BOOTSTRAP;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{Account, AccountKind, Grant, Role};
use fleeti_core::wire::problem::Code;
use fleeti_store::accounts::AccountRow;
use fleeti_store::passkeys::PasskeyRow;
use fleeti_store::{self as store, Connection, Tx};

/// An account; `None` also if its seal is wrong.
pub(super) async fn account(
    cx: &Context,
    connection: &mut Connection,
    name: &AccountName,
) -> Result<Option<AccountRow>, Error> {
    let Some(row) = store::accounts::get(connection, name).await? else { return Ok(None) };
    counted(cx, row)
}

/// All accounts whose seal is right.
pub(super) async fn accounts(
    cx: &Context,
    connection: &mut Connection,
) -> Result<Vec<AccountRow>, Error> {
    let rows = store::accounts::all(connection).await?;
    rows.into_iter().filter_map(|row| counted(cx, row).transpose()).collect()
}

/// The row, if its seal is right.
fn counted(cx: &Context, row: AccountRow) -> Result<Option<AccountRow>, Error> {
    if cx.accounts.key.account(&row)? == row.seal {
        return Ok(Some(row));
    }
    if cx.alarms.is_new("account.seal", row.name.as_str()) {
        tracing::warn!(
            "account {} does not count: another program changed it in the database, or the seal key was replaced (DIR/accounts.key)",
            row.name
        );
    }
    Ok(None)
}

/// Seals a changed account and stores it.
pub(super) async fn update(cx: &Context, tx: &mut Tx<'_>, row: AccountRow) -> Result<(), Error> {
    let row = sealed(cx, row)?;
    Ok(store::accounts::update(tx, &row).await?)
}

/// The row with its seal.
pub(super) fn sealed(cx: &Context, row: AccountRow) -> Result<AccountRow, Error> {
    Ok(AccountRow { seal: cx.accounts.key.account(&row)?, ..row })
}

/// What a session of an account is tied to; `None` if the account cannot have one now.
pub(super) fn credential(cx: &Context, row: &AccountRow) -> Option<String> {
    if row.name.as_str() == BOOTSTRAP {
        let is_disabled = row.disabled_s.is_some();
        return (!is_disabled).then(|| cx.accounts.bootstrap.fingerprint());
    }
    row.password.clone().filter(|_| row.disabled_s.is_none())
}

/// A passkey; `None` also if its seal is wrong.
pub(super) fn counted_passkey(
    cx: &Context,
    row: Option<PasskeyRow>,
) -> Result<Option<PasskeyRow>, Error> {
    let Some(row) = row else { return Ok(None) };
    Ok((cx.accounts.key.passkey(&row)? == row.seal).then_some(row))
}

/// The passkeys of an account whose seals are right.
pub(super) async fn passkeys(
    cx: &Context,
    connection: &mut Connection,
    account: &AccountName,
) -> Result<Vec<PasskeyRow>, Error> {
    let rows = store::passkeys::of(connection, account).await?;
    rows.into_iter().filter_map(|row| counted_passkey(cx, Some(row)).transpose()).collect()
}

/// What a session is tied to that a passkey began: to that and to the password, so that it ends with
/// either of them.
pub(super) fn with_passkey(credential: &str, passkey: &PasskeyRow) -> String {
    format!("{credential} with passkey {} {}", passkey.about.id, passkey.public_key)
}

/// What others see of an account.
pub(super) fn shown(row: &AccountRow) -> Account {
    Account {
        name: row.name.clone(),
        kind: row.kind,
        grants: row.grants.clone(),
        created_s: row.created_s,
        disabled_s: row.disabled_s,
        has_password: row.name.as_str() != BOOTSTRAP && row.password.is_some(),
    }
}

/// The role of those who administer everything.
pub(super) const ADMINISTRATOR: Grant = Grant { role: Role::Admin, fleet: None };

/// Whether an account is of a person who can sign in and administers everything.
pub(super) fn is_person_in_charge(row: &AccountRow) -> bool {
    row.kind == AccountKind::Person
        && row.disabled_s.is_none()
        && row.password.is_some()
        && row.grants.contains(&ADMINISTRATOR)
}

/// The error for a name that another account has.
pub(super) fn taken(name: &AccountName) -> Error {
    Error::new(Code::Conflict, format!("the name {name} is taken"))
        .hint("a name is never given to another account; choose another one")
}
