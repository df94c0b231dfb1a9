//! Signing in with a passkey. The browser names the passkey and its account; no name is typed.

use super::challenges::{CHALLENGE_S, Purpose};
use super::passkeys::{decoded, encoded, party};
use super::{rows, sessions, sign_in};
use crate::context::Context;
use crate::error::Error;
use crate::places::Origin;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_pki::webauthn::{self, Assertion, CredentialKey, KnownCredential, NotAccepted};
use fleeti_store::accounts::AccountRow;
use fleeti_store::passkeys::PasskeyRow;
use fleeti_store::{self as store, Connection};
use serde_json::{Value, json};

/// Audit action: a passkey whose counter did not grow, so that two authenticators may have it.
const COPIED: &str = "passkey.copied";
/// How failed attempts with a passkey are counted: apart from those at a password.
const COUNTED: &str = "passkey of ";

/// What the browser is asked to sign in: `PublicKeyCredentialRequestOptions` (5.5), with bytes as
/// base64url. `browser` is a secret of the browser that asks, such as a cookie.
///
/// # Errors
/// [`Code::Conflict`] without a public URL.
pub fn request_options(cx: &Context, browser: &str) -> Result<Value, Error> {
    let party = party(cx)?;
    let challenge = cx.accounts.challenges.make(Purpose::SignIn, browser, cx.now_s())?;
    Ok(json!({
        "challenge": encoded(&challenge),
        "rpId": party.id,
        "timeout": CHALLENGE_S * 1000,
        "userVerification": "required",
        "allowCredentials": [],
    }))
}

/// The answer of a browser to [`request_options`]. Bytes are base64url.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The id of the passkey at its authenticator.
    pub credential: &'a str,
    /// How the authenticator knows the account.
    pub user: &'a str,
    /// What the browser says.
    pub client_data: &'a str,
    /// What the authenticator says.
    pub authenticator_data: &'a str,
    /// The signature over both.
    pub signature: &'a str,
}

struct Decoded {
    credential_id: String,
    user: Vec<u8>,
    client_data: Vec<u8>,
    authenticator_data: Vec<u8>,
    signature: Vec<u8>,
}

impl Decoded {
    fn of(answer: &Answer<'_>) -> Result<Self, Error> {
        Ok(Self {
            credential_id: hex::encode(decoded("credential", answer.credential)?),
            user: decoded("user", answer.user)?,
            client_data: decoded("client_data", answer.client_data)?,
            authenticator_data: decoded("authenticator_data", answer.authenticator_data)?,
            signature: decoded("signature", answer.signature)?,
        })
    }
}

/// Why nobody is signed in.
enum Refusal {
    /// The passkey is unknown, of another account than the answer says, or of one that is disabled.
    Unknown,
    /// The answer is not accepted.
    NotAccepted(NotAccepted),
}

impl From<NotAccepted> for Refusal {
    fn from(e: NotAccepted) -> Self {
        Self::NotAccepted(e)
    }
}

/// The passkey of an answer, as the database has it now, if its seal is right.
async fn known(
    cx: &Context,
    connection: &mut Connection,
    credential_id: &str,
) -> Result<Option<PasskeyRow>, Error> {
    rows::counted_passkey(cx, store::passkeys::by_credential(connection, credential_id).await?)
}

/// The account of a passkey with what its sessions are tied to, if it can have one now.
async fn account_of(
    cx: &Context,
    connection: &mut Connection,
    passkey: &PasskeyRow,
) -> Result<Option<(AccountRow, String)>, Error> {
    let account = rows::account(cx, connection, &passkey.about.account).await?;
    Ok(account.and_then(|row| rows::credential(cx, &row).map(|credential| (row, credential))))
}

