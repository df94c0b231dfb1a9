//! The notice with the newest announcements. It is the same for all devices: the server makes it
//! once, and sends it to every open session and to each new one.

use crate::app::{App, AppRef};
use crate::error::AppError;
use crate::service::{audit, transitions};
use bytes::Bytes;
use fleeti_core::wire::device::{Notice, REVOKED_MAX};
use fleeti_store as store;
use std::time::Duration;

/// Interval at which devices get a new checkpoint of the audit log. A device that was away gets the
/// current one on reconnect.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Interval after a failure, or after a notice without checkpoint.
const RETRY: Duration = Duration::from_secs(60);

/// Makes the notice. Also returns whether it contains a checkpoint.
async fn make(app: &App) -> Result<(Bytes, bool), AppError> {
    // Revocations are announced even if the signing service is away.
    let checkpoint = if app.health.is_signer_away() {
        None
    } else {
        audit::checkpoint(app).await.map_err(said).ok()
    };
    let has_checkpoint = checkpoint.is_some();
    let notice = Notice {
        trust_bundle: app.trust.load().version(),
        checkpoint,
        revoked_releases: store::releases::revoked(app.db.pool(), REVOKED_MAX).await?,
        root_sha256: Some(app.pki.root_sha256.clone()),
        transitions: transitions::sha256(app).await?,
    };
    Ok((serde_json::to_vec(&notice)?.into(), has_checkpoint))
}

fn said(e: AppError) -> AppError {
    tracing::warn!("devices get no new checkpoint of the audit log: {e}");
    e
}

/// Makes a new notice and pushes it. Returns whether it contains a checkpoint.
///
/// # Errors
/// When the database or the signing service does not answer. The old notice stays.
pub async fn renew(app: &App) -> Result<bool, AppError> {
    // One at a time, or an older notice could replace a newer one.
    let _alone = app.notices.lock().await;
    let (notice, has_checkpoint) = make(app).await?;
    if **app.notice.load() != notice {
        app.notice.store(std::sync::Arc::new(notice));
        app.hub.notice_all();
    }
    Ok(has_checkpoint)
}

/// Sends a new notice now. If that fails, devices get one within the hour.
pub async fn tell(app: &App) {
    if let Err(e) = renew(app).await {
        tracing::error!("the notice to devices was not sent: {e}");
    }
}

/// Renews the notice until the task is aborted.
pub async fn run(app: AppRef) {
    loop {
        match renew(&app).await {
            Ok(true) => tokio::time::sleep(INTERVAL).await,
            // The signing service was away.
            Ok(false) => tokio::time::sleep(RETRY).await,
            Err(e) => {
                tracing::error!("devices get no new notice: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
