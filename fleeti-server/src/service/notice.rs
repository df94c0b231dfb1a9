//! What every device is to know: the same for all, made once, pushed to every session and to each that begins.

use crate::app::{App, AppRef};
use crate::db;
use crate::error::AppError;
use crate::service::audit;
use bytes::Bytes;
use fleeti_core::wire::device::{Notice, REVOKED_MAX};
use std::time::Duration;

/// A new statement of the audit log goes out this often; a device that was away gets one when it comes.
const INTERVAL: Duration = Duration::from_secs(3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(60);

async fn make(app: &App) -> Result<Bytes, AppError> {
    let notice = Notice {
        trust_bundle: app.trust.load().version(),
        checkpoint: Some(audit::checkpoint(app).await?),
        revoked_releases: db::releases::revoked(app.db.pool(), REVOKED_MAX).await?,
    };
    Ok(serde_json::to_vec(&notice)?.into())
}

/// Makes the notice anew and pushes it.
///
/// # Errors
/// When the database or the signer does not answer; the old one stays.
pub async fn renew(app: &App) -> Result<(), AppError> {
    // One at a time, or an older one could replace a newer one.
    let _alone = app.notices.lock().await;
    app.notice.store(std::sync::Arc::new(make(app).await?));
    app.hub.notice_all();
    Ok(())
}

/// Tells devices at once; when that fails they hear of it within the hour.
pub async fn tell(app: &App) {
    if let Err(e) = renew(app).await {
        tracing::error!("devices were not told: {e}");
    }
}

/// Renews the notice until the task is ended.
pub async fn run(app: AppRef) {
    loop {
        match renew(&app).await {
            Ok(()) => tokio::time::sleep(INTERVAL).await,
            Err(e) => {
                tracing::error!("devices get no new statement of the audit log: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
