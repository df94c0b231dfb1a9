//! What follows a rollout: another one of its fleet, which starts when the last offer of the first
//! one is withdrawn. It supersedes it, or takes its devices back to what they ran before.

use super::change::{Change, rejected};
use super::chunks;
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use crate::events::After;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::header;
use fleeti_core::wire::api::RolloutSummary;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};

/// Begins a rollout that is stored and ready: devices join, the first chunk in this transaction.
pub(super) async fn begin(
    cx: &Context,
    tx: &mut Tx<'_>,
    rollout: StoredRollout,
) -> Result<(RolloutSummary, After), Error> {
    let (now, id) = (cx.now_s(), rollout.id.clone());
    let policy = policy::of(cx, &rollout.fleet);
    let devices = store::devices::count(tx, &rollout.fleet).await?;
    if let Some(of) = &rollout.back_of {
        let StoredRollout { fleet, release, .. } = &rollout;
        store::channels::left(tx, fleet, of, release, (&id, now)).await?;
    }
    let mut change = Change::of(rollout, now);
    change.header(header::Event::Start { devices }).map_err(rejected)?;
    chunks::work(tx, &mut change, &policy).await?;
    let mut summary = RolloutSummary::from(&change.rollout);
    let caused = change.store(cx, tx).await?;
    let mut after = cx.emit_all(tx, now, caused).await?;
    // The first wave of a small fleet. It is chosen among the rows of those that joined.
    let started = store::rollouts::load(tx, &id).await?;
    if let Some(started) = started.filter(|r| r.header.phase == Phase::Running) {
        let mut change = Change::of(started, now);
        chunks::work(tx, &mut change, &policy).await?;
        summary = RolloutSummary::from(&change.rollout);
        let caused = change.store(cx, tx).await?;
        after.merge(cx.emit_all(tx, now, caused).await?);
    }
    Ok((summary, after))
}

/// Lets a new rollout follow another one of its fleet, which ends for it if it is active. Begins it
/// at once if nothing is left to withdraw.
pub(super) async fn follow(
    cx: &Context,
    tx: &mut Tx<'_>,
    before: StoredRollout,
    new: StoredRollout,
) -> Result<(RolloutSummary, After), Error> {
    store::rollouts::insert(tx, &new).await?;
    if before.header.phase.is_terminal() {
        return begin(cx, tx, new).await;
    }
    let (policy, other) = (policy::of(cx, &before.fleet), before.next.clone());
    let mut change = Change::of(before, cx.now_s());
    change.rollout.next = Some(new.id.clone());
    if change.rollout.header.phase != Phase::Aborting {
        change.header(header::Event::Abort).map_err(rejected)?;
    }
    chunks::work(tx, &mut change, &policy).await?;
    let has_ended = change.rollout.header.phase.is_terminal();
    let caused = change.store(cx, tx).await?;
    let mut after = cx.emit_all(tx, cx.now_s(), caused).await?;
    if let Some(other) = other {
        after.merge(drop_ready(cx, tx, &other).await?);
    }
    if !has_ended {
        return Ok((RolloutSummary::from(&new), after));
    }
    let (summary, begun) = begin(cx, tx, new).await?;
    after.merge(begun);
    Ok((summary, after))
}

/// Aborts a rollout that has not begun, because another one takes its place.
async fn drop_ready(cx: &Context, tx: &mut Tx<'_>, id: &str) -> Result<After, Error> {
    let found = store::rollouts::load(tx, id).await?;
    let Some(waiting) = found.filter(|r| r.header.phase == Phase::Ready) else {
        return Ok(After::default());
    };
    let mut change = Change::of(waiting, cx.now_s());
    change.header(header::Event::Abort).map_err(rejected)?;
    let caused = change.store(cx, tx).await?;
    cx.emit_all(tx, cx.now_s(), caused).await
}

/// Begins a rollout whose predecessor has ended, or aborts it if it can no longer begin. Returns
/// `None` if no rollout is ready.
pub(super) async fn begin_next(cx: &Context, tx: &mut Tx<'_>) -> Result<Option<After>, Error> {
    let Some(ready) = store::rollouts::next_ready(tx).await? else { return Ok(None) };
    // A release that was revoked meanwhile, or a fleet without devices.
    let is_good = store::releases::is_good(tx, &ready.release).await?;
    // Somebody started another one, or pinned the fleet, since its predecessor ended.
    let is_free = store::rollouts::active_in(tx, &ready.fleet).await?.is_none()
        && store::channels::pin(tx, &ready.fleet).await?.is_none();
    let devices = store::devices::count(tx, &ready.fleet).await?;
    let fits = (1..=fleeti_core::rollout::DEVICES_MAX).contains(&devices);
    if !is_good || !is_free || !fits {
        let why = "it does not begin: its release is revoked, or its fleet has no devices, too many, a pin, or another rollout";
        tracing::warn!(rollout = ready.id, "{why}");
        return drop_ready(cx, tx, &ready.id).await.map(Some);
    }
    Ok(Some(begin(cx, tx, ready).await?.1))
}
