//! The audit log: moves acts from the outbox to the signing service, which writes the log, and
//! reads entries, checkpoints and proofs from there.

use crate::app::{App, AppRef};
use crate::error::AppError;
use crate::service::signing;
use fleeti_core::wire::audit::{AuditConsistency, AuditEntries, AuditProof};
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::{Act, Entry, fitting};
use fleeti_signer::wire::{ENTRIES_MAX, Request, Response};
use fleeti_store as store;
use fleeti_store::audit::WaitingAct;
use futures::future::join_all;
use std::collections::HashSet;
use std::time::Duration;

/// Delays between attempts to reach the signing service: first, and maximum.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Removes acts from the outbox that are in the log already (a killed server may have entered
/// them), then enters the rest. Call this at startup, before anything else runs.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn settle(app: &App) -> Result<(), AppError> {
    let size = app.pki.log.verify(&checkpoint(app).await?)?.checkpoint().size;
    let last = entries(app, size.saturating_sub(u64::from(store::audit::AT_ONCE) * 2), ENTRIES_MAX)
        .await?
        .lines;
    let known: HashSet<String> =
        last.iter().filter_map(|l| Entry::parse(l.as_bytes()).ok()?.act.id).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let mut tx = app.db.write().await?;
    store::audit::remove(&mut tx, &known).await?;
    tx.commit().await?;
    loop {
        match enter_waiting(app).await {
            Ok(true) => {}
            Ok(false) => break,
            // There are more acts than the signing service accepts in a minute: a background task
            // enters the rest.
            Err(e) if e.code() == Code::Unavailable && checkpoint(app).await.is_ok() => {
                tracing::error!("acts wait for the audit log: {e}");
                app.audit_waits.notify_one();
                break;
            }
            Err(e) => return Err(e),
        }
    }
    super::releases::enter_in_log(app).await
}

