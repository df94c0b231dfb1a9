//! Keeps the CRLs and the server's own certificate current.

use super::identity::renew_identity;
use super::{revocation, warnings};
use crate::context::{Context, ContextRef};
use crate::error::for_log;
use anyhow::{Context as _, Result};
use std::time::Duration;

/// Interval at which the CRLs and the server's own certificate are renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Delay after a failure.
const RENEW_RETRY: Duration = Duration::from_secs(60);

/// Renews the CRLs and the server's own certificate until the task is aborted.
pub(crate) async fn run(cx: ContextRef, has_signer: bool) {
    let mut pause = if has_signer { RENEW_INTERVAL } else { RENEW_RETRY };
    loop {
        if tokio::time::timeout(pause, cx.trust.crls.retry.notified()).await.is_ok() {
            tokio::time::sleep(RENEW_RETRY).await;
        }
        pause = RENEW_INTERVAL;
        warnings(&cx, cx.now_s()).iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Err(e) = once(&cx).await {
            tracing::error!("{}", for_log(&e));
            pause = RENEW_RETRY;
        }
    }
}

/// Renews the CRLs and the server's own certificate.
///
/// # Errors
/// When the database or the signing service does not answer. Without CRLs the certificate is not
/// renewed either.
pub async fn once(cx: &Context) -> Result<()> {
    revocation::publish_crls(cx).await.context("the CRLs were not renewed")?;
    renew_identity(cx).await.context("the server's certificate was not renewed")
}
