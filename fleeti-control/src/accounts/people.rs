//! Accounts and their roles. A name is never given to another account, so that the audit log names
//! one account by it: accounts are disabled, not deleted.

use super::actor::Actor;
use super::bootstrap::BOOTSTRAP;
use super::{independence, links, passkeys, rows, sessions, tokens};
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{
    ACCOUNTS_MAX, Account, AccountDetails, AccountKind, CreateAccount, CreatedAccount, GRANTS_MAX,
    Grant, PasswordLink,
};
use fleeti_core::wire::problem::Code;
use fleeti_store::accounts::AccountRow;
use fleeti_store::{self as store, Tx};

fn unknown(name: &AccountName) -> Error {
    Error::not_found("account", name.as_str())
}

async fn get(cx: &Context, tx: &mut Tx<'_>, name: &AccountName) -> Result<AccountRow, Error> {
    rows::account(cx, tx, name).await?.ok_or_else(|| unknown(name))
}

/// Stores the account `bootstrap` at the first start, and learns whether its token counts. Another
/// token is another credential, which is not disabled: so operators of the machine regain access.
///
/// # Errors
/// When the database does not answer.
pub async fn prepare(cx: &Context) -> Result<(), Error> {
    let name: AccountName = BOOTSTRAP.parse().map_err(Error::internal)?;
    let mut tx = cx.db.write().await?;
    let fingerprint = cx.accounts.bootstrap.fingerprint();
    let stored = store::accounts::get(&mut tx, &name).await?;
    let known = rows::account(cx, &mut tx, &name).await?;
    let is_same = |row: &AccountRow| row.password.as_ref() == Some(&fingerprint);
    if let Some(row) = known.filter(is_same) {
        cx.accounts.bootstrap.set_disabled(row.disabled_s.is_some());
        return Ok(());
    }
    let row = AccountRow {
        name,
        kind: AccountKind::Service,
        created_s: stored.as_ref().map_or_else(|| cx.now_s(), |row| row.created_s),
        disabled_s: None,
        password: Some(fingerprint),
        grants: vec![rows::ADMINISTRATOR],
        seal: String::new(),
    };
    let row = rows::sealed(cx, row)?;
    if stored.is_some_and(|row| row.disabled_s.is_some()) {
        let act = Actor::server().act("account.enable", "bootstrap: admin.token was replaced");
        cx.audit(&mut tx, act).await?;
    }
    if !store::accounts::insert(&mut tx, &row).await? {
        store::accounts::update(&mut tx, &row).await?;
    }
    Ok(tx.commit().await?)
}

fn check_grant(grant: &Grant) -> Result<(), Error> {
    match &grant.fleet {
        Some(fleet) if !grant.role.is_of_a_fleet() => {
            let text = format!("the role {} cannot be limited to fleet {fleet}", grant.role);
            Err(Error::new(Code::Invalid, text)
                .hint("profiles, builds and releases belong to all fleets"))
        }
        _ => Ok(()),
    }
}

/// A limited credential gives no role with permissions that it lacks.
fn check_limit(by: &Actor, grants: &[Grant]) -> Result<(), Error> {
    match grants.iter().find(|grant| !by.may_give(grant)) {
        None => Ok(()),
        Some(grant) => {
            let text =
                format!("{by} is limited, and does not have all that {} permits", grant.role);
            Err(Error::new(Code::Forbidden, text))
        }
    }
}

/// Adds an account. A person gets a one-time link that sets the password.
///
/// # Errors
/// [`Code::Invalid`] for a role that cannot be limited to a fleet; [`Code::Forbidden`] for a limited
/// credential that lacks what a role permits; [`Code::Conflict`] for a name that is taken, or too many
/// accounts.
pub async fn add(
    cx: &Context,
    by: &Actor,
    request: &CreateAccount,
) -> Result<CreatedAccount, Error> {
    let mut grants = request.grants.clone();
    grants.sort();
    grants.dedup();
    grants.iter().try_for_each(check_grant)?;
    check_limit(by, &grants)?;
    if grants.len() > GRANTS_MAX {
        return Err(Error::new(Code::Invalid, format!("grants: more than {GRANTS_MAX} roles")));
    }
    let row = AccountRow {
        name: request.name.clone(),
        kind: request.kind,
        created_s: cx.now_s(),
        disabled_s: None,
        password: None,
        grants,
        seal: String::new(),
    };
    let row = rows::sealed(cx, row)?;
    let mut tx = cx.db.write().await?;
    if store::accounts::all(&mut tx).await?.len() >= ACCOUNTS_MAX {
        return Err(Error::new(
            Code::Conflict,
            format!("limit of {ACCOUNTS_MAX} accounts reached"),
        ));
    }
    if !store::accounts::insert(&mut tx, &row).await? {
        return Err(rows::taken(&row.name));
    }
    independence::changed(cx, &mut tx, &row.name, by).await?;
    let roles = row.grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let act = format!("{} {}: {roles}", row.kind.as_str(), row.name);
    cx.audit(&mut tx, by.act("account.add", act)).await?;
    let link = match row.kind {
        AccountKind::Person => {
            Some(links::make(cx, &mut tx, Some(&row.name), links::LINK_S).await?)
        }
        AccountKind::Service => None,
    };
    tx.commit().await?;
    Ok(CreatedAccount { account: rows::shown(&row), link })
}

