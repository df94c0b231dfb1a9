//! From the outbox of domain events to deliveries, and their results. The server sends them.

use super::message::{Answer, Message, signed};
use crate::clock::instant;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::webhook::{DeliveryStatus, TEST_EVENT, Webhook, delay_s};
use fleeti_store::webhooks::{Answered, Event, WebhookRow};
use fleeti_store::{self as store, domain_events::Record};
use serde_json::{Value, json};

/// Maximum number of events that are looked at for a webhook in one transaction.
const CHUNK: u32 = 500;
/// A webhook gets no other events while so many wait: they stay in the outbox.
const WAITING_MAX: u64 = 1000;
/// Number of deliveries of a webhook that are kept.
const KEPT: u32 = 1000;
/// An attempt whose result is not known after this time, seconds, is repeated: the server was killed.
pub const LOST_S: u64 = 60;

/// A request to send.
pub struct Outgoing {
    /// The webhook.
    pub webhook: String,
    /// Number of the event.
    pub number: i64,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// The message.
    pub message: Message,
}

fn wants(webhook: &Webhook, record: &Record) -> bool {
    if record.kind == TEST_EVENT {
        let body: Value = serde_json::from_str(&record.body).unwrap_or_default();
        return body["webhook"] == webhook.id;
    }
    webhook.events.contains(&record.kind)
}

fn event(record: Record) -> Result<Event, Error> {
    let data: Value = serde_json::from_str(&record.body)?;
    let body = json!({ "type": record.kind, "timestamp": instant(record.at_s), "data": data });
    let Record { number, at_s, kind, .. } = record;
    Ok(Event { number, at_s, kind, body: body.to_string() })
}

/// Makes deliveries of new events. Returns whether a webhook has more of them.
///
/// # Errors
/// When the database does not answer.
pub async fn fan_out(cx: &Context) -> Result<bool, Error> {
    let (all, mut has_more) = (store::webhooks::all(&mut cx.db.reader().await?).await?, false);
    for WebhookRow { webhook, position, .. } in all {
        let records = store::domain_events::after(cx.db.pool(), position, CHUNK).await?;
        let Some(last) = records.last().map(|record| record.number) else { continue };
        let mut tx = cx.db.write().await?;
        if store::webhooks::waiting(&mut tx, &webhook.id).await? >= WAITING_MAX {
            continue;
        }
        has_more |= records.len() == CHUNK as usize;
        for record in records.into_iter().filter(|record| wants(&webhook, record)) {
            store::webhooks::add_delivery(&mut tx, &webhook.id, &event(record)?, cx.now_s())
                .await?;
        }
        store::webhooks::set_position(&mut tx, &webhook.id, last).await?;
        store::webhooks::prune(&mut tx, &webhook.id, KEPT).await?;
        tx.commit().await?;
    }
    Ok(has_more)
}

/// The ids of all webhooks.
///
/// # Errors
/// When the database does not answer.
pub async fn ids(cx: &Context) -> Result<Vec<String>, Error> {
    let all = store::webhooks::all(&mut cx.db.reader().await?).await?;
    Ok(all.into_iter().map(|row| row.webhook.id).collect())
}

/// Takes the next attempt of a webhook that is due. It counts from now on, whatever becomes of it.
///
/// # Errors
/// When the database does not answer.
pub async fn next(cx: &Context, webhook: &str) -> Result<Option<Outgoing>, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let all = store::webhooks::all(&mut tx).await?;
    let Some(row) = all.into_iter().find(|row| row.webhook.id == webhook) else {
        return Ok(None);
    };
    let taken = store::webhooks::take(&mut tx, webhook, now_s, now_s + LOST_S).await?;
    let Some(due) = taken else { return Ok(None) };
    let id = store::webhooks::delivery_id(webhook, due.event.number);
    let message = signed(cx, &row, (id, due.event.body));
    if let Err(e) = &message {
        let answered =
            Answered { status: DeliveryStatus::Failed, next_s: None, answer: e.to_string() };
        let which = (webhook, due.event.number);
        store::webhooks::answered(&mut tx, which, &answered, now_s).await?;
    }
    tx.commit().await?;
    let Ok(message) = message else { return Ok(None) };
    Ok(Some(Outgoing {
        webhook: webhook.to_owned(),
        number: due.event.number,
        attempt: due.attempts,
        message,
    }))
}

/// Stores what a receiver answered. Returns whether it accepted the event.
///
/// # Errors
/// When the database does not answer.
pub async fn answered(cx: &Context, sent: &Outgoing, answer: &Answer) -> Result<bool, Error> {
    let now_s = cx.now_s();
    let text: String = Foreign::log(&answer.text).to_string().chars().take(200).collect();
    let (accepted, gone) = match answer.status {
        Some(status) => ((200..300).contains(&status), status == 410),
        None => (false, false),
    };
    let next_s = delay_s(sent.attempt).map(|delay_s| now_s + delay_s);
    let next_s = next_s.filter(|_| !accepted && !gone);
    let status = match (accepted, next_s) {
        (true, _) => DeliveryStatus::Delivered,
        (false, Some(_)) => DeliveryStatus::Waiting,
        (false, None) => DeliveryStatus::Failed,
    };
    let status_text = answer.status.map_or_else(String::new, |status| format!("{status} "));
    let answered =
        Answered { status, next_s, answer: format!("{status_text}{text}").trim().to_owned() };
    let mut tx = cx.db.write().await?;
    store::webhooks::answered(&mut tx, (&sent.webhook, sent.number), &answered, now_s).await?;
    tx.commit().await?;
    Ok(accepted)
}
