//! API tokens, stored as digests. A token permits at most what its account permits.

use super::actor::{Actor, Scope};
use super::bootstrap::BOOTSTRAP;
use super::{independence, rows};
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{
    AccountKind, ApiToken, CreateToken, CreatedToken, LABEL_MAX, Permission, TOKEN_S_MAX,
    TOKENS_MAX,
};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_store::accounts::{AccountRow, TokenRow};
use fleeti_store::{self as store, Tx};

/// Every API token begins with this, so that people and scanners recognise one.
pub const PREFIX: &str = "fleeti_";

fn invalid(text: String) -> Error {
    Error::new(Code::Invalid, text)
}

fn check(request: &CreateToken) -> Result<(), Error> {
    let label = &request.label;
    if label.trim().is_empty() || label.len() > LABEL_MAX || label.chars().any(char::is_control) {
        return Err(invalid(format!("label: must be one line of 1 to {LABEL_MAX} bytes")));
    }
    if !(60..=TOKEN_S_MAX).contains(&request.valid_s) {
        return Err(invalid(format!(
            "valid_s is {}, must be 60 to {TOKEN_S_MAX}",
            request.valid_s
        )));
    }
    if request.permissions.as_ref().is_some_and(Vec::is_empty) {
        return Err(invalid("permissions: a token without permissions is useless".into()));
    }
    Ok(())
}

/// The account that a token is for: the own one, or a service account for an administrator.
async fn owner(
    cx: &Context,
    tx: &mut Tx<'_>,
    by: &Actor,
    request: &CreateToken,
) -> Result<AccountRow, Error> {
    let own = || by.account().parse::<AccountName>().map_err(Error::internal);
    let name = request.account.clone().map_or_else(own, Ok)?;
    if name.as_str() != by.account() {
        by.authorize(Permission::Accounts, Scope::All)?;
    } else if by.is_limited() {
        let text = format!("{by} is limited, and creates no other token of its account");
        return Err(Error::new(Code::Forbidden, text));
    }
    let found = rows::account(cx, tx, &name).await?;
    let row = found.ok_or_else(|| Error::not_found("account", name.as_str()))?;
    if name.as_str() == BOOTSTRAP {
        return Err(Error::new(Code::Conflict, "the account bootstrap has no other token")
            .hint("add a service account with `fleeti user add NAME --service`"));
    }
    if name.as_str() != by.account() && row.kind == AccountKind::Person {
        return Err(Error::new(
            Code::Conflict,
            format!("{name} is a person: only that person creates tokens of the account"),
        )
        .hint("add a service account with `fleeti user add NAME --service`"));
    }
    if row.disabled_s.is_some() {
        return Err(Error::new(Code::Conflict, format!("{name} is disabled")));
    }
    Ok(row)
}

/// Creates a token. Only the return value contains it.
///
/// # Errors
/// [`Code::Invalid`]; [`Code::Forbidden`] for the token of another account, without the permission
/// `accounts`; [`Code::NotFound`]; [`Code::Conflict`] for an account that has no tokens, or too many.
pub async fn create(
    cx: &Context,
    by: &Actor,
    request: &CreateToken,
) -> Result<CreatedToken, Error> {
    check(request)?;
    let mut tx = cx.db.write().await?;
    let owner = owner(cx, &mut tx, by, request).await?;
    let has = |permission: &Permission| {
        owner.grants.iter().any(|grant| grant.role.permissions().contains(permission))
    };
    if let Some(lacking) = request.permissions.iter().flatten().find(|p| !has(p)) {
        return Err(invalid(format!("permissions: {} does not have {lacking}", owner.name)));
    }
    let token = format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let now_s = cx.now_s();
    let about = ApiToken {
        id: new_id("tok"),
        account: owner.name.clone(),
        label: request.label.trim().to_owned(),
        permissions: request.permissions.clone(),
        created_s: now_s,
        expires_s: now_s + u64::from(request.valid_s),
        used_s: None,
    };
    let mut row =
        TokenRow { about, token_sha256: sha256_hex(token.as_bytes()), seal: String::new() };
    row.seal = cx.accounts.key.token(&row)?;
    let all = store::accounts::tokens_of(&mut tx, &owner.name).await?;
    if all.iter().filter(|row| row.about.expires_s >= now_s).count() >= TOKENS_MAX {
        let text = format!("{} already has the maximum of {TOKENS_MAX} tokens", owner.name);
        return Err(Error::new(Code::Conflict, text).hint("remove one with `fleeti token remove`"));
    }
    store::accounts::insert_token(&mut tx, &row, now_s).await?;
    independence::changed(cx, &mut tx, &owner.name, by).await?;
    let subject = format!("{} of {}", row.about.id, owner.name);
    cx.audit(&mut tx, by.act("token.create", subject)).await?;
    tx.commit().await?;
    Ok(CreatedToken { about: row.about, token: Secret::new(token) })
}

/// The tokens of an account.
///
/// # Errors
/// When the database does not answer.
pub async fn of(cx: &Context, account: &AccountName) -> Result<Vec<ApiToken>, Error> {
    let rows = store::accounts::tokens_of(&mut cx.db.reader().await?, account).await?;
    Ok(rows.into_iter().map(|row| row.about).filter(|t| t.expires_s >= cx.now_s()).collect())
}

/// The tokens of the own account.
///
/// # Errors
/// When the database does not answer.
pub async fn own(cx: &Context, by: &Actor) -> Result<Vec<ApiToken>, Error> {
    of(cx, &by.account().parse().map_err(Error::internal)?).await
}

/// Removes a token of the own account; an administrator removes any.
///
/// # Errors
/// [`Code::NotFound`], also for a token of another account, without the permission `accounts`.
pub async fn remove(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let found = store::accounts::token_by_id(&mut tx, id).await?;
    let is_ones = |row: &TokenRow| {
        row.about.account.as_str() == by.account() || by.may(Permission::Accounts, Scope::All)
    };
    let row = found.filter(is_ones).ok_or_else(|| Error::not_found("token", id))?;
    store::accounts::remove_token(&mut tx, id).await?;
    let subject = format!("{id} of {}", row.about.account);
    cx.audit(&mut tx, by.act("token.remove", subject)).await?;
    Ok(tx.commit().await?)
}
