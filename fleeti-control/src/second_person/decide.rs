//! What people decide about a pending act, and what follows.

use super::{kept, perform, rights};
use crate::accounts::actor::Actor;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::secrets;
use fleeti_core::approval::{Event, State};
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::approval::{Approval, Decide, GuardedAct, REASON_MAX};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::labels::is_line;
use fleeti_core::wire::problem::Code;
use fleeti_store::pending_acts::PendingAct;
use fleeti_store::{self as store, Tx};
use std::sync::Arc;

fn check(note: &str) -> Result<(), Error> {
    if note.is_empty() || is_line(note, REASON_MAX) {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("note: must be one line of {REASON_MAX} characters")))
}

/// Approves an act, and performs it. A recovery key waits for its requester, who collects it.
///
/// # Errors
/// [`Code::NotFound`], also for an act of a fleet that the actor may not see; [`Code::Forbidden`]
/// for an actor that is no second person, or lacks what the act needs; [`Code::Conflict`] for an act
/// that does not wait, or whose requester has lost a right.
pub async fn approve(
    cx: &ContextRef,
    by: &Actor,
    id: &str,
    decided: &Decide,
) -> Result<Approval, Error> {
    check(&decided.note)?;
    // A task of its own: an approved act is performed also if the connection breaks.
    let (cx, by, id, note) = (Arc::clone(cx), by.clone(), id.to_owned(), decided.note.clone());
    let task = async move {
        let (row, act) = approved(&cx, &by, &id, note).await?;
        match act {
            GuardedAct::ShowRecoveryKey { .. } => Ok(row.approval),
            act => performed(&cx, row, &act).await,
        }
    };
    tokio::spawn(task).await.map_err(Error::internal)?
}

/// Records the approval.
async fn approved(
    cx: &Context,
    by: &Actor,
    id: &str,
    note: String,
) -> Result<(PendingAct, GuardedAct), Error> {
    let mut tx = cx.db.write().await?;
    let mut row = kept::load(cx, &mut tx, by, id).await?;
    let act = kept::act(&row)?;
    second(cx, &mut tx, &row, by).await?;
    rights::authorize(cx, by, &act).await?;
    let of = &row.approval;
    if of.state == State::Waiting
        && let Err(e) = perform::still(cx, &of.requester, &of.via, &act).await
    {
        if !matches!(e.code(), Code::Forbidden | Code::NotFound | Code::Conflict) {
            return Err(e);
        }
        fail(cx, tx, &mut row, by, &e).await?;
        return Err(Error::new(Code::Conflict, e.to_string()).hint("it cannot be performed"));
    }
    decided(cx, &mut row, by, note)?;
    kept::step(cx, &mut tx, &mut row, Event::Approve).await?;
    audit(cx, &mut tx, by, "approval.approve", &row).await?;
    tx.commit().await?;
    Ok((row, act))
}

/// Checks that an actor is a second person.
async fn second(cx: &Context, tx: &mut Tx<'_>, row: &PendingAct, by: &Actor) -> Result<(), Error> {
    match rights::objection(cx, tx, row, by).await? {
        Some(why) => Err(Error::new(Code::Forbidden, why).hint("ask another person")),
        None => Ok(()),
    }
}

/// Puts down who decided.
fn decided(cx: &Context, row: &mut PendingAct, by: &Actor, note: String) -> Result<(), Error> {
    row.approval.decided_by = Some(by.account().parse().map_err(Error::internal)?);
    row.approval.decided_s = Some(cx.now_s());
    row.approval.note = note;
    row.decided_via = Some(by.via().to_string());
    Ok(())
}

/// Enters what became of an act in the audit log, with its requester.
async fn audit(
    cx: &Context,
    tx: &mut Tx<'_>,
    by: &Actor,
    action: &str,
    row: &PendingAct,
) -> Result<(), Error> {
    let Approval { id, act, requester, via, note, .. } = &row.approval;
    let note = if note.is_empty() { String::new() } else { format!(": {}", Foreign::log(note)) };
    cx.audit(tx, by.act(action, format!("{id} {act}, requested by {requester} ({via}){note}")))
        .await
}

