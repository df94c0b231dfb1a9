//! Receivers of e-mail about alerts, and e-mails on their way to them.

use crate::webhooks::Answered;
use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::wire::email::{EmailDelivery, EmailReceiver};
use fleeti_core::wire::webhook::DeliveryStatus;

/// A receiver as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverRow {
    /// The receiver.
    pub receiver: EmailReceiver,
    /// The last event of the outbox that was looked at for it.
    pub position: i64,
    /// A MAC over what it is sent, and where.
    pub seal: String,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: String,
    address: String,
    fleets: String,
    severity: String,
    enabled: i64,
    created_s: i64,
    position: i64,
    seal: String,
}

impl TryFrom<Columns> for ReceiverRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let receiver = EmailReceiver {
            id: row.id,
            address: row.address.parse().map_err(StoreError::value)?,
            fleets: serde_json::from_str(&row.fleets)?,
            severity: row.severity.parse().map_err(StoreError::value)?,
            enabled: row.enabled != 0,
            created_s: from_seconds(row.created_s),
        };
        Ok(Self { receiver, position: row.position, seal: row.seal })
    }
}

/// All receivers, oldest first.
pub async fn all(connection: &mut Connection) -> Result<Vec<ReceiverRow>, StoreError> {
    let sql = "SELECT id, address, fleets, severity, enabled, created_s, position, seal \
               FROM email_receivers ORDER BY id";
    let rows: Vec<Columns> = sql::query_as(sql).fetch_all(connection).await?;
    rows.into_iter().map(ReceiverRow::try_from).collect()
}

/// A receiver.
pub async fn get(connection: &mut Connection, id: &str) -> Result<Option<ReceiverRow>, StoreError> {
    let sql = "SELECT id, address, fleets, severity, enabled, created_s, position, seal \
               FROM email_receivers WHERE id = $1";
    let row: Option<Columns> = sql::query_as(sql).bind(id).fetch_optional(connection).await?;
    row.map(ReceiverRow::try_from).transpose()
}

/// Adds a receiver, which gets what happens from now on.
pub async fn insert(
    tx: &mut Tx<'_>,
    receiver: &EmailReceiver,
    seal: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO email_receivers (id, address, fleets, severity, enabled, created_s, position, seal) \
               VALUES ($1, $2, $3, $4, $5, $6, (SELECT COALESCE(MAX(number), 0) FROM domain_events), $7)";
    sql::query(sql)
        .bind(&receiver.id)
        .bind(receiver.address.as_str())
        .bind(serde_json::to_string(&receiver.fleets)?)
        .bind(receiver.severity.as_str())
        .bind(i64::from(receiver.enabled))
        .bind(seconds(receiver.created_s))
        .bind(seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a receiver with its e-mails. Returns whether there was one.
pub async fn remove(tx: &mut Tx<'_>, id: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM email_deliveries WHERE receiver = $1";
    sql::query(sql).bind(id).execute(&mut **tx).await?;
    let sql = "DELETE FROM email_receivers WHERE id = $1";
    Ok(sql::query(sql).bind(id).execute(&mut **tx).await?.rows_affected() == 1)
}

/// Sets whether a receiver gets e-mail. Returns whether there was one.
pub async fn set_enabled(tx: &mut Tx<'_>, id: &str, enabled: bool) -> Result<bool, StoreError> {
    let sql = "UPDATE email_receivers SET enabled = $2 WHERE id = $1";
    let done = sql::query(sql).bind(id).bind(i64::from(enabled)).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Sets the last event that was looked at for a receiver.
pub async fn set_position(tx: &mut Tx<'_>, id: &str, position: i64) -> Result<(), StoreError> {
    let sql = "UPDATE email_receivers SET position = $2 WHERE id = $1";
    sql::query(sql).bind(id).bind(position).execute(&mut **tx).await?;
    Ok(())
}

/// An e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// Number of its event in the outbox.
    pub number: i64,
    /// When that happened, Unix seconds.
    pub at_s: u64,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

/// Adds an e-mail that is due now. One that is there already stays.
pub async fn add(
    tx: &mut Tx<'_>,
    receiver: &str,
    email: &Email,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO email_deliveries (receiver, number, at_s, attempts, next_s, status, answer, subject, body) \
               VALUES ($1, $2, $3, 0, $4, 'waiting', '', $5, $6) ON CONFLICT DO NOTHING";
    sql::query(sql)
        .bind(receiver)
        .bind(email.number)
        .bind(seconds(email.at_s))
        .bind(seconds(now_s))
        .bind(&email.subject)
        .bind(&email.body)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Number of e-mails to a receiver that wait.
pub async fn waiting(connection: &mut Connection, receiver: &str) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM email_deliveries WHERE receiver = $1 AND next_s IS NOT NULL";
    let count: i64 = sql::query_scalar(sql).bind(receiver).fetch_one(connection).await?;
    Ok(from_seconds(count))
}

/// The receivers that have an e-mail that is due.
pub async fn due(connection: &mut Connection, now_s: u64) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT receiver FROM email_deliveries WHERE next_s <= $1 ORDER BY receiver";
    sql::query_scalar(sql).bind(seconds(now_s)).fetch_all(connection).await
}

/// Takes the oldest e-mail to a receiver that is due: counts the attempt, and puts the next one off
/// until `again_s`, so that it is repeated if this server ends before the answer. Returns it with its
/// attempts so far.
pub async fn take(
    tx: &mut Tx<'_>,
    receiver: &str,
    now_s: u64,
    again_s: u64,
) -> Result<Option<(Email, u32)>, StoreError> {
    let sql = "UPDATE email_deliveries SET attempts = attempts + 1, next_s = $3 WHERE receiver = $1 AND number = \
               (SELECT number FROM email_deliveries WHERE receiver = $1 AND next_s <= $2 ORDER BY number LIMIT 1) \
               RETURNING number, at_s, subject, body, attempts";
    let row: Option<(i64, i64, String, String, i64)> = sql::query_as(sql)
        .bind(receiver)
        .bind(seconds(now_s))
        .bind(seconds(again_s))
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(number, at_s, subject, body, attempts)| {
        let email = Email { number, at_s: from_seconds(at_s), subject, body };
        (email, u32::try_from(attempts).unwrap_or(u32::MAX))
    }))
}

