//! The audit log: moves acts from the outbox to the signing service, which writes the log, and
//! reads entries, checkpoints and proofs from there.

pub(crate) mod state;

use crate::context::Context;
use crate::error::Error;
use crate::signing;
use fleeti_core::wire::audit::{AuditConsistency, AuditEntries, AuditProof};
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::{Act, Entry, fitting};
use fleeti_signer_client::wire::{ENTRIES_MAX, Request, Response};
use fleeti_store as store;
use fleeti_store::audit::WaitingAct;
use futures::future::join_all;
use std::collections::HashSet;

/// Removes acts from the outbox that are in the log already (a killed server may have entered
/// them), then enters the rest. Call this at startup, before anything else runs.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn settle(cx: &Context) -> Result<(), Error> {
    let size = cx.pki.log.verify(&checkpoint(cx).await?)?.checkpoint().size;
    let last = entries(cx, size.saturating_sub(u64::from(store::audit::AT_ONCE) * 2), ENTRIES_MAX)
        .await?
        .lines;
    let known: HashSet<String> =
        last.iter().filter_map(|l| Entry::parse(l.as_bytes()).ok()?.act.id).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let mut tx = cx.db.write().await?;
    store::audit::remove(&mut tx, &known).await?;
    tx.commit().await?;
    loop {
        match enter_waiting(cx).await {
            Ok(true) => {}
            Ok(false) => break,
            // There are more acts than the signing service accepts in a minute: a background task
            // enters the rest.
            Err(e) if e.code() == Code::Unavailable && checkpoint(cx).await.is_ok() => {
                tracing::error!("acts wait for the audit log: {}", e.for_log());
                cx.acts.added();
                break;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn act(waiting: WaitingAct) -> Act {
    let WaitingAct { id, actor, action, subject } = waiting;
    Act { id: Some(id), ..Act::new(actor, action, subject) }
}

/// Returns when there may be acts to enter.
pub(crate) async fn wait_for_acts(cx: &Context) {
    cx.acts.wait().await;
}

/// Enters the oldest acts. Returns `false` if there were none.
pub(crate) async fn enter_waiting(cx: &Context) -> Result<bool, Error> {
    // One at a time: two readers would enter the same acts twice.
    let _alone = cx.acts.entering.lock().await;
    // With the write lock, so that all acts with lower ids are committed.
    let mut tx = cx.db.write().await?;
    let waiting = store::audit::waiting(&mut tx).await?;
    let acts: Vec<Act> = waiting.into_iter().map(act).collect();
    drop(tx);
    if acts.is_empty() {
        return Ok(false);
    }
    // Sent in order, answered together. Acts that were entered are not entered again, even if
    // others fail.
    let entered = join_all(acts.iter().map(|act| enter_or_say(cx, act))).await;
    let ids: Vec<_> = acts
        .iter()
        .zip(&entered)
        .filter(|(_, e)| e.is_ok())
        .filter_map(|(act, _)| act.id.as_deref())
        .collect();
    let mut tx = cx.db.write().await?;
    store::audit::remove(&mut tx, &ids).await?;
    tx.commit().await?;
    entered.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(true)
}

/// Audit action: the signing service refused an act. The act leaves the outbox, and this entry
/// records it.
const REFUSED: &str = "audit.refused";

async fn enter_or_say(cx: &Context, act: &Act) -> Result<u64, Error> {
    match enter(cx, act.clone()).await {
        Err(e) if e.code() == Code::Conflict => {
            tracing::error!(
                "{} {} {} is not in the audit log: {e}",
                act.actor,
                act.action,
                act.subject
            );
            let said = format!("{} {} {}: {e}", act.actor, act.action, act.subject);
            enter(cx, Act { id: act.id.clone(), ..Act::new("server", REFUSED, fitting(&said)) })
                .await
        }
        other => other,
    }
}

/// Enters an act. Returns the number of its entry.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn enter(cx: &Context, act: Act) -> Result<u64, Error> {
    match signing::ask(&cx.signer, Request::Record { act }).await? {
        Response::Recorded { number } => Ok(number),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

/// The current checkpoint.
///
/// # Errors
/// When the signing service does not answer.
pub async fn checkpoint(cx: &Context) -> Result<String, Error> {
    match signing::ask(&cx.signer, Request::Checkpoint).await? {
        Response::Checkpoint { note } => Ok(note),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

/// Entries, exactly as in the log.
///
/// # Errors
/// When the signing service does not answer.
pub async fn entries(cx: &Context, from: u64, limit: u64) -> Result<AuditEntries, Error> {
    match signing::ask(&cx.signer, Request::Entries { from, limit }).await? {
        Response::Entries { lines } => Ok(AuditEntries { lines }),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

/// A page of entries, up to `limit` or the maximum.
///
/// # Errors
/// [`Code::Invalid`] for an invalid limit; when the signing service does not answer.
pub async fn page(cx: &Context, from: u64, limit: Option<u64>) -> Result<AuditEntries, Error> {
    let limit = limit.unwrap_or(ENTRIES_MAX);
    if !(1..=ENTRIES_MAX).contains(&limit) {
        return Err(Error::new(
            Code::Invalid,
            format!("limit is {limit}, must be 1 to {ENTRIES_MAX}"),
        ));
    }
    if i64::try_from(from).is_err() {
        return Err(Error::new(
            Code::Invalid,
            format!("from is {from}, which is beyond the end of any log"),
        ));
    }
    entries(cx, from, limit).await
}

/// A part of the log, with its last checkpoint.
pub struct Excerpt {
    /// Number of entries in the whole log.
    pub size: u64,
    /// Time of the checkpoint, Unix seconds.
    pub stated_s: u64,
    /// Oldest first.
    pub entries: Vec<Entry>,
}

/// The last entries before a number, up to `limit`.
///
/// # Errors
/// When the signing service does not answer, or its response is invalid.
pub async fn excerpt(cx: &Context, before: Option<u64>, limit: u64) -> Result<Excerpt, Error> {
    let stated = cx.pki.log.verify(&checkpoint(cx).await?)?;
    let size = stated.checkpoint().size;
    let end = before.unwrap_or(size).min(size);
    let from = end.saturating_sub(limit);
    let lines = entries(cx, from, end - from).await?.lines;
    let entries = lines.iter().map(|l| Entry::parse(l.as_bytes())).collect::<Result<_, _>>()?;
    Ok(Excerpt { size, stated_s: stated.stated_s(), entries })
}

/// An entry, with its inclusion proof.
///
/// # Errors
/// [`Code::NotFound`]; when the signing service does not answer.
pub async fn proof(cx: &Context, number: u64) -> Result<AuditProof, Error> {
    let missing = |e: Error| {
        if e.code() == Code::Conflict {
            Error::not_found("audit entry", &number.to_string())
        } else {
            e
        }
    };
    match signing::ask(&cx.signer, Request::Prove { number }).await.map_err(missing)? {
        Response::Proof { proof } => Ok(proof),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

/// The consistency proof between two sizes of the log.
///
/// # Errors
/// [`Code::Invalid`] for a size beyond the log's; when the signing service does not answer.
pub async fn consistency(cx: &Context, old: u64, new: u64) -> Result<AuditConsistency, Error> {
    let invalid = |e: Error| {
        if e.code() == Code::Conflict {
            Error::new(Code::Invalid, format!("old {old}, new {new}: {e}"))
        } else {
            e
        }
    };
    match signing::ask(&cx.signer, Request::Consistency { old, new }).await.map_err(invalid)? {
        Response::Consistency { hashes } => Ok(AuditConsistency { hashes }),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}
