//! The notice with the newest announcements. It is the same for all devices: the server makes it
//! once, and sends it to every open session and to each new one.

use crate::audit;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::health;
use bytes::Bytes;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::device::{Notice, REVOKED_MAX};
use fleeti_store as store;
use std::time::Duration;

/// Interval at which devices get a new checkpoint of the audit log. A device that was away gets the
/// current one on reconnect.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Interval after a failure, or after a notice without checkpoint.
const RETRY: Duration = Duration::from_secs(60);

/// The digest of the list of transitions, by which devices detect a change; `None` while the list is
/// empty.
async fn transitions_sha256(cx: &Context) -> Result<Option<String>, Error> {
    let all = store::trust::transitions(cx.db.pool()).await?;
    Ok(if all.is_empty() { None } else { Some(sha256_hex(&serde_json::to_vec(&all)?)) })
}

/// Makes the notice. Also returns whether it contains a checkpoint.
async fn make(cx: &Context) -> Result<(Bytes, bool), Error> {
    // Revocations are announced even if the signing service is away.
    let checkpoint = if health::is_signer_away(cx) {
        None
    } else {
        audit::checkpoint(cx).await.map_err(|e| warn(&e)).ok()
    };
    let has_checkpoint = checkpoint.is_some();
    let notice = Notice {
        trust_bundle: cx.trust.current.load().version(),
        checkpoint,
        revoked_releases: store::releases::revoked(cx.db.pool(), REVOKED_MAX).await?,
        root_sha256: Some(cx.pki.root_sha256.clone()),
        transitions: transitions_sha256(cx).await?,
    };
    Ok((serde_json::to_vec(&notice)?.into(), has_checkpoint))
}

fn warn(e: &Error) {
    tracing::warn!("devices get no new checkpoint of the audit log: {}", e.for_log());
}

/// Makes a new notice and pushes it. Returns whether it contains a checkpoint.
///
/// # Errors
/// When the database or the signing service does not answer. The old notice stays.
pub async fn renew(cx: &Context) -> Result<bool, Error> {
    // One at a time, or an older notice could replace a newer one.
    let _alone = cx.trust.notices.lock().await;
    let (notice, has_checkpoint) = make(cx).await?;
    if **cx.trust.notice.load() != notice {
        cx.trust.notice.store(std::sync::Arc::new(notice));
        cx.hub.notice_all();
    }
    Ok(has_checkpoint)
}

/// The notice for all devices, encoded.
#[must_use]
pub fn current(cx: &Context) -> Bytes {
    Bytes::clone(&cx.trust.notice.load())
}

/// Sends a new notice now. If that fails, devices get one within the hour.
pub async fn tell(cx: &Context) {
    if let Err(e) = renew(cx).await {
        tracing::error!("the notice to devices was not sent: {}", e.for_log());
    }
}

/// Renews the notice until the task is aborted.
pub async fn run(cx: ContextRef) {
    loop {
        match renew(&cx).await {
            Ok(true) => tokio::time::sleep(INTERVAL).await,
            // The signing service was away.
            Ok(false) => tokio::time::sleep(RETRY).await,
            Err(e) => {
                tracing::error!("devices get no new notice: {}", e.for_log());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
