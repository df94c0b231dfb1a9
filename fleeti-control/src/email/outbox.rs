//! From the outbox of domain events to e-mails, and their results. The server sends them.

use super::message::{self, Text};
use super::seal;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use fleeti_core::wire::alerts::AlertMessage;
use fleeti_core::wire::email::{EmailAddress, EmailReceiver, TEST_EVENT};
use fleeti_core::wire::webhook::{DeliveryStatus, delay_s};
use fleeti_store::emails::{Email, ReceiverRow, email_id};
use fleeti_store::webhooks::Answered;
use fleeti_store::{self as store, domain_events::Record};
use serde_json::Value;

/// Maximum number of events that are looked at in one transaction.
const CHUNK: u32 = 500;
/// A receiver gets no other e-mails while so many wait: their events stay in the outbox.
const WAITING_MAX: u64 = 100;
/// Number of e-mails to a receiver that are kept.
const KEPT: u32 = 200;
/// Events that are older, seconds, are told nobody: e-mail was not configured, or did not work.
const STALE_S: u64 = 2 * 86_400;
/// An attempt whose result is not known after this time, seconds, is repeated: the server was killed.
pub const LOST_S: u64 = 600;
/// Why an e-mail to a disabled receiver is not sent.
pub(super) const DISABLED: &str = "the receiver was disabled";

/// An e-mail to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Id of the receiver.
    pub receiver: String,
    /// Number of the event.
    pub number: i64,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Where it is sent.
    pub to: EmailAddress,
    /// The part of its `Message-ID` before the `@`, the same for each attempt.
    pub id: String,
    /// Its `Date`: when the event happened, Unix seconds.
    pub at_s: u64,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

/// The result of an attempt: the answer of the relay, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The relay accepted the e-mail.
    Accepted(String),
    /// The relay refused the receiver or the e-mail for good.
    Refused(String),
    /// Anything else. Another attempt may succeed.
    Failed(String),
}

/// The e-mail of an event to a receiver; `None` if it does not get it.
fn email(receiver: &EmailReceiver, record: &Record, origin: Option<&str>) -> Option<Text> {
    let ended = match record.kind.as_str() {
        "alerts.raised" => false,
        "alerts.resolved" => true,
        TEST_EVENT => {
            let body: Value = strict::from_slice(record.body.as_bytes()).ok()?;
            let is_its_own = receiver.enabled && body["receiver"] == receiver.id;
            let by = body["by"].as_str().unwrap_or_default();
            return is_its_own.then(|| message::of_test(by));
        }
        _ => return None,
    };
    // A kind of a newer server cannot be read; it must not keep what follows from being told.
    let told: AlertMessage = strict::from_slice(record.body.as_bytes()).ok()?;
    let wants = receiver.wants(told.fleet.as_ref(), told.severity);
    wants.then(|| message::of_alerts(&told, ended, origin))
}

/// Makes e-mails of new events. Returns whether there are more of them.
///
/// # Errors
/// When the database does not answer.
pub async fn fan_out(cx: &Context) -> Result<bool, Error> {
    let mut connection = cx.db.reader().await?;
    let mut ready = store::emails::all(&mut connection).await?;
    for n in (0..ready.len()).rev() {
        if store::emails::waiting(&mut connection, &ready[n].receiver.id).await? >= WAITING_MAX {
            ready.remove(n);
        }
    }
    drop(connection);
    let Some(from) = ready.iter().map(|row| row.position).min() else { return Ok(false) };
    let records = store::domain_events::after(cx.db.pool(), from, CHUNK).await?;
    let Some(last) = records.last().map(|record| record.number) else { return Ok(false) };
    let mut tx = cx.db.write().await?;
    for row in ready.iter().filter(|row| row.position < last) {
        fan_out_to(cx, &mut tx, row, &records).await?;
        store::emails::set_position(&mut tx, &row.receiver.id, last).await?;
    }
    tx.commit().await?;
    Ok(records.len() == CHUNK as usize)
}

