//! Passkeys of people (Web Authentication): how one is added, listed and removed. How one signs in
//! is in [`super::by_passkey`].

use super::actor::{Actor, Scope, Via};
use super::challenges::{CHALLENGE_S, Purpose};
use super::{independence, rows, sessions};
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{AccountKind, LABEL_MAX, PASSKEYS_MAX, Passkey, Permission};
use fleeti_core::wire::problem::Code;
use fleeti_pki::webauthn::{self, ALGORITHMS, NewCredential, NotAccepted, PART_MAX, RelyingParty};
use fleeti_store::accounts::AccountRow;
use fleeti_store::passkeys::PasskeyRow;
use fleeti_store::{self as store, Connection};
use serde_json::{Value, json};

/// Time after signing in within which a passkey can be added, in seconds: who finds a browser that
/// somebody left adds none.
pub const FRESH_S: u64 = 600;

/// The server, as browsers and authenticators know it.
///
/// # Errors
/// [`Code::Conflict`] without a public URL.
pub(super) fn party(cx: &Context) -> Result<&RelyingParty, Error> {
    let url = cx.settings.public_url.as_ref().ok_or_else(|| {
        Error::new(Code::Conflict, "this server has no public URL, which passkeys are tied to")
            .hint("start fleeti-server with --public-url https://HOST")
    })?;
    Ok(url.party())
}

/// Whether people can have passkeys here, and the origin at which they work.
#[must_use]
pub fn origin(cx: &Context) -> Option<&str> {
    cx.settings.public_url.as_ref().map(|url| url.party().origin.as_str())
}

/// A part of an answer, base64url.
pub(super) fn decoded(what: &str, text: &str) -> Result<Vec<u8>, Error> {
    // Four letters for three bytes.
    let bytes = Some(text).filter(|text| text.len() <= PART_MAX / 3 * 4 + 4);
    let bytes = bytes.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.ok_or_else(|| Error::new(Code::Invalid, format!("{what}: must be base64url")))
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The account of an actor, which can have passkeys.
async fn person(
    cx: &Context,
    connection: &mut Connection,
    by: &Actor,
) -> Result<AccountRow, Error> {
    let name: AccountName = by.account().parse().map_err(Error::internal)?;
    let row = rows::account(cx, connection, &name).await?;
    let row = row.filter(|row| row.disabled_s.is_none() && row.kind == AccountKind::Person);
    row.ok_or_else(|| {
        Error::new(Code::Conflict, format!("{name} is no person, and has no passkeys"))
            .hint("a person signs in with an account of their own, see `fleeti user add`")
    })
}

/// The session of an actor.
fn session(by: &Actor) -> Result<&str, Error> {
    match by.via() {
        Via::Session(id) => Ok(id),
        Via::Bootstrap | Via::Token(_) | Via::Link | Via::Process | Via::Seconded { .. } => {
            Err(Error::new(Code::Forbidden, "a passkey is added in a browser that has signed in"))
        }
    }
}

async fn check_fresh(cx: &Context, by: &Actor) -> Result<(), Error> {
    let began_s = sessions::began_s(cx, by).await?;
    if began_s.is_some_and(|began_s| cx.now_s() <= began_s + FRESH_S) {
        return Ok(());
    }
    let text = format!("you signed in more than {} minutes ago", FRESH_S / 60);
    Err(Error::new(Code::Forbidden, text).hint("sign out, sign in, and add the passkey then"))
}

fn check_number(of: &AccountName, all: &[PasskeyRow]) -> Result<(), Error> {
    if all.len() < PASSKEYS_MAX {
        return Ok(());
    }
    let text = format!("{of} has the maximum of {PASSKEYS_MAX} passkeys");
    Err(Error::new(Code::Conflict, text).hint("remove one that is not used"))
}

/// How a browser finds a passkey: `PublicKeyCredentialDescriptor` (5.8.3).
fn descriptor(row: &PasskeyRow) -> Result<Value, Error> {
    let id = hex::decode(&row.credential_id).map_err(Error::internal)?;
    Ok(json!({ "type": "public-key", "id": encoded(&id) }))
}

/// What the browser is asked for a new passkey: `PublicKeyCredentialCreationOptions` (5.4), with
/// bytes as base64url.
///
/// # Errors
/// [`Code::Forbidden`] without a session that began within [`FRESH_S`]; [`Code::Conflict`] without
/// a public URL, for an account that is no person, or with too many passkeys.
pub async fn creation_options(cx: &Context, by: &Actor) -> Result<Value, Error> {
    let (party, session) = (party(cx)?, session(by)?);
    check_fresh(cx, by).await?;
    let mut reader = cx.db.reader().await?;
    let name = person(cx, &mut reader, by).await?.name;
    let all = rows::passkeys(cx, &mut reader, &name).await?;
    check_number(&name, &all)?;
    let challenge = cx.accounts.challenges.make(Purpose::Add, session, cx.now_s())?;
    let user = cx.accounts.key.user_handle(&name)?;
    let known = all.iter().map(descriptor).collect::<Result<Vec<_>, Error>>()?;
    Ok(json!({
        "challenge": encoded(&challenge),
        "rp": { "id": party.id, "name": "Fleeti" },
        "user": { "id": encoded(&user), "name": name, "displayName": name },
        "pubKeyCredParams": ALGORITHMS.map(|alg| json!({ "type": "public-key", "alg": alg })),
        "timeout": CHALLENGE_S * 1000,
        "excludeCredentials": known,
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": true,
            "userVerification": "required",
        },
        "attestation": "none",
    }))
}

