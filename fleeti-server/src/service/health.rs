//! What the server lacks: a signer that answers, lists that are not old, room on its disk. It goes
//! on without, and says so in time: in its log, at `/readyz`, and on its pages.

use crate::app::{App, AppRef};
use crate::db;
use crate::service::{disk, signing};
use fleeti_signer::wire::Request;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(15);
/// How long the signer may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// What goes on is said in the log again after this time.
const SAID_AGAIN_S: u64 = 3600;
/// A list that ends within this time was not made again as it should have been.
const LIST_S_MIN: u64 = 12 * 3600;
/// A certificate of the server that ends within this time was not made again for two weeks.
const IDENTITY_S_MIN: u64 = 7 * 86_400;
/// Acts that wait for the audit log, from which on it is said.
const ACTS_MANY: u64 = 1000;

/// What is known of the server's parts.
#[derive(Default)]
pub struct Health {
    /// When the signer was found not to answer, Unix seconds; 0 while it does.
    signer_away_s: AtomicU64,
    /// Acts that wait for the audit log.
    acts: AtomicU64,
    /// Bytes that are free, and of how many, beside the limits.
    pub disk: disk::Watched,
}

impl Health {
    /// Whether the signer did not answer when it was asked last.
    #[must_use]
    pub fn is_signer_away(&self) -> bool {
        self.signer_away_s.load(Ordering::SeqCst) > 0
    }
    /// Remembers whether the signer has answered.
    pub fn signer(&self, answers: bool, now_s: u64) {
        if answers {
            self.signer_away_s.store(0, Ordering::SeqCst);
        } else {
            self.signer_away_s
                .compare_exchange(0, now_s.max(1), Ordering::SeqCst, Ordering::SeqCst)
                .ok();
        }
    }
}

fn spoken(s: u64) -> String {
    match s {
        0..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / 86_400),
    }
}

/// What is wrong, in words; nothing of it keeps a device away.
#[must_use]
pub fn warnings(app: &App) -> Vec<String> {
    let now_s = app.now_s();
    let mut said = Vec::new();
    let away_s = app.health.signer_away_s.load(Ordering::SeqCst);
    if away_s > 0 {
        let since = spoken(now_s.saturating_sub(away_s));
        said.push(format!(
            "the signer has not answered for {since}: devices are served, but none enrolls or renews, and no release is signed; start \
             fleeti-signer, or look into its log"
        ));
    }
    let list_ends_s = app.tls.list_ends_s();
    match list_ends_s.checked_sub(now_s) {
        None => said.push(format!(
            "the devices' revocation list has ended {} ago and was not made again: the database alone says who is revoked",
            spoken(now_s - list_ends_s)
        )),
        Some(left_s) if left_s < LIST_S_MIN => {
            said.push(format!("the devices' revocation list ends in {} and was not made again", spoken(left_s)));
        }
        Some(_) => {}
    }
    match app.tls.identity_ends_s().checked_sub(now_s) {
        None => said.push("the server's own certificate has ended: no device can connect until the signer answers".into()),
        Some(left_s) if left_s < IDENTITY_S_MIN => {
            said.push(format!("the server's own certificate ends in {}, and no device can connect then", spoken(left_s)));
        }
        Some(_) => {}
    }
    let acts = app.health.acts.load(Ordering::SeqCst);
    if acts >= ACTS_MANY {
        said.push(format!(
            "{acts} acts wait for the audit log; at {} nobody can change anything here",
            db::audit::WAITING_MAX
        ));
    }
    said.extend(app.health.disk.warning());
    said
}

/// Looks whether the signer answers and how full the disk is, now.
pub async fn look(app: &App) {
    let answers = signing::ask_for(&app.signer, Request::Issuers, PATIENCE).await.is_ok();
    app.health.signer(answers, app.now_s());
    if let Ok(acts) = db::audit::count(app.db.pool()).await {
        app.health.acts.store(acts, Ordering::SeqCst);
    }
    app.health.disk.look(&app.config);
    // A connection that a full disk has broken is opened again, also where nobody else writes.
    if let Err(e) = app.db.write().await {
        tracing::warn!("the database takes no changes: {e}");
    }
}

/// Looks again and again until the task is ended, and says what it finds: at once what is new, and
/// the rest every hour.
pub async fn watch(app: AppRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut said_s) = (0, 0);
    loop {
        clock.tick().await;
        look(&app).await;
        let (found, now_s) = (warnings(&app), app.now_s());
        if found.len() != known
            || (!found.is_empty() && now_s.saturating_sub(said_s) >= SAID_AGAIN_S)
        {
            found.iter().for_each(|warning| tracing::warn!("{warning}"));
            if found.is_empty() {
                tracing::info!("nothing is missing any more");
            }
            (known, said_s) = (found.len(), now_s);
        }
    }
}
