//! E-mail about alerts. Receivers are rows; the relay is configuration.
//!
//! `outbox` makes e-mails of the events in the outbox, and says what to send; the server sends it.
//! `message` has the text. An attacker who can only write the database sends e-mail to nobody else:
//! a receiver is sealed with its address, fleets and severity.

mod message;
mod outbox;
mod seal;

pub use self::outbox::{Answer, LOST_S, Outgoing, answered, due, fan_out, next, unreachable};

use crate::accounts::actor::{Actor, Scope};
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::email::{
    AddReceiver, EMAILS_MAX, EmailDelivery, EmailReceiver, RECEIVER_FLEETS_MAX, RECEIVERS_MAX,
    TEST_EVENT,
};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// All receivers.
pub async fn list(cx: &Context) -> Result<Vec<EmailReceiver>, Error> {
    let all = store::emails::all(&mut cx.db.reader().await?).await?;
    Ok(all.into_iter().map(|row| row.receiver).collect())
}

/// What the page of alerts shows of e-mail.
pub struct EmailOverview {
    /// The relay in words; `None` if e-mail is not configured.
    pub relay: Option<String>,
    /// Each receiver with its newest e-mail.
    pub receivers: Vec<(EmailReceiver, Option<EmailDelivery>)>,
}

/// The receivers with their newest e-mails; `None` for an actor who may not see them.
pub async fn overview(cx: &Context, by: &Actor) -> Result<Option<EmailOverview>, Error> {
    if !by.may(Permission::Server, Scope::All) {
        return Ok(None);
    }
    let mut connection = cx.db.reader().await?;
    let mut receivers = Vec::new();
    for row in store::emails::all(&mut connection).await? {
        let newest = store::emails::newest(&mut connection, &row.receiver.id, 1).await?;
        receivers.push((row.receiver, newest.into_iter().next()));
    }
    Ok(Some(EmailOverview {
        relay: cx.settings.email.as_ref().map(ToString::to_string),
        receivers,
    }))
}

/// Adds a receiver, which gets e-mail about alerts from now on.
///
/// # Errors
/// [`Code::Invalid`] for too many fleets; [`Code::Conflict`] if e-mail is not configured, for an
/// address that is there already, and for too many receivers.
pub async fn add(cx: &Context, by: &Actor, request: &AddReceiver) -> Result<EmailReceiver, Error> {
    if request.fleets.len() > RECEIVER_FLEETS_MAX {
        let text = format!(
            "fleets: {} are too many, at most {RECEIVER_FLEETS_MAX} are allowed",
            request.fleets.len()
        );
        return Err(Error::new(Code::Invalid, text));
    }
    must_be_configured(cx)?;
    let mut fleets = request.fleets.clone();
    fleets.sort();
    fleets.dedup();
    let receiver = EmailReceiver {
        id: new_id("mail"),
        address: request.address.clone(),
        fleets,
        severity: request.severity,
        enabled: true,
        created_s: cx.now_s(),
    };
    let mut tx = cx.db.write().await?;
    let all = store::emails::all(&mut tx).await?;
    if all.len() >= RECEIVERS_MAX {
        let text = format!("there are already {RECEIVERS_MAX} receivers of e-mail");
        return Err(Error::new(Code::Conflict, text).hint("use a mailing list, or remove one"));
    }
    let address = request.address.as_str();
    if all.iter().any(|row| row.receiver.address.as_str().eq_ignore_ascii_case(address)) {
        let text = format!("{address} gets e-mail already");
        return Err(Error::new(Code::Conflict, text).hint("remove that receiver to change it"));
    }
    store::emails::insert(&mut tx, &receiver, &seal::of(cx, &receiver)?).await?;
    let what = format!("{} {address}: {} in {}", receiver.id, receiver.severity, of(&receiver));
    cx.audit(&mut tx, by.act("email.add", what)).await?;
    tx.commit().await?;
    Ok(receiver)
}

/// The fleets of a receiver, in words.
fn of(receiver: &EmailReceiver) -> String {
    if receiver.fleets.is_empty() {
        return "all fleets".to_owned();
    }
    let names: Vec<_> = receiver.fleets.iter().map(ToString::to_string).collect();
    names.join(" ")
}

fn must_be_configured(cx: &Context) -> Result<(), Error> {
    if cx.settings.email.is_some() {
        return Ok(());
    }
    Err(Error::new(Code::Conflict, "e-mail is not configured")
        .hint("start the server with --email-relay and --email-from"))
}

/// Removes a receiver with its e-mails.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::emails::remove(&mut tx, id).await? {
        return Err(Error::not_found("receiver", id));
    }
    cx.audit(&mut tx, by.act("email.remove", id)).await?;
    Ok(tx.commit().await?)
}

/// Enables a receiver, or disables it. What waits for a disabled one is not sent any more.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn set_enabled(cx: &Context, by: &Actor, id: &str, enabled: bool) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::emails::set_enabled(&mut tx, id, enabled).await? {
        return Err(Error::not_found("receiver", id));
    }
    if !enabled {
        store::emails::give_up(&mut tx, id, outbox::DISABLED, cx.now_s()).await?;
    }
    let action = if enabled { "email.enable" } else { "email.disable" };
    cx.audit(&mut tx, by.act(action, id)).await?;
    Ok(tx.commit().await?)
}

/// Sends a test e-mail to a receiver.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if e-mail is not configured, or the receiver is disabled.
pub async fn test(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let row = store::emails::get(&mut tx, id).await?;
    let row = row.ok_or_else(|| Error::not_found("receiver", id))?;
    must_be_configured(cx)?;
    if !row.receiver.enabled {
        return Err(Error::new(Code::Conflict, "the receiver is disabled").hint("enable it first"));
    }
    let body = serde_json::json!({ "receiver": id, "by": by.account() }).to_string();
    store::domain_events::insert(&mut tx, cx.now_s(), &[(TEST_EVENT, body)]).await?;
    cx.audit(&mut tx, by.act("email.test", id)).await?;
    Ok(tx.commit().await?)
}

/// A receiver with its newest e-mails, newest first.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<(EmailReceiver, Vec<EmailDelivery>), Error> {
    let found = store::emails::get(&mut cx.db.reader().await?, id).await?;
    let receiver = found.ok_or_else(|| Error::not_found("receiver", id))?.receiver;
    Ok((receiver, deliveries(cx, id).await?))
}

/// The newest e-mails to a receiver, newest first.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn deliveries(cx: &Context, id: &str) -> Result<Vec<EmailDelivery>, Error> {
    let mut connection = cx.db.reader().await?;
    if store::emails::get(&mut connection, id).await?.is_none() {
        return Err(Error::not_found("receiver", id));
    }
    Ok(store::emails::newest(&mut connection, id, EMAILS_MAX).await?)
}