/// Verifies an answer. Returns the new counter of the passkey.
fn verified(
    cx: &Context,
    browser: &str,
    passkey: &PasskeyRow,
    answer: &Decoded,
) -> Result<Result<u32, Refusal>, Error> {
    let challenge = match webauthn::claimed_challenge(&answer.client_data) {
        Ok(challenge) => challenge,
        Err(e) => return Ok(Err(e.into())),
    };
    cx.accounts.challenges.check(&challenge, Purpose::SignIn, browser, cx.now_s())?;
    if answer.user != cx.accounts.key.user_handle(&passkey.about.account)? {
        return Ok(Err(Refusal::Unknown));
    }
    let key = hex::decode(&passkey.public_key).map_err(Error::internal)?;
    let known = KnownCredential {
        key: CredentialKey::read(&key).map_err(Error::internal)?,
        counter: passkey.counter,
        is_synced: passkey.about.is_synced,
    };
    let given = Assertion {
        client_data: &answer.client_data,
        authenticator_data: &answer.authenticator_data,
        signature: &answer.signature,
    };
    let counter = match webauthn::verify_assertion(party(cx)?, &challenge, &known, &given) {
        Ok(counter) => counter,
        Err(e) => return Ok(Err(e.into())),
    };
    cx.accounts.challenges.spend(&challenge, passkey.about.account.as_str(), cx.now_s())?;
    Ok(Ok(counter))
}

fn named(passkey: Option<&PasskeyRow>) -> String {
    passkey.map_or_else(
        || "an unknown passkey".to_owned(),
        |row| format!("{} of {}", row.about.id, row.about.account),
    )
}

/// Records a refused attempt, and makes the error for the browser.
async fn refused(
    cx: &Context,
    passkey: Option<&PasskeyRow>,
    refusal: &Refusal,
) -> Result<Error, Error> {
    let subject = named(passkey);
    let is_copied = matches!(refusal, Refusal::NotAccepted(NotAccepted::Counter { .. }));
    if !is_copied {
        sign_in::refused(cx, &subject).await?;
    } else if cx.alarms.is_new(COPIED, &subject) {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new("unknown", COPIED, subject)).await?;
        tx.commit().await?;
    }
    Ok(match refusal {
        Refusal::Unknown => {
            Error::new(Code::Unauthenticated, "no account accepts this passkey here")
                .hint("sign in with the password, and look at your passkeys")
        }
        Refusal::NotAccepted(e) => Error::new(Code::Unauthenticated, e.to_string())
            .hint("sign in with the password, or open the pages at the public URL of the server"),
    })
}

/// Begins a session with a passkey. `browser` is what [`request_options`] got.
///
/// # Errors
/// [`Code::Unauthenticated`] for an unknown or disabled account, an answer that is not accepted, or
/// a challenge that does not count; [`Code::Invalid`] for a malformed answer; [`Code::TooMany`]
/// after too many failed attempts from this address; [`Code::Conflict`] without a public URL.
pub async fn with_passkey(
    cx: &Context,
    from: Origin,
    browser: &str,
    answer: &Answer<'_>,
) -> Result<String, Error> {
    party(cx)?;
    let answer = Decoded::of(answer)?;
    let mut reader = cx.db.reader().await?;
    let found = known(cx, &mut reader, &answer.credential_id).await?;
    drop(reader);
    let counted = found.as_ref().map_or("", |row| row.about.account.as_str());
    let counted = format!("{COUNTED}{counted}");
    cx.accounts.attempts.begin(from, &counted, cx.now_s())?;
    let Some(before) = found else {
        return Err(refused(cx, None, &Refusal::Unknown).await?);
    };
    let counter = match verified(cx, browser, &before, &answer) {
        Ok(Ok(counter)) => counter,
        Ok(Err(refusal)) => return Err(refused(cx, Some(&before), &refusal).await?),
        Err(e) => {
            sign_in::refused(cx, &named(Some(&before))).await?;
            return Err(e);
        }
    };
    let mut tx = cx.db.write().await?;
    // Read again: the passkey may have been used or removed meanwhile, or the account changed.
    let now = known(cx, &mut tx, &answer.credential_id).await?.filter(|row| *row == before);
    let account = match &now {
        Some(row) => account_of(cx, &mut tx, row).await?,
        None => None,
    };
    let (Some(mut passkey), Some((account, credential))) = (now, account) else {
        drop(tx);
        return Err(refused(cx, Some(&before), &Refusal::Unknown).await?);
    };
    cx.accounts.attempts.succeeded(from, &counted);
    (passkey.counter, passkey.about.used_s) = (counter, Some(cx.now_s()));
    passkey.seal = cx.accounts.key.passkey(&passkey)?;
    store::passkeys::used(&mut tx, &passkey).await?;
    let session = sessions::begin_by(cx, &mut tx, &account, &credential, Some(&passkey)).await?;
    tx.commit().await?;
    Ok(session)
}
