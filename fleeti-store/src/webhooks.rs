//! Webhooks, and events on their way to them.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::wire::webhook::{Delivery, DeliveryStatus, Webhook};

/// A webhook as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// The webhook.
    pub webhook: Webhook,
    /// Its secret, sealed.
    pub secret: String,
    /// The last event of the outbox that was looked at for it.
    pub position: i64,
}

type Columns = (String, String, String, String, i64, i64);

/// All webhooks, oldest first.
pub async fn all(connection: &mut Connection) -> Result<Vec<WebhookRow>, StoreError> {
    let sql = "SELECT id, url, kinds, secret, created_s, position FROM webhooks ORDER BY id";
    let rows: Vec<Columns> = sql::query_as(sql).fetch_all(connection).await?;
    rows.into_iter()
        .map(|(id, url, events, secret, created_s, position)| {
            let events = serde_json::from_str(&events)?;
            let webhook = Webhook { id, url, events, created_s: from_seconds(created_s) };
            Ok(WebhookRow { webhook, secret, position })
        })
        .collect()
}

/// Adds a webhook, which gets what happens from now on.
pub async fn insert(tx: &mut Tx<'_>, webhook: &Webhook, secret: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO webhooks (id, url, kinds, secret, created_s, position) \
               VALUES ($1, $2, $3, $4, $5, (SELECT COALESCE(MAX(number), 0) FROM domain_events))";
    sql::query(sql)
        .bind(&webhook.id)
        .bind(&webhook.url)
        .bind(serde_json::to_string(&webhook.events)?)
        .bind(secret)
        .bind(seconds(webhook.created_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a webhook with its deliveries. Returns whether there was one.
pub async fn remove(tx: &mut Tx<'_>, id: &str) -> Result<bool, StoreError> {
    sql::query("DELETE FROM webhook_deliveries WHERE webhook = $1")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    let sql = "DELETE FROM webhooks WHERE id = $1";
    Ok(sql::query(sql).bind(id).execute(&mut **tx).await?.rows_affected() == 1)
}

/// Sets the last event that was looked at for a webhook.
pub async fn set_position(tx: &mut Tx<'_>, webhook: &str, position: i64) -> Result<(), StoreError> {
    let sql = "UPDATE webhooks SET position = $2 WHERE id = $1";
    sql::query(sql).bind(webhook).bind(position).execute(&mut **tx).await?;
    Ok(())
}

/// An event for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in the outbox.
    pub number: i64,
    /// When it happened, Unix seconds.
    pub at_s: u64,
    /// Its kind.
    pub kind: String,
    /// The body that is sent.
    pub body: String,
}

/// Adds a delivery that is due now. One that is there already stays.
pub async fn add_delivery(
    tx: &mut Tx<'_>,
    webhook: &str,
    event: &Event,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO webhook_deliveries (webhook, number, at_s, kind, attempts, next_s, status, answer, body) \
               VALUES ($1, $2, $3, $4, 0, $5, 'waiting', '', $6) ON CONFLICT DO NOTHING";
    sql::query(sql)
        .bind(webhook)
        .bind(event.number)
        .bind(seconds(event.at_s))
        .bind(&event.kind)
        .bind(seconds(now_s))
        .bind(&event.body)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Number of deliveries of a webhook that wait.
pub async fn waiting(connection: &mut Connection, webhook: &str) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM webhook_deliveries WHERE webhook = $1 AND next_s IS NOT NULL";
    let count: i64 = sql::query_scalar(sql).bind(webhook).fetch_one(connection).await?;
    Ok(from_seconds(count))
}

/// A delivery whose attempt is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The event.
    pub event: Event,
    /// Number of attempts so far.
    pub attempts: u32,
}

/// Takes the oldest delivery of a webhook that is due: counts the attempt, and puts the next one off
/// until `again_s`, so that it is repeated if this server ends before the answer.
pub async fn take(
    tx: &mut Tx<'_>,
    webhook: &str,
    now_s: u64,
    again_s: u64,
) -> Result<Option<Due>, StoreError> {
    let sql = "UPDATE webhook_deliveries SET attempts = attempts + 1, next_s = $3 WHERE webhook = $1 AND number = \
               (SELECT number FROM webhook_deliveries WHERE webhook = $1 AND next_s <= $2 ORDER BY number LIMIT 1) \
               RETURNING number, at_s, kind, body, attempts";
    let row: Option<(i64, i64, String, String, i64)> = sql::query_as(sql)
        .bind(webhook)
        .bind(seconds(now_s))
        .bind(seconds(again_s))
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(number, at_s, kind, body, attempts)| Due {
        event: Event { number, at_s: from_seconds(at_s), kind, body },
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    }))
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// State of the delivery.
    pub status: DeliveryStatus,
    /// When the next attempt is due; `None` after the last attempt.
    pub next_s: Option<u64>,
    /// The answer, in words.
    pub answer: String,
}

/// Stores the result of an attempt.
pub async fn answered(
    tx: &mut Tx<'_>,
    (webhook, number): (&str, i64),
    answered: &Answered,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_deliveries SET status = $3, next_s = $4, answer = $5, answered_s = $6 WHERE webhook = $1 AND number = $2";
    sql::query(sql)
        .bind(webhook)
        .bind(number)
        .bind(answered.status.as_str())
        .bind(answered.next_s.map(seconds))
        .bind(&answered.answer)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The newest deliveries of a webhook, newest first.
pub async fn deliveries(
    connection: &mut Connection,
    webhook: &str,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        number: i64,
        at_s: i64,
        kind: String,
        attempts: i64,
        next_s: Option<i64>,
        answered_s: Option<i64>,
        status: String,
        answer: String,
    }
    let sql = "SELECT number, at_s, kind, attempts, next_s, answered_s, status, answer FROM webhook_deliveries \
               WHERE webhook = $1 ORDER BY number DESC LIMIT $2";
    let rows: Vec<Row> =
        sql::query_as(sql).bind(webhook).bind(i64::from(limit)).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let known = DeliveryStatus::ALL.into_iter().find(|s| s.as_str() == row.status);
            Ok(Delivery {
                id: delivery_id(webhook, row.number),
                event: row.kind,
                at_s: from_seconds(row.at_s),
                status: known.ok_or_else(|| {
                    StoreError::value(format!("status of a delivery {:?}", row.status))
                })?,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                next_s: row.next_s.map(from_seconds),
                answered_s: row.answered_s.map(from_seconds),
                answer: row.answer,
            })
        })
        .collect()
}

/// The id of a delivery: the same for each of its attempts.
#[must_use]
pub fn delivery_id(webhook: &str, number: i64) -> String {
    format!("{webhook}.{number}")
}

/// Deletes the oldest deliveries of a webhook that are done, beyond `kept`.
pub async fn prune(tx: &mut Tx<'_>, webhook: &str, kept: u32) -> Result<(), StoreError> {
    let sql = "DELETE FROM webhook_deliveries WHERE webhook = $1 AND next_s IS NULL AND number <= \
               (SELECT number FROM webhook_deliveries WHERE webhook = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
    sql::query(sql).bind(webhook).bind(i64::from(kept)).execute(&mut **tx).await?;
    Ok(())
}