/// Ends an act that is refused.
async fn fail(
    cx: &Context,
    mut tx: Tx<'_>,
    row: &mut PendingAct,
    by: &Actor,
    why: &Error,
) -> Result<(), Error> {
    row.approval.outcome = why.to_string();
    kept::step(cx, &mut tx, row, Event::Refuse).await?;
    let subject = format!("{} {}: {why}", row.approval.id, row.approval.act);
    cx.audit(&mut tx, by.act("approval.fail", subject)).await?;
    Ok(tx.commit().await?)
}

/// Performs an approved act. What is refused now is not tried again.
async fn performed(
    cx: &ContextRef,
    mut row: PendingAct,
    act: &GuardedAct,
) -> Result<Approval, Error> {
    let by = match perform::performer(cx, &row, act).await {
        Ok(by) => by,
        Err(e) => {
            fail(cx, cx.db.write().await?, &mut row, &Actor::server(), &e).await?;
            return Ok(row.approval);
        }
    };
    let ended = perform::perform(cx, &by, act).await;
    let mut tx = cx.db.write().await?;
    match ended {
        Err(e) => fail(cx, tx, &mut row, &by, &e).await?,
        Ok(outcome) => {
            row.approval.outcome = outcome;
            kept::step(cx, &mut tx, &mut row, Event::Perform).await?;
            let Approval { id, act, outcome, .. } = &row.approval;
            let subject = format!("{id} {act}: {outcome}");
            cx.audit(&mut tx, by.act("approval.done", subject)).await?;
            tx.commit().await?;
        }
    }
    Ok(row.approval)
}

/// Denies an act; its requester withdraws it.
///
/// # Errors
/// As [`approve`].
pub async fn deny(cx: &Context, by: &Actor, id: &str, wanted: &Decide) -> Result<Approval, Error> {
    check(&wanted.note)?;
    let mut tx = cx.db.write().await?;
    let mut row = kept::load(cx, &mut tx, by, id).await?;
    let is_own = row.approval.requester.as_str() == by.account();
    let (event, action) = if is_own {
        (Event::Withdraw, "approval.withdraw")
    } else {
        second(cx, &mut tx, &row, by).await?;
        rights::authorize(cx, by, &kept::act(&row)?).await?;
        (Event::Deny, "approval.deny")
    };
    decided(cx, &mut row, by, wanted.note.clone())?;
    kept::step(cx, &mut tx, &mut row, event).await?;
    audit(cx, &mut tx, by, action, &row).await?;
    tx.commit().await?;
    Ok(row.approval)
}

/// Shows the recovery key of an approved act to its requester, once.
///
/// # Errors
/// [`Code::NotFound`], also for another account than the requester; [`Code::Conflict`] for an act
/// that is not approved, or after the device made another key; [`Code::Forbidden`] if one of the
/// two has lost a right.
pub async fn collect(cx: &Context, by: &Actor, id: &str) -> Result<Secret, Error> {
    let mut tx = cx.db.write().await?;
    let mut row = kept::load(cx, &mut tx, by, id).await?;
    if row.approval.requester.as_str() != by.account() {
        return Err(Error::not_found("approval", id));
    }
    let act = kept::act(&row)?;
    rights::authorize(cx, by, &act).await?;
    let performer = perform::performer(cx, &row, &act).await?;
    let (device, request) = perform::key(cx, &act).await?;
    // Before it is shown: it is shown once at most.
    row.approval.outcome = "shown".to_owned();
    kept::step(cx, &mut tx, &mut row, Event::Perform).await?;
    let subject = format!("{id} {}", row.approval.act);
    cx.audit(&mut tx, performer.act("approval.done", subject)).await?;
    tx.commit().await?;
    let shown = secrets::show_recovery_key(cx, &performer, device, request).await;
    if let Err(e) = &shown {
        row.approval.outcome = format!("not shown: {e}");
        let mut tx = cx.db.write().await?;
        store::pending_acts::update(&mut tx, &row).await?;
        tx.commit().await?;
    }
    shown
}
