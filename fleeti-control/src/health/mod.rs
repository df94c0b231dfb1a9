//! Health of the server: does the signing service answer, are the CRLs current, is there room on
//! the disk? The server keeps running without, and warns early: in its log, at `/readyz`, on its
//! pages.

mod disk;
pub(crate) mod state;

use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::settings::Settings;
use crate::signing;
use fleeti_core::doctor::{Disk, spoken};
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store as store;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Interval of the checks.
const LOOK: Duration = Duration::from_secs(15);
/// How long the signing service may take to answer a check.
const PATIENCE: Duration = Duration::from_secs(5);
/// Persistent warnings are logged again after this time.
const SAID_AGAIN_S: u64 = 3600;
/// Warn about a CRL that expires within this time: it should have been renewed before.
const LIST_S_MIN: u64 = 12 * 3600;
/// Warn about a server certificate that expires within this time: it was not renewed for two weeks.
const IDENTITY_S_MIN: u64 = 7 * 86_400;
/// Warn from this many acts on that wait for the audit log.
pub const ACTS_MANY: u64 = 1000;

/// Warnings in words. None of these conditions disconnects a device.
#[must_use]
pub fn warnings(cx: &Context) -> Vec<String> {
    let now_s = cx.now_s();
    let mut said = Vec::new();
    if let Some(away_s) = cx.health.signer_away_s() {
        let since = spoken(now_s.saturating_sub(away_s));
        said.push(format!(
            "the signing service has not answered for {since}: the server still serves devices, but cannot enroll them, renew \
             certificates or sign releases; start fleeti-signer, or read its log"
        ));
    }
    let crl_ends_s = cx.access.crl_ends_s();
    match crl_ends_s.checked_sub(now_s) {
        None => said.push(format!(
            "the CRL for devices expired {} ago and was not renewed: only the database decides which devices are revoked",
            spoken(now_s - crl_ends_s)
        )),
        Some(left_s) if left_s < LIST_S_MIN => {
            said.push(format!("the CRL for devices expires in {} and was not renewed", spoken(left_s)));
        }
        Some(_) => {}
    }
    match cx.ports.identity_ends_s().map(|ends_s| ends_s.checked_sub(now_s)) {
        Some(None) => said.push("the server's own certificate has expired: no device can connect until the signing service answers".into()),
        Some(Some(left_s)) if left_s < IDENTITY_S_MIN => {
            said.push(format!("the server's own certificate expires in {}; after that no device can connect", spoken(left_s)));
        }
        Some(Some(_)) | None => {}
    }
    let acts = cx.health.acts.load(Ordering::SeqCst);
    if acts >= ACTS_MANY {
        said.push(format!(
            "{acts} acts wait for the audit log; at {} the server refuses all changes",
            store::audit::WAITING_MAX
        ));
    }
    said.extend(cx.health.disk.warning());
    said.extend(cx.health.signer_disk_warning());
    said
}

/// Since when the signing service does not answer, Unix seconds; `None` while it does.
#[must_use]
pub fn signer_away_s(cx: &Context) -> Option<u64> {
    cx.health.signer_away_s()
}

/// A warning about the disk of the audit log.
#[must_use]
pub fn signer_disk_warning(cx: &Context) -> Option<String> {
    cx.health.signer_disk_warning()
}

/// Number of acts that waited for the audit log at the last check.
#[must_use]
pub fn waiting_acts(cx: &Context) -> u64 {
    cx.health.acts.load(Ordering::SeqCst)
}

/// The disk of a data folder; `None` if it does not answer.
#[must_use]
pub fn disk_of(settings: &Settings) -> Option<Disk> {
    disk::of(settings).ok()
}

/// Whether the signing service did not answer the last request.
#[must_use]
pub fn is_signer_away(cx: &Context) -> bool {
    cx.health.signer_away_s().is_some()
}

/// Records whether the signing service answered.
pub(crate) fn signer_answered(cx: &Context, answers: bool) {
    cx.health.signer(answers, cx.now_s());
}

/// Checks that there is room on the disk for something large, such as an upload.
///
/// # Errors
/// [`Code::Full`](fleeti_core::wire::problem::Code::Full) below the floor.
pub fn admit(cx: &Context, what: &str) -> Result<(), Error> {
    cx.health.disk.admit(&cx.settings, what)
}

/// Checks the disk now.
pub(crate) fn look_at_disk(cx: &Context) {
    cx.health.disk.look(&cx.settings);
}

/// Checks the signing service and the disk now.
pub async fn look(cx: &Context) {
    let health = signing::ask_for(&cx.signer, Request::Health, PATIENCE).await;
    signer_answered(cx, health.is_ok());
    cx.health.signer_room(match health {
        Ok(Response::Health { room }) => room,
        Ok(_) | Err(_) => None,
    });
    if let Ok(acts) = store::audit::count(cx.db.pool()).await {
        cx.health.acts.store(acts, Ordering::SeqCst);
    }
    look_at_disk(cx);
    // Reopens a writer connection that a full disk has broken, even if nothing else writes.
    if let Err(e) = cx.db.write().await {
        tracing::warn!("the database accepts no writes: {e}");
    }
}

/// Repeats the checks until the task is aborted. Logs new warnings at once, and the others every
/// hour.
pub async fn watch(cx: ContextRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut said_s) = (0, 0);
    loop {
        clock.tick().await;
        look(&cx).await;
        let (found, now_s) = (warnings(&cx), cx.now_s());
        if found.len() != known
            || (!found.is_empty() && now_s.saturating_sub(said_s) >= SAID_AGAIN_S)
        {
            found.iter().for_each(|warning| tracing::warn!("{warning}"));
            if found.is_empty() {
                tracing::info!("the server is healthy again: no warnings");
            }
            (known, said_s) = (found.len(), now_s);
        }
    }
}
