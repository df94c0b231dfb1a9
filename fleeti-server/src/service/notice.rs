//! What every device is to know: the same for all, made once, pushed to every session and to each
//! that begins.

use crate::app::{App, AppRef};
use crate::db;
use crate::error::AppError;
use crate::service::{audit, transitions};
use bytes::Bytes;
use fleeti_core::wire::device::{Notice, REVOKED_MAX};
use std::time::Duration;

/// A new statement of the audit log goes out this often; a device that was away gets one when it
/// comes.
const INTERVAL: Duration = Duration::from_secs(3600);
/// After a failure, and without a statement of the audit log.
const RETRY: Duration = Duration::from_secs(60);

/// The notice, and whether it has a statement of the audit log.
async fn make(app: &App) -> Result<(Bytes, bool), AppError> {
    // What was revoked is told without the signer as well.
    let checkpoint = if app.health.is_signer_away() {
        None
    } else {
        audit::checkpoint(app).await.map_err(said).ok()
    };
    let has_statement = checkpoint.is_some();
    let notice = Notice {
        trust_bundle: app.trust.load().version(),
        checkpoint,
        revoked_releases: db::releases::revoked(app.db.pool(), REVOKED_MAX).await?,
        root_sha256: Some(app.pki.root_sha256.clone()),
        transitions: transitions::sha256(app).await?,
    };
    Ok((serde_json::to_vec(&notice)?.into(), has_statement))
}

fn said(e: AppError) -> AppError {
    tracing::warn!("devices get no new checkpoint of the audit log: {e}");
    e
}

/// Makes the notice anew and pushes it; says whether it has a statement of the audit log.
///
/// # Errors
/// When the database or the signer does not answer; the old one stays.
pub async fn renew(app: &App) -> Result<bool, AppError> {
    // One at a time, or an older one could replace a newer one.
    let _alone = app.notices.lock().await;
    let (notice, has_statement) = make(app).await?;
    if **app.notice.load() != notice {
        app.notice.store(std::sync::Arc::new(notice));
        app.hub.notice_all();
    }
    Ok(has_statement)
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
            Ok(true) => tokio::time::sleep(INTERVAL).await,
            // The signer was away, if only for a moment.
            Ok(false) => tokio::time::sleep(RETRY).await,
            Err(e) => {
                tracing::error!("devices get no new statement of the audit log: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
