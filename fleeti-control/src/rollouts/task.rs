//! The task that works on rollouts: in chunks, on what events and time left to do.

use super::change::Change;
use super::{chunks, succession};
use crate::attestation::policy;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_store as store;
use std::time::Duration;

/// Delay after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Works until the task is aborted; first on what a server that was killed has left.
pub(crate) async fn run(cx: ContextRef) {
    loop {
        match one(&cx).await {
            Ok(true) => {}
            Ok(false) => wait(&cx).await,
            Err(e) => {
                tracing::error!("a rollout waits: {}", e.for_log());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Returns when a rollout has work: somebody said so, or its time has come.
async fn wait(cx: &Context) {
    while !cx.rollouts.wait_for_work().await {
        match store::rollouts::is_due(cx.db.pool(), cx.now_s()).await {
            Ok(false) => {}
            Ok(true) => return,
            Err(e) => {
                let e = Error::from(e);
                tracing::error!("no rollout is looked at: {}", e.for_log());
            }
        }
    }
}

/// Does one chunk. Returns `false` if no rollout has work.
async fn one(cx: &Context) -> Result<bool, Error> {
    let mut tx = cx.db.write().await?;
    let Some(rollout) = store::rollouts::next_with_work(&mut tx, cx.now_s()).await? else {
        let Some(after) = succession::begin_next(cx, &mut tx).await? else { return Ok(false) };
        tx.commit().await?;
        cx.dispatch(after);
        return Ok(true);
    };
    let policy = policy::of(cx, &rollout.fleet);
    let mut change = Change::of(rollout, cx.now_s());
    chunks::work(&mut tx, &mut change, &policy).await?;
    let caused = change.store(cx, &mut tx).await?;
    let after = cx.emit_all(&mut tx, cx.now_s(), caused).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(true)
}
