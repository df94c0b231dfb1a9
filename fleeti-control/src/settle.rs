//! Brings database and audit log to the same state after a start, then enters acts as they come.

use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::{audit, releases};
use fleeti_core::wire::problem::Code;
use std::time::Duration;

/// Delays between attempts to reach the signing service: first, and maximum.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Settles the outbox of the audit log, and enters releases that the log lacks. Call this at
/// startup, before anything else runs.
///
/// # Errors
/// When the signing service does not answer.
pub async fn settle(cx: &Context) -> Result<(), Error> {
    audit::settle(cx).await?;
    releases::enter_in_log(cx).await
}

/// Like [`settle`]. Returns `false` if the signing service is away.
pub(crate) async fn is_settled(cx: &Context) -> Result<bool, Error> {
    match settle(cx).await {
        Ok(()) => Ok(true),
        // The signing service answered a moment ago, and may be back soon.
        Err(e) if e.code() == Code::Unavailable => Ok(false),
        Err(e) => Err(e),
    }
}

/// Enters acts until the task is aborted. First calls [`settle`], if that failed at startup because
/// the signing service was away.
pub(crate) async fn carry(cx: ContextRef, mut settled: bool) {
    while !settled {
        tokio::time::sleep(RETRY_MAX).await;
        match settle(&cx).await {
            Ok(()) => settled = true,
            Err(e) => tracing::debug!("acts wait for the audit log: {e}"),
        }
    }
    let mut pause = RETRY;
    loop {
        audit::wait_for_acts(&cx).await;
        loop {
            match audit::enter_waiting(&cx).await {
                Ok(true) => pause = RETRY,
                Ok(false) => break,
                Err(e) => {
                    if pause == RETRY {
                        tracing::error!("acts wait for the audit log: {}", e.for_log());
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}