/// Stores the result of an attempt.
pub async fn answered(
    tx: &mut Tx<'_>,
    (receiver, number): (&str, i64),
    answered: &Answered,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE email_deliveries SET status = $3, next_s = $4, answer = $5, answered_s = $6 \
               WHERE receiver = $1 AND number = $2";
    sql::query(sql)
        .bind(receiver)
        .bind(number)
        .bind(answered.status.as_str())
        .bind(answered.next_s.map(seconds))
        .bind(&answered.answer)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keeps with the e-mails that are due why they cannot be sent, and ends those of events before a time.
/// Returns the number of those that it ended.
pub async fn unreachable(
    tx: &mut Tx<'_>,
    why: &str,
    now_s: u64,
    before_s: u64,
) -> Result<u64, StoreError> {
    let sql = "UPDATE email_deliveries SET answer = $1, answered_s = $2 WHERE next_s <= $2";
    sql::query(sql).bind(why).bind(seconds(now_s)).execute(&mut **tx).await?;
    let sql = "UPDATE email_deliveries SET status = 'failed', next_s = NULL WHERE next_s <= $1 AND at_s < $2";
    let query = sql::query(sql).bind(seconds(now_s)).bind(seconds(before_s));
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

/// Ends all e-mails to a receiver that wait, with a reason.
pub async fn give_up(
    tx: &mut Tx<'_>,
    receiver: &str,
    why: &str,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE email_deliveries SET status = 'failed', next_s = NULL, answer = $2, answered_s = $3 \
               WHERE receiver = $1 AND next_s IS NOT NULL";
    sql::query(sql).bind(receiver).bind(why).bind(seconds(now_s)).execute(&mut **tx).await?;
    Ok(())
}

/// The newest e-mails to a receiver, newest first.
pub async fn newest(
    connection: &mut Connection,
    receiver: &str,
    limit: u32,
) -> Result<Vec<EmailDelivery>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        number: i64,
        at_s: i64,
        attempts: i64,
        next_s: Option<i64>,
        answered_s: Option<i64>,
        status: String,
        answer: String,
        subject: String,
    }
    let sql = "SELECT number, at_s, attempts, next_s, answered_s, status, answer, subject FROM email_deliveries \
               WHERE receiver = $1 ORDER BY number DESC LIMIT $2";
    let rows: Vec<Row> =
        sql::query_as(sql).bind(receiver).bind(i64::from(limit)).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let known = DeliveryStatus::ALL.into_iter().find(|s| s.as_str() == row.status);
            Ok(EmailDelivery {
                id: email_id(receiver, row.number, from_seconds(row.at_s)),
                subject: row.subject,
                at_s: from_seconds(row.at_s),
                status: known.ok_or_else(|| {
                    StoreError::value(format!("status of an e-mail {:?}", row.status))
                })?,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                next_s: row.next_s.map(from_seconds),
                answered_s: row.answered_s.map(from_seconds),
                answer: row.answer,
            })
        })
        .collect()
}

/// The id of an e-mail: the same for each of its attempts. The time is in it because numbers begin again
/// when an older database is restored, and mailboxes hide an e-mail whose id they know.
#[must_use]
pub fn email_id(receiver: &str, number: i64, at_s: u64) -> String {
    format!("{receiver}.{number}.{at_s}")
}

/// Deletes the oldest e-mails to a receiver that are done, beyond `kept`.
pub async fn prune(tx: &mut Tx<'_>, receiver: &str, kept: u32) -> Result<(), StoreError> {
    let sql = "DELETE FROM email_deliveries WHERE receiver = $1 AND next_s IS NULL AND number <= \
               (SELECT number FROM email_deliveries WHERE receiver = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
    sql::query(sql).bind(receiver).bind(i64::from(kept)).execute(&mut **tx).await?;
    Ok(())
}
