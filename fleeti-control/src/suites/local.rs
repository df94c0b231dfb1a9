//! Makes the index of the suite in a server that builds images itself.

use super::upload;
use crate::context::ContextRef;
use anyhow::Result;
use fleeti_build::cache::Cache;
use fleeti_build::suite;
use fleeti_core::foreign::Foreign;
use std::time::Duration;

/// Interval at which the index is made.
const INTERVAL: Duration = Duration::from_secs(12 * 3600);
/// Time after which it is tried again when it failed; each further time twice as long.
const RETRY: Duration = Duration::from_secs(5 * 60);

/// Works until the task is aborted.
pub async fn run(cx: ContextRef) {
    let mut retry = RETRY;
    loop {
        let mut pause = INTERVAL;
        if let Err(e) = make(&cx).await {
            let why = Foreign::log(&format!("{e:#}")).to_string();
            tracing::warn!("profiles are not checked against new packages: {why}");
            pause = retry;
            retry = (retry * 2).min(INTERVAL);
        } else {
            retry = RETRY;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn make(cx: &ContextRef) -> Result<()> {
    let path = tokio::task::spawn_blocking(|| {
        let cache = Cache::discover()?;
        suite::refresh(&cache, &mut |line| tracing::info!("index of the suite: {line}"))?;
        anyhow::Ok(suite::path(&cache))
    });
    Ok(upload::take(cx, &path.await??).await?)
}