/// Makes e-mails to one receiver.
async fn fan_out_to(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    row: &ReceiverRow,
    records: &[Record],
) -> Result<(), Error> {
    let now_s = cx.now_s();
    let origin = cx.settings.public_url.as_ref().map(|url| url.party().origin.as_str());
    let (id, mut has_new) = (&row.receiver.id, false);
    for record in records.iter().filter(|record| record.number > row.position) {
        if record.at_s.saturating_add(STALE_S) < now_s {
            continue;
        }
        let Some(Text { subject, mut body }) = email(&row.receiver, record, origin) else {
            continue;
        };
        message::sign(&mut body, id);
        let email = Email { number: record.number, at_s: record.at_s, subject, body };
        store::emails::add(tx, id, &email, now_s).await?;
        has_new = true;
    }
    if has_new {
        store::emails::prune(tx, id, KEPT).await?;
    }
    Ok(())
}

/// The receivers with an e-mail that is due.
///
/// # Errors
/// When the database does not answer.
pub async fn due(cx: &Context) -> Result<Vec<String>, Error> {
    Ok(store::emails::due(&mut cx.db.reader().await?, cx.now_s()).await?)
}

/// Takes the next attempt to a receiver that is due. It counts from now on, whatever becomes of it.
///
/// # Errors
/// When the database does not answer.
pub async fn next(cx: &Context, receiver: &str) -> Result<Option<Outgoing>, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let Some(row) = store::emails::get(&mut tx, receiver).await? else {
        // It was removed while its e-mails were made.
        store::emails::remove(&mut tx, receiver).await?;
        tx.commit().await?;
        return Ok(None);
    };
    let why = match () {
        () if !row.receiver.enabled => Some(DISABLED),
        () if row.seal != seal::of(cx, &row.receiver)? => Some(
            "the receiver was changed by another program, or the key of the server was replaced \
             (DIR/accounts.key); remove it, and add it again",
        ),
        () => None,
    };
    if let Some(why) = why {
        tracing::warn!("e-mails to {receiver} are not sent: {why}");
        store::emails::give_up(&mut tx, receiver, why, now_s).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let taken = store::emails::take(&mut tx, receiver, now_s, now_s + LOST_S).await?;
    tx.commit().await?;
    Ok(taken.map(|(Email { number, at_s, subject, body }, attempt)| Outgoing {
        receiver: receiver.to_owned(),
        number,
        attempt,
        to: row.receiver.address,
        id: email_id(receiver, number, at_s),
        at_s,
        subject,
        body,
    }))
}

/// Stores why the relay cannot be reached with the e-mails that are due. They count no attempt, and
/// wait until it can be, but no longer than two days.
///
/// # Errors
/// When the database does not answer.
pub async fn unreachable(cx: &Context, why: &str) -> Result<(), Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let before_s = now_s.saturating_sub(STALE_S);
    let ended = store::emails::unreachable(&mut tx, &short(why), now_s, before_s).await?;
    tx.commit().await?;
    if ended > 0 {
        tracing::warn!("{ended} e-mails became too old before their relay could be reached");
    }
    Ok(())
}

/// What a relay said, as it is kept.
fn short(text: &str) -> String {
    Foreign::log(text).to_string().chars().take(200).collect()
}

/// Stores what became of an attempt.
///
/// # Errors
/// When the database does not answer.
pub async fn answered(cx: &Context, sent: &Outgoing, answer: &Answer) -> Result<(), Error> {
    let now_s = cx.now_s();
    let again_s = delay_s(sent.attempt).map(|delay_s| now_s + delay_s);
    let (status, next_s, text) = match (answer, again_s) {
        (Answer::Accepted(text), _) => (DeliveryStatus::Delivered, None, text),
        (Answer::Failed(text), Some(again_s)) => (DeliveryStatus::Waiting, Some(again_s), text),
        (Answer::Refused(text), _) | (Answer::Failed(text), None) => {
            (DeliveryStatus::Failed, None, text)
        }
    };
    let text = short(text);
    if status == DeliveryStatus::Failed {
        tracing::warn!("e-mail {} was not sent: {text}", sent.id);
    }
    let answered = Answered { status, next_s, answer: text };
    let mut tx = cx.db.write().await?;
    store::emails::answered(&mut tx, (&sent.receiver, sent.number), &answered, now_s).await?;
    Ok(tx.commit().await?)
}
