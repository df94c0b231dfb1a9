//! Makes old metrics smaller: samples for a day, hours for a month, days for a year.

use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_core::wire::history::{DAYS_KEPT_S, HOURS_KEPT_S, SAMPLES_KEPT_S};
use fleeti_store as store;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two runs.
const LOOK: Duration = Duration::from_secs(60);
/// Maximum number of rows in a transaction, and of transactions in a run.
const CHUNK: u32 = 500;
const CHUNKS_MAX: usize = 100;

/// Tidies until the task is aborted.
pub(crate) async fn run(cx: ContextRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(e) = tidy(&cx).await {
            tracing::error!("old metrics stay: {}", e.for_log());
        }
    }
}

/// Makes what is old now smaller.
///
/// # Errors
/// When the database does not answer.
pub async fn tidy(cx: &Context) -> Result<(), Error> {
    let now_s = cx.now_s();
    for _ in 0..CHUNKS_MAX {
        let mut tx = cx.db.write().await?;
        let samples =
            store::history::drop_samples(&mut tx, now_s.saturating_sub(SAMPLES_KEPT_S), CHUNK)
                .await?;
        let hours =
            store::history::roll_up(&mut tx, now_s.saturating_sub(HOURS_KEPT_S), CHUNK).await?;
        let days =
            store::history::drop_days(&mut tx, now_s.saturating_sub(DAYS_KEPT_S), CHUNK).await?;
        let is_done = samples.max(days) < u64::from(CHUNK) && hours < CHUNK as usize;
        if samples > 0 || hours > 0 || days > 0 {
            tx.commit().await?;
        }
        if is_done {
            break;
        }
    }
    Ok(())
}