/// Enters acts until the task is aborted. First calls [`settle`], if that failed at startup because
/// the signing service was away.
pub async fn carry(app: AppRef, mut is_settled: bool) {
    while !is_settled {
        tokio::time::sleep(RETRY_MAX).await;
        match settle(&app).await {
            Ok(()) => is_settled = true,
            Err(e) => tracing::debug!("acts wait for the audit log: {e}"),
        }
    }
    let mut pause = RETRY;
    loop {
        app.audit_waits.notified().await;
        loop {
            match enter_waiting(&app).await {
                Ok(true) => pause = RETRY,
                Ok(false) => break,
                Err(e) => {
                    if pause == RETRY {
                        tracing::error!("acts wait for the audit log: {e}");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

fn act(waiting: WaitingAct) -> Act {
    let WaitingAct { id, actor, action, subject } = waiting;
    Act { id: Some(id), ..Act::new(actor, action, subject) }
}

/// Enters the oldest acts. Returns `false` if there were none.
async fn enter_waiting(app: &App) -> Result<bool, AppError> {
    // One at a time: two readers would enter the same acts twice.
    let _alone = app.carrying.lock().await;
    // With the write lock, so that all acts with lower ids are committed.
    let mut tx = app.db.write().await?;
    let waiting = store::audit::waiting(&mut tx).await?;
    let acts: Vec<Act> = waiting.into_iter().map(act).collect();
    drop(tx);
    if acts.is_empty() {
        return Ok(false);
    }
    // Sent in order, answered together. Acts that were entered are not entered again, even if
    // others fail.
    let entered = join_all(acts.iter().map(|act| enter_or_say(app, act))).await;
    let ids: Vec<_> = acts
        .iter()
        .zip(&entered)
        .filter(|(_, e)| e.is_ok())
        .filter_map(|(act, _)| act.id.as_deref())
        .collect();
    let mut tx = app.db.write().await?;
    store::audit::remove(&mut tx, &ids).await?;
    tx.commit().await?;
    entered.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(true)
}

/// Audit action: the signing service refused an act. The act leaves the outbox, and this entry
/// records it.
const REFUSED: &str = "audit.refused";

async fn enter_or_say(app: &App, act: &Act) -> Result<u64, AppError> {
    match enter(app, act.clone()).await {
        Err(e) if e.code() == Code::Conflict => {
            tracing::error!(
                "{} {} {} is not in the audit log: {e}",
                act.actor,
                act.action,
                act.subject
            );
            let said = format!("{} {} {}: {e}", act.actor, act.action, act.subject);
            enter(app, Act { id: act.id.clone(), ..Act::new("server", REFUSED, fitting(&said)) })
                .await
        }
        other => other,
    }
}

/// Enters an act. Returns the number of its entry.
///
/// # Errors
/// When the signing service refuses or does not answer.
pub async fn enter(app: &App, act: Act) -> Result<u64, AppError> {
    match signing::ask(&app.signer, Request::Record { act }).await? {
        Response::Recorded { number } => Ok(number),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// The current checkpoint.
///
/// # Errors
/// When the signing service does not answer.
pub async fn checkpoint(app: &App) -> Result<String, AppError> {
    match signing::ask(&app.signer, Request::Checkpoint).await? {
        Response::Checkpoint { note } => Ok(note),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// Entries, exactly as in the log.
///
/// # Errors
/// When the signing service does not answer.
pub async fn entries(app: &App, from: u64, limit: u64) -> Result<AuditEntries, AppError> {
    match signing::ask(&app.signer, Request::Entries { from, limit }).await? {
        Response::Entries { lines } => Ok(AuditEntries { lines }),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// A page of entries, up to `limit` or the maximum.
///
/// # Errors
/// [`Code::Invalid`] for an invalid limit; when the signing service does not answer.
pub async fn page(app: &App, from: u64, limit: Option<u64>) -> Result<AuditEntries, AppError> {
    let limit = limit.unwrap_or(ENTRIES_MAX);
    if !(1..=ENTRIES_MAX).contains(&limit) {
        return Err(AppError::new(
            Code::Invalid,
            format!("limit is {limit}, must be 1 to {ENTRIES_MAX}"),
        ));
    }
    if i64::try_from(from).is_err() {
        return Err(AppError::new(
            Code::Invalid,
            format!("from is {from}, which is beyond the end of any log"),
        ));
    }
    entries(app, from, limit).await
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
pub async fn excerpt(app: &App, before: Option<u64>, limit: u64) -> Result<Excerpt, AppError> {
    let stated = app.pki.log.verify(&checkpoint(app).await?)?;
    let size = stated.checkpoint().size;
    let end = before.unwrap_or(size).min(size);
    let from = end.saturating_sub(limit);
    let lines = entries(app, from, end - from).await?.lines;
    let entries = lines.iter().map(|l| Entry::parse(l.as_bytes())).collect::<Result<_, _>>()?;
    Ok(Excerpt { size, stated_s: stated.stated_s(), entries })
}

/// An entry, with its inclusion proof.
///
/// # Errors
/// [`Code::NotFound`]; when the signing service does not answer.
pub async fn proof(app: &App, number: u64) -> Result<AuditProof, AppError> {
    let missing = |e: AppError| {
        if e.code() == Code::Conflict {
            AppError::not_found("audit entry", &number.to_string())
        } else {
            e
        }
    };
    match signing::ask(&app.signer, Request::Prove { number }).await.map_err(missing)? {
        Response::Proof { proof } => Ok(proof),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// The consistency proof between two sizes of the log.
///
/// # Errors
/// [`Code::Invalid`] for a size beyond the log's; when the signing service does not answer.
pub async fn consistency(app: &App, old: u64, new: u64) -> Result<AuditConsistency, AppError> {
    let invalid = |e: AppError| {
        if e.code() == Code::Conflict {
            AppError::new(Code::Invalid, format!("old {old}, new {new}: {e}"))
        } else {
            e
        }
    };
    match signing::ask(&app.signer, Request::Consistency { old, new }).await.map_err(invalid)? {
        Response::Consistency { hashes } => Ok(AuditConsistency { hashes }),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}
