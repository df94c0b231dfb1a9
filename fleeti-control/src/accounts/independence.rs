//! Whether two accounts are two people: who can be the second person for an act of another account.

use super::actor::Actor;
use super::bootstrap::BOOTSTRAP;
use super::rows;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::AccountKind;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Connection, Tx};

/// Time after which an account can take part in an approval that was added, enabled, or got a role, a
/// link or a token from anybody, seconds. Longer than a link is valid: others see the change
/// meanwhile.
pub const SETTLED_S: u64 = 4 * 86_400;

/// Notes that an account was added, enabled, or got a role, a link or a token. What accounts do to
/// themselves is not looked at.
pub(super) async fn changed(
    cx: &Context,
    tx: &mut Tx<'_>,
    account: &AccountName,
    by: &Actor,
) -> Result<(), Error> {
    Ok(store::pending_acts::changed(tx, account, by.account(), cx.now_s()).await?)
}

/// Notes that a link set the password of an account, or that it got a passkey.
pub(super) async fn joined(
    cx: &Context,
    tx: &mut Tx<'_>,
    account: &AccountName,
) -> Result<(), Error> {
    Ok(store::pending_acts::changed(tx, account, "", cx.now_s()).await?)
}

/// Refuses requests of `bootstrap`: who holds its token may be any other account as well.
///
/// # Errors
/// [`Code::Forbidden`].
pub(crate) fn names_somebody(by: &Actor) -> Result<(), Error> {
    if by.account() != BOOTSTRAP {
        return Ok(());
    }
    let text = "the account bootstrap names nobody: no second person can be told from its holder";
    Err(Error::new(Code::Forbidden, text).hint("use an account of your own, see `fleeti user add`"))
}

/// Why an actor cannot be the second person for what another account requested; `None` if it can.
/// The account counts, and not its credential: all tokens and sessions of a person are one person.
pub(crate) async fn objection(
    cx: &Context,
    connection: &mut Connection,
    (requester, requested_s): (&AccountName, u64),
    by: &Actor,
) -> Result<Option<String>, Error> {
    let name = by.account();
    if name == requester.as_str() {
        return Ok(Some(format!("{name} requested it: another person decides")));
    }
    let known = match name.parse() {
        Ok(name) => rows::account(cx, connection, &name).await?,
        Err(_) => None,
    };
    if known.is_none_or(|row| row.kind != AccountKind::Person) {
        return Ok(Some(format!("{name} is no person: a second person has an account of its own")));
    }
    let is_person = rows::account(cx, connection, requester)
        .await?
        .is_some_and(|row| row.kind == AccountKind::Person);
    let requester = requester.as_str();
    // By whomever: one person can add an account that adds the other one.
    for account in [name, requester] {
        let last = store::pending_acts::last_change(connection, account, None).await?;
        if last.is_some_and(|at_s| at_s + SETTLED_S > requested_s) {
            let text = format!(
                "{account} was added, or got a role, a link, a passkey or a token, less than {} days before the request, or after it: the two may be one person",
                SETTLED_S / 86_400
            );
            return Ok(Some(text));
        }
    }
    // Who holds the token of `bootstrap` may be either of the two.
    let changes = [(name, requester), (requester, name), (name, BOOTSTRAP), (requester, BOOTSTRAP)];
    for (account, other) in changes {
        let last = store::pending_acts::last_change(connection, account, Some(other)).await?;
        // Who has made a token of a program may have kept it.
        let is_for_ever = account == requester && !is_person;
        if last.is_some_and(|at_s| is_for_ever || at_s + SETTLED_S > requested_s) {
            let text = format!(
                "{other} added {account}, or gave it a role, a link or a token: the two may be one person"
            );
            return Ok(Some(text));
        }
    }
    Ok(None)
}
