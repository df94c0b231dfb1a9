//! Makes the index of the suite in a server that builds images itself.

use super::upload;
use crate::context::ContextRef;
use crate::error::for_log;
use anyhow::Result;
use fleeti_build::cache::Cache;
use fleeti_build::suite;
use fleeti_core::foreign::Foreign;

/// Works until the task is aborted.
pub async fn run(cx: ContextRef) {
    let mut pace = suite::Pace::default();
    loop {
        let made = make(&cx).await;
        if let Err(e) = &made {
            let why = Foreign::log(&for_log(e)).to_string();
            tracing::warn!("profiles are not checked against new packages: {why}");
        }
        tokio::time::sleep(pace.after(made.is_ok())).await;
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
