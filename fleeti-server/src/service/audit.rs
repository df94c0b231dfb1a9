//! The audit log, as far as the server has to do with it: it carries acts there, and shows what is
//! in it.

use crate::app::{App, AppRef};
use crate::db;
use crate::error::AppError;
use crate::service::signing;
use fleeti_core::wire::api::{AuditConsistency, AuditEntries, AuditProof};
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::{Act, Entry, fitting};
use fleeti_signer::wire::{ENTRIES_MAX, Request, Response};
use futures::future::join_all;
use std::collections::HashSet;
use std::time::Duration;

/// Between two tries to reach the signer, first and at the most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Takes out of the outbox what is in the log already: a server that was killed may have entered
/// acts without knowing. Then the rest is entered. To be called before anything else works here.
///
/// # Errors
/// When the database or the signer does not answer.
pub async fn settle(app: &App) -> Result<(), AppError> {
    let size = app.pki.log.verify(&checkpoint(app).await?)?.checkpoint().size;
    let last = entries(app, size.saturating_sub(u64::from(db::audit::AT_ONCE) * 2), ENTRIES_MAX)
        .await?
        .lines;
    let known: HashSet<String> =
        last.iter().filter_map(|l| Entry::parse(l.as_bytes()).ok()?.act.id).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let mut tx = app.db.write().await?;
    db::audit::remove(&mut tx, &known).await?;
    tx.commit().await?;
    loop {
        match enter_waiting(app).await {
            Ok(true) => {}
            Ok(false) => break,
            // There are more than the signer takes in a minute: they are carried to it beside
            // everything else.
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

/// Carries acts to the log until the task is ended; first [`settle`], where that was not done yet
/// because the signer was away.
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

/// Enters the oldest acts; `false` when none waited.
async fn enter_waiting(app: &App) -> Result<bool, AppError> {
    // One at a time: what two have read is entered twice.
    let _alone = app.carrying.lock().await;
    // With the write lock, so that whoever has just written an act has committed it.
    let mut tx = app.db.write().await?;
    let acts = db::audit::waiting(&mut tx).await?;
    drop(tx);
    if acts.is_empty() {
        return Ok(false);
    }
    // Asked in their order, answered together; what was entered is not entered again, whatever
    // becomes of the others.
    let entered = join_all(acts.iter().map(|act| enter_or_say(app, act))).await;
    let ids: Vec<_> = acts
        .iter()
        .zip(&entered)
        .filter(|(_, e)| e.is_ok())
        .filter_map(|(act, _)| act.id.as_deref())
        .collect();
    let mut tx = app.db.write().await?;
    db::audit::remove(&mut tx, &ids).await?;
    tx.commit().await?;
    entered.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(true)
}

/// What the signer refuses waits no longer, and is not lost: that it was refused is entered.
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

/// Enters an act; gives the number of its entry.
///
/// # Errors
/// When the signer refuses or does not answer.
pub async fn enter(app: &App, act: Act) -> Result<u64, AppError> {
    match signing::ask(&app.signer, Request::Record { act }).await? {
        Response::Recorded { number } => Ok(number),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// A signed statement of the log's size.
///
/// # Errors
/// When the signer does not answer.
pub async fn checkpoint(app: &App) -> Result<String, AppError> {
    match signing::ask(&app.signer, Request::Checkpoint).await? {
        Response::Checkpoint { note } => Ok(note),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// Entries, as they lie in the log.
///
/// # Errors
/// When the signer does not answer.
pub async fn entries(app: &App, from: u64, limit: u64) -> Result<AuditEntries, AppError> {
    match signing::ask(&app.signer, Request::Entries { from, limit }).await? {
        Response::Entries { lines } => Ok(AuditEntries { lines }),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// A page of entries, as many as there may be unless less are asked for.
///
/// # Errors
/// [`Code::Invalid`] for a limit that is none; when the signer does not answer.
pub async fn page(app: &App, from: u64, limit: Option<u64>) -> Result<AuditEntries, AppError> {
    let limit = limit.unwrap_or(ENTRIES_MAX);
    if !(1..=ENTRIES_MAX).contains(&limit) {
        return Err(AppError::new(
            Code::Invalid,
            format!("limit is {limit}, 1 to {ENTRIES_MAX} are allowed"),
        ));
    }
    if i64::try_from(from).is_err() {
        return Err(AppError::new(
            Code::Invalid,
            format!("from is {from}, and no log has so many entries"),
        ));
    }
    entries(app, from, limit).await
}

/// A part of the log, with what its last statement says.
pub struct Excerpt {
    /// Entries of the whole log.
    pub size: u64,
    /// When that was stated, Unix seconds.
    pub stated_s: u64,
    /// Oldest first.
    pub entries: Vec<Entry>,
}

/// The last entries before a number, `limit` at the most.
///
/// # Errors
/// When the signer does not answer, or says what cannot be.
pub async fn excerpt(app: &App, before: Option<u64>, limit: u64) -> Result<Excerpt, AppError> {
    let stated = app.pki.log.verify(&checkpoint(app).await?)?;
    let size = stated.checkpoint().size;
    let end = before.unwrap_or(size).min(size);
    let from = end.saturating_sub(limit);
    let lines = entries(app, from, end - from).await?.lines;
    let entries = lines.iter().map(|l| Entry::parse(l.as_bytes())).collect::<Result<_, _>>()?;
    Ok(Excerpt { size, stated_s: stated.stated_s(), entries })
}

/// An entry, with the proof that it is in the log.
///
/// # Errors
/// [`Code::NotFound`]; when the signer does not answer.
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

/// The proof that the log only grew.
///
/// # Errors
/// [`Code::Invalid`] when the log never had so many entries; when the signer does not answer.
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