/// The answer of a browser to [`creation_options`], and the name of the passkey. Bytes are
/// base64url.
#[derive(Debug, Clone, Copy)]
pub struct NewPasskey<'a> {
    /// Its name, which the person chose.
    pub label: &'a str,
    /// What the browser says.
    pub client_data: &'a str,
    /// What the authenticator says.
    pub attestation: &'a str,
}

fn not_accepted(e: NotAccepted) -> Error {
    let hint = match e {
        NotAccepted::Origin => "open the pages at the public URL of the server",
        NotAccepted::NotVerified => "use an authenticator with a PIN, fingerprint or face",
        NotAccepted::Malformed(_)
        | NotAccepted::Ceremony
        | NotAccepted::Challenge
        | NotAccepted::RelyingParty
        | NotAccepted::NotPresent
        | NotAccepted::Key
        | NotAccepted::Signature
        | NotAccepted::Backup
        | NotAccepted::Counter { .. } => "use another authenticator",
    };
    Error::new(Code::Invalid, e.to_string()).hint(hint)
}

fn checked_label(text: &str) -> Result<String, Error> {
    let label = text.trim();
    if label.is_empty() || label.len() > LABEL_MAX || label.chars().any(char::is_control) {
        let text = format!("label: must be one line of 1 to {LABEL_MAX} bytes");
        return Err(Error::new(Code::Invalid, text));
    }
    Ok(label.to_owned())
}

/// Verifies the answer of a browser, and that it is the first one to its challenge.
fn answered(cx: &Context, by: &Actor, new: &NewPasskey<'_>) -> Result<NewCredential, Error> {
    let (party, session) = (party(cx)?, session(by)?);
    let client_data = decoded("client_data", new.client_data)?;
    let attestation = decoded("attestation", new.attestation)?;
    let challenge = webauthn::claimed_challenge(&client_data).map_err(not_accepted)?;
    cx.accounts.challenges.check(&challenge, Purpose::Add, session, cx.now_s())?;
    let made = webauthn::verify_new(party, &challenge, &client_data, &attestation)
        .map_err(not_accepted)?;
    cx.accounts.challenges.spend(&challenge, by.account(), cx.now_s())?;
    Ok(made)
}

/// Adds a passkey to the own account.
///
/// # Errors
/// [`Code::Forbidden`] without a session; [`Code::Unauthenticated`] for a challenge that does not
/// count; [`Code::Invalid`] for an answer that is not accepted; [`Code::Conflict`] as for
/// [`creation_options`], or if an account has this passkey.
pub async fn add(cx: &Context, by: &Actor, new: &NewPasskey<'_>) -> Result<Passkey, Error> {
    let label = checked_label(new.label)?;
    let made = answered(cx, by, new)?;
    let mut tx = cx.db.write().await?;
    let account = person(cx, &mut tx, by).await?.name;
    check_number(&account, &rows::passkeys(cx, &mut tx, &account).await?)?;
    let (id, created_s) = (new_id("pk"), cx.now_s());
    let about = Passkey { id, account, label, is_synced: made.is_synced, created_s, used_s: None };
    let mut row = PasskeyRow {
        about,
        credential_id: hex::encode(&made.id),
        public_key: hex::encode(made.key.as_bytes()),
        counter: made.counter,
        seal: String::new(),
    };
    row.seal = cx.accounts.key.passkey(&row)?;
    if !store::passkeys::insert(&mut tx, &row).await? {
        return Err(Error::new(Code::Conflict, "an account has this passkey already"));
    }
    // Who adds a passkey to an account may be another person than its holder.
    independence::joined(cx, &mut tx, &row.about.account).await?;
    let subject = format!("{} of {}: {}", row.about.id, row.about.account, row.about.label);
    cx.audit(&mut tx, by.act("passkey.add", subject)).await?;
    tx.commit().await?;
    Ok(row.about)
}

/// The passkeys of an account, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of(cx: &Context, account: &AccountName) -> Result<Vec<Passkey>, Error> {
    let rows = rows::passkeys(cx, &mut cx.db.reader().await?, account).await?;
    Ok(rows.into_iter().map(|row| row.about).collect())
}

/// The passkeys of the own account, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn own(cx: &Context, by: &Actor) -> Result<Vec<Passkey>, Error> {
    of(cx, &by.account().parse().map_err(Error::internal)?).await
}

/// Removes a passkey of the own account; an administrator removes any. The sessions that it began
/// end.
///
/// # Errors
/// [`Code::NotFound`], also for a passkey of another account, without the permission `accounts`.
pub async fn remove(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let found = store::passkeys::by_id(&mut tx, id).await?;
    let is_ones = |row: &PasskeyRow| {
        row.about.account.as_str() == by.account() || by.may(Permission::Accounts, Scope::All)
    };
    let row = found.filter(is_ones).ok_or_else(|| Error::not_found("passkey", id))?;
    store::passkeys::remove(&mut tx, id).await?;
    let subject = format!("{id} of {}: {}", row.about.account, row.about.label);
    cx.audit(&mut tx, by.act("passkey.remove", subject)).await?;
    Ok(tx.commit().await?)
}
