//! Webhooks: domain events for other programs, signed as Standard Webhooks describes it.
//!
//! `outbox` makes deliveries of the events in the outbox, and says what to send; the server sends
//! it. `message` signs it, `target` says where it may be sent, `gate` asks for rollouts.

mod gate;
mod message;
mod outbox;
mod secret;
mod target;

pub(crate) use self::gate::{check_gate, question};
pub use self::message::{Answer, Message};
pub use self::outbox::{LOST_S, Outgoing, answered, fan_out, ids, next};
pub use self::target::{check, may_reach};

use crate::accounts::actor::Actor;
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::{
    CreateWebhook, CreatedWebhook, DELIVERIES_MAX, Delivery, EVENTS, TEST_EVENT, WEBHOOKS_MAX,
    Webhook,
};
use fleeti_store as store;

/// All webhooks.
pub async fn list(cx: &Context) -> Result<Vec<Webhook>, Error> {
    let all = store::webhooks::all(&mut cx.db.reader().await?).await?;
    Ok(all.into_iter().map(|row| row.webhook).collect())
}

/// All webhooks, each with its newest delivery.
pub async fn with_newest(cx: &Context) -> Result<Vec<(Webhook, Option<Delivery>)>, Error> {
    let mut connection = cx.db.reader().await?;
    let mut all = Vec::new();
    for row in store::webhooks::all(&mut connection).await? {
        let newest = store::webhooks::deliveries(&mut connection, &row.webhook.id, 1).await?;
        all.push((row.webhook, newest.into_iter().next()));
    }
    Ok(all)
}

/// A webhook with its newest deliveries, newest first.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<(Webhook, Vec<Delivery>), Error> {
    let all = store::webhooks::all(&mut cx.db.reader().await?).await?;
    let found = all.into_iter().find(|row| row.webhook.id == id);
    let webhook = found.ok_or_else(|| Error::not_found("webhook", id))?.webhook;
    Ok((webhook, deliveries(cx, id).await?))
}

/// Adds a webhook. Only the return value contains its secret.
///
/// # Errors
/// [`Code::Invalid`]; [`Code::Conflict`] for too many webhooks.
pub async fn add(
    cx: &Context,
    by: &Actor,
    request: &CreateWebhook,
) -> Result<CreatedWebhook, Error> {
    let url = target::check(&request.url, cx.settings.private_webhooks)?;
    if request.events.is_empty() {
        return Err(Error::new(Code::Invalid, "events: must not be empty"));
    }
    if let Some(unknown) = request.events.iter().find(|e| !EVENTS.contains(&e.as_str())) {
        let text = format!("events: {unknown:?} is not an event: expected {}", EVENTS.join(", "));
        return Err(Error::new(Code::Invalid, text));
    }
    let mut events = request.events.clone();
    events.sort();
    events.dedup();
    let webhook =
        Webhook { id: new_id("hook"), url: url.to_string(), events, created_s: cx.now_s() };
    let secret = secret::new();
    let mut tx = cx.db.write().await?;
    if store::webhooks::all(&mut tx).await?.len() >= WEBHOOKS_MAX {
        let text = format!("there are already {WEBHOOKS_MAX} webhooks");
        return Err(Error::new(Code::Conflict, text).hint("remove one that is not needed"));
    }
    store::webhooks::insert(&mut tx, &webhook, &secret::seal(cx, &webhook, &secret)?).await?;
    let host = url.host_str().unwrap_or_default();
    let what = format!("{} to {host}: {}", webhook.id, webhook.events.join(" "));
    cx.audit(&mut tx, by.act("webhook.add", what)).await?;
    tx.commit().await?;
    Ok(CreatedWebhook { webhook, secret: Secret::new(secret::shown(&secret)) })
}

/// Removes a webhook with its deliveries.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::webhooks::remove(&mut tx, id).await? {
        return Err(Error::not_found("webhook", id));
    }
    cx.audit(&mut tx, by.act("webhook.remove", id)).await?;
    Ok(tx.commit().await?)
}

async fn existing(connection: &mut store::Connection, id: &str) -> Result<(), Error> {
    let all = store::webhooks::all(connection).await?;
    let found = all.iter().any(|row| row.webhook.id == id);
    found.then_some(()).ok_or_else(|| Error::not_found("webhook", id))
}

/// Sends a test event to a webhook.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn test(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    existing(&mut tx, id).await?;
    let body = serde_json::json!({ "webhook": id, "by": by.account() }).to_string();
    store::domain_events::insert(&mut tx, cx.now_s(), &[(TEST_EVENT, body)]).await?;
    cx.audit(&mut tx, by.act("webhook.test", id)).await?;
    Ok(tx.commit().await?)
}

/// The newest deliveries of a webhook, newest first.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn deliveries(cx: &Context, id: &str) -> Result<Vec<Delivery>, Error> {
    let mut connection = cx.db.reader().await?;
    existing(&mut connection, id).await?;
    Ok(store::webhooks::deliveries(&mut connection, id, DELIVERIES_MAX).await?)
}