/// All accounts, ordered by name.
///
/// # Errors
/// When the database does not answer.
pub async fn list(cx: &Context) -> Result<Vec<Account>, Error> {
    Ok(rows::accounts(cx, &mut cx.db.reader().await?).await?.iter().map(rows::shown).collect())
}

/// What else may accept a person, which the server cannot end.
const ELSEWHERE: [&str; 3] = [
    "keys of release approvers: remove the person's key from policy.toml of the signing service",
    "release keys: replace a key that the person holds, see `fleeti pki transition release-keys`",
    "shares of the root CA: repeat the ceremony without the person's share",
];

/// An account with everything that accepts its holder.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn details(cx: &Context, name: &AccountName) -> Result<AccountDetails, Error> {
    let found = rows::account(cx, &mut cx.db.reader().await?, name).await?;
    let row = found.ok_or_else(|| unknown(name))?;
    let is_person = row.kind == AccountKind::Person;
    Ok(AccountDetails {
        account: rows::shown(&row),
        sessions: sessions::of(cx, name).await?,
        tokens: tokens::of(cx, name).await?,
        passkeys: passkeys::of(cx, name).await?,
        open_enrollments: store::accounts::open_enrollments(cx.db.pool(), name, cx.now_s()).await?,
        elsewhere: if is_person { ELSEWHERE.map(str::to_owned).into() } else { vec![] },
    })
}

/// The own account.
///
/// # Errors
/// When the database does not answer.
pub async fn own(cx: &Context, by: &Actor) -> Result<AccountDetails, Error> {
    details(cx, &by.account().parse().map_err(Error::internal)?).await
}

/// Refuses a change after which nobody administers the server: neither a person with a password nor
/// the token of the first start.
async fn keeps_administrator(cx: &Context, tx: &mut Tx<'_>) -> Result<(), Error> {
    let is_in_charge = |row: &AccountRow| {
        rows::is_person_in_charge(row)
            || (row.name.as_str() == BOOTSTRAP && row.disabled_s.is_none())
    };
    if rows::accounts(cx, tx).await?.iter().any(is_in_charge) {
        return Ok(());
    }
    let text = "this is the last account that administers the server";
    Err(Error::new(Code::Conflict, text)
        .hint("first give the role admin to another person, who has set a password"))
}

/// Number of people who administer the server.
pub(crate) async fn administrators(cx: &Context, tx: &mut Tx<'_>) -> Result<usize, Error> {
    let all = rows::accounts(cx, tx).await?;
    Ok(all.iter().filter(|row| rows::is_person_in_charge(row)).count())
}

/// Refuses to change the roles of `bootstrap`.
fn is_changeable(name: &AccountName) -> Result<(), Error> {
    if name.as_str() == BOOTSTRAP {
        return Err(Error::new(Code::Conflict, "the account bootstrap always has the role admin")
            .hint("disable it with `fleeti user disable bootstrap`"));
    }
    Ok(())
}

/// Gives an account a role.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a role that cannot be limited to a fleet;
/// [`Code::Forbidden`] for a limited credential that lacks what the role permits;
/// [`Code::Conflict`] for too many roles.
pub async fn grant(
    cx: &Context,
    by: &Actor,
    name: &AccountName,
    grant: &Grant,
) -> Result<Account, Error> {
    check_grant(grant)?;
    check_limit(by, std::slice::from_ref(grant))?;
    let mut tx = cx.db.write().await?;
    let mut row = get(cx, &mut tx, name).await?;
    is_changeable(name)?;
    if row.grants.contains(grant) {
        return Ok(rows::shown(&row));
    }
    if row.grants.len() >= GRANTS_MAX {
        return Err(Error::new(Code::Conflict, format!("{name} has {GRANTS_MAX} roles already")));
    }
    row.grants.push(grant.clone());
    row.grants.sort();
    rows::update(cx, &mut tx, row.clone()).await?;
    independence::changed(cx, &mut tx, name, by).await?;
    cx.audit(&mut tx, by.act("account.grant", format!("{name}: {grant}"))).await?;
    tx.commit().await?;
    Ok(rows::shown(&row))
}

