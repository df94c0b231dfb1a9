//! What time brings: acts that nobody approved, or collected, in time.

use super::kept;
use crate::accounts::actor::Actor;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_core::approval::{Event, State};
use fleeti_core::wire::approval::Approval;
use fleeti_store as store;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(60);
/// Maximum number of acts in a transaction.
const CHUNK: u32 = 50;
/// Acts that have ended are kept for this time, seconds. The audit log keeps them longer.
const KEPT_S: u64 = 90 * 86_400;

/// Looks until the task is aborted.
pub(crate) async fn run(cx: ContextRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(e) = look(&cx).await {
            tracing::warn!("acts that are late still wait: {}", e.for_log());
        }
    }
}

/// Ends some acts that are late, and forgets old ones. Returns the number of those that ended.
///
/// # Errors
/// When the database does not answer.
pub async fn look(cx: &Context) -> Result<usize, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let late = store::pending_acts::late(&mut tx, now_s, CHUNK).await?;
    for id in &late {
        let Some(mut row) = store::pending_acts::get(&mut tx, id).await? else { continue };
        if !kept::is_sealed(cx, &row)? {
            // It does not count anyway: the seal that it gets here is that of an expired act.
            row.approval.outcome = "another program changed it in the database".to_owned();
        }
        if kept::step(cx, &mut tx, &mut row, Event::Look).await? == State::Expired {
            let Approval { act, requester, via, .. } = &row.approval;
            let subject = format!("{id} {act}, requested by {requester} ({via})");
            cx.audit(&mut tx, Actor::server().act("approval.expire", subject)).await?;
        }
    }
    store::pending_acts::prune(&mut tx, now_s.saturating_sub(KEPT_S)).await?;
    tx.commit().await?;
    Ok(late.len())
}