/// Takes a role from an account.
///
/// # Errors
/// [`Code::NotFound`], also for a role that the account does not have; [`Code::Conflict`] for the
/// last account that administers the server.
pub async fn ungrant(
    cx: &Context,
    by: &Actor,
    name: &AccountName,
    grant: &Grant,
) -> Result<Account, Error> {
    let mut tx = cx.db.write().await?;
    let mut row = get(cx, &mut tx, name).await?;
    is_changeable(name)?;
    if !row.grants.contains(grant) {
        return Err(Error::not_found("role", &grant.to_string()));
    }
    row.grants.retain(|other| other != grant);
    rows::update(cx, &mut tx, row.clone()).await?;
    keeps_administrator(cx, &mut tx).await?;
    cx.audit(&mut tx, by.act("account.ungrant", format!("{name}: {grant}"))).await?;
    tx.commit().await?;
    Ok(rows::shown(&row))
}

/// Disables an account: its login sessions end, and its API tokens do not count.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for the last account that administers the server.
pub async fn disable(cx: &Context, by: &Actor, name: &AccountName) -> Result<Account, Error> {
    set_enabled(cx, by, name, false).await
}

/// Enables a disabled account.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn enable(cx: &Context, by: &Actor, name: &AccountName) -> Result<Account, Error> {
    set_enabled(cx, by, name, true).await
}

async fn set_enabled(
    cx: &Context,
    by: &Actor,
    name: &AccountName,
    is_enabled: bool,
) -> Result<Account, Error> {
    let mut tx = cx.db.write().await?;
    let mut row = get(cx, &mut tx, name).await?;
    if row.disabled_s.is_none() == is_enabled {
        return Ok(rows::shown(&row));
    }
    row.disabled_s = if is_enabled { None } else { Some(cx.now_s()) };
    rows::update(cx, &mut tx, row.clone()).await?;
    if is_enabled {
        independence::changed(cx, &mut tx, name, by).await?;
    } else {
        store::sessions::delete_all(&mut tx, name).await?;
        store::accounts::remove_link(&mut tx, Some(name)).await?;
        keeps_administrator(cx, &mut tx).await?;
    }
    let action = if is_enabled { "account.enable" } else { "account.disable" };
    cx.audit(&mut tx, by.act(action, name.as_str())).await?;
    tx.commit().await?;
    if name.as_str() == BOOTSTRAP {
        cx.accounts.bootstrap.set_disabled(!is_enabled);
    }
    Ok(rows::shown(&row))
}

/// Ends everything of an account that the server can end: the account, its roles, password, passkeys,
/// login sessions, API tokens, link, and enrollment tokens that no device has used. Returns what may still
/// accept the person.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for `bootstrap`, or the last account that administers the
/// server.
pub async fn offboard(
    cx: &Context,
    by: &Actor,
    name: &AccountName,
) -> Result<AccountDetails, Error> {
    let mut tx = cx.db.write().await?;
    let mut row = get(cx, &mut tx, name).await?;
    is_changeable(name)?;
    row.disabled_s = row.disabled_s.or(Some(cx.now_s()));
    (row.password, row.grants) = (None, vec![]);
    rows::update(cx, &mut tx, row).await?;
    keeps_administrator(cx, &mut tx).await?;
    let sessions = store::sessions::delete_all(&mut tx, name).await?;
    let tokens = store::accounts::remove_tokens(&mut tx, name).await?;
    let passkeys = store::passkeys::remove_all(&mut tx, name).await?;
    store::accounts::remove_link(&mut tx, Some(name)).await?;
    let enrollments = store::accounts::end_enrollments(&mut tx, name, cx.now_s()).await?;
    let ended = format!(
        "{name}: {sessions} sessions, {passkeys} passkeys, {tokens} API tokens, {enrollments} enrollment tokens"
    );
    cx.audit(&mut tx, by.act("account.offboard", ended)).await?;
    tx.commit().await?;
    details(cx, name).await
}

/// Makes a one-time link with which a person sets a new password.
///
/// # Errors
/// [`Code::Forbidden`] for a limited credential; [`Code::NotFound`]; [`Code::Conflict`] for a program,
/// or an account that is disabled.
pub async fn link(cx: &Context, by: &Actor, name: &AccountName) -> Result<PasswordLink, Error> {
    // The session of the link is not limited, whatever roles the account gets later.
    if by.is_limited() {
        let text = format!("{by} is limited, and makes no links");
        return Err(Error::new(Code::Forbidden, text)
            .hint("use a session, or a token with all permissions of its account"));
    }
    let mut tx = cx.db.write().await?;
    let row = get(cx, &mut tx, name).await?;
    if row.kind == AccountKind::Service {
        return Err(Error::new(Code::Conflict, format!("{name} is a program without a password"))
            .hint("create a token with `fleeti token add --account NAME`"));
    }
    if row.disabled_s.is_some() {
        return Err(Error::new(Code::Conflict, format!("{name} is disabled"))
            .hint("enable it with `fleeti user enable NAME`"));
    }
    let link = links::make(cx, &mut tx, Some(name), links::LINK_S).await?;
    independence::changed(cx, &mut tx, name, by).await?;
    cx.audit(&mut tx, by.act("account.link", name.as_str())).await?;
    tx.commit().await?;
    Ok(link)
}
