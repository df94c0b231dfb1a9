//! What the device has heard that holds for every device: the intermediates that count, the audit log's statements, and
//! releases that were revoked. It is kept, so that a server that is somebody else's tomorrow cannot make it unheard.

use crate::http::read_limited;
use crate::image::{ImageFacts, log_key, running_release};
use crate::{Paths, now_s, write_durably};
use anyhow::{Context, Result};
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::device::{LogGrowth, Notice, REVOKED_MAX, SignedBundle, TEXT_MAX};
use fleeti_pki::audit::verify_growth;
use fleeti_pki::bundle::{self, BYTES_MAX, VerifiedBundle};
use fleeti_pki::certificate;
use fleeti_pki::transparency::note::VerifiedCheckpoint;
use serde::{Deserialize, Serialize};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Largest proof that is read.
const GROWTH_MAX: usize = 64 * 1024;
const DAY_S: u64 = 86_400;
/// How long a server may fail to prove that the audit log only grew.
const UNPROVED_S_MAX: u64 = 3 * DAY_S;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The newest statement of the audit log that was believed.
    #[serde(default)]
    checkpoint: Option<String>,
    /// Newer than what ran when they were heard of.
    #[serde(default)]
    revoked_releases: Vec<ReleaseName>,
    /// What should not be, in words; it stays.
    #[serde(default)]
    alarm: Option<String>,
    /// Since when the server has not proved what it states, Unix seconds.
    #[serde(default)]
    unproved_since_s: Option<u64>,
    /// Version of the bundle that is used.
    #[serde(default)]
    trust_bundle: u64,
}

/// Why a statement of the audit log is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The log has two histories.
    #[error("{0}")]
    Split(String),
    /// It is not by this log, or not of now.
    #[error("a statement of the audit log is not to be believed: {0}")]
    Forged(String),
    /// It is much older than another one.
    #[error("a statement of the audit log is old: {0}")]
    Old(String),
    /// The server did not prove that the log goes on from what was heard.
    #[error("the proof that the audit log only grew: {0:#}")]
    Unproved(anyhow::Error),
    /// Something failed here.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What the device has heard.
#[derive(Debug)]
pub struct Heard {
    paths: Paths,
    kept: Mutex<Kept>,
    /// Held while a statement is compared with the one that is kept.
    comparing: tokio::sync::Mutex<()>,
    /// There is something to report.
    pub changed: Notify,
    /// There is a new trust bundle: TLS is to be set up anew.
    pub bundle_changed: Notify,
}

fn bundle_path(paths: &Paths) -> std::path::PathBuf {
    paths.state.join("trust-bundle.json")
}

/// The bundle that this device has taken, verified again.
///
/// # Errors
/// When it is not by the image's root.
pub fn bundle(paths: &Paths) -> Result<Option<VerifiedBundle>> {
    let bytes = match fs::read(bundle_path(paths)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    read(paths, &bytes).map(Some)
}

fn read(paths: &Paths, bytes: &[u8]) -> Result<VerifiedBundle> {
    let root = certificate::from_pem(&fs::read_to_string(paths.lib.join("trust/root.pem"))?)?;
    let signed: SignedBundle = serde_json::from_slice(bytes).context("the trust bundle")?;
    Ok(bundle::read(&signed, &root)?)
}

impl Heard {
    /// What was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(paths: &Paths) -> Result<Self> {
        let kept = match fs::read(paths.state.join("heard.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("heard.json")?,
            Err(_) => Kept::default(),
        };
        let trust_bundle = bundle(paths)?.map_or(0, |b| b.version());
        let kept = Kept { trust_bundle, ..kept };
        let (changed, bundle_changed) = (Notify::new(), Notify::new());
        Ok(Self { paths: paths.clone(), kept: Mutex::new(kept), comparing: tokio::sync::Mutex::default(), changed, bundle_changed })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the device has heard that this release was revoked.
    #[must_use]
    pub fn is_revoked(&self, release: &ReleaseName) -> bool {
        self.lock().revoked_releases.contains(release)
    }

    /// Version of the trust bundle, and the alarm.
    #[must_use]
    pub fn report(&self) -> (u64, Option<String>) {
        let kept = self.lock();
        (kept.trust_bundle, kept.alarm.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> Result<()> {
        let mut kept = self.lock();
        change(&mut kept);
        Ok(write_durably(&self.paths.state.join("heard.json"), &serde_json::to_vec(&*kept)?)?)
    }

    fn raise(&self, alarm: String) -> Result<()> {
        tracing::error!("{alarm}");
        self.change(|kept| {
            // The first one: what comes after it may be of the attacker's making.
            kept.alarm.get_or_insert(alarm.chars().take(TEXT_MAX / 4).collect());
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// An operator's word on a release, after which its revocation is forgotten.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn forgive(&self, release: &ReleaseName) -> Result<()> {
        if self.is_revoked(release) {
            self.change(|kept| kept.revoked_releases.retain(|r| r != release))?;
        }
        Ok(())
    }

    /// An operator has looked into the alarm.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn clear_alarm(&self) -> Result<()> {
        self.change(|kept| kept.alarm = None)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Listens to notices until nobody sends any more. The newest is enough: each says everything.
    pub async fn run(&self, mut notices: watch::Receiver<Option<Notice>>, http: &reqwest::Client, https_url: &str) {
        while notices.changed().await.is_ok() {
            let Some(notice) = notices.borrow_and_update().clone() else { continue };
            if let Err(e) = self.listen(&notice, http, https_url).await {
                tracing::warn!("a notice was not taken up: {e:#}; it comes again");
            }
        }
    }

    /// Takes up a notice.
    ///
    /// # Errors
    /// When the server does not answer, or what it answers is not what it announced.
    pub async fn listen(&self, notice: &Notice, http: &reqwest::Client, https_url: &str) -> Result<()> {
        self.revocations(&notice.revoked_releases)?;
        let statement = async {
            if let Some(note) = &notice.checkpoint {
                match self.statement(note, http, https_url).await {
                    // The alarm tells of it.
                    Ok(()) | Err(NotTaken::Split(_)) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            self.freshness()
        };
        let heard = statement.await;
        self.bundle_announced(notice.trust_bundle, http, https_url).await?;
        heard
    }

    /// Remembers what is newer than what runs, of its own line: the rest it would not install anyway. A full memory takes
    /// nothing more, so that nobody flushes it with names.
    fn revocations(&self, revoked: &[ReleaseName]) -> Result<()> {
        let running = running_release(&self.paths)?;
        let matters = |r: &&ReleaseName| r.line == running.line && r.version > running.version;
        let new: Vec<_> = revoked.iter().take(REVOKED_MAX).filter(matters).filter(|r| !self.is_revoked(r)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.change(|kept| {
            kept.revoked_releases.retain(|r| matters(&r));
            kept.revoked_releases.extend(new);
            kept.revoked_releases.truncate(REVOKED_MAX);
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Somebody who withholds every newer statement hides what it tells of.
    fn freshness(&self) -> Result<()> {
        let policy = ImageFacts::read(&self.paths)?.release_log;
        let remembered = self.lock().checkpoint.clone();
        let Some(note) = remembered.filter(|_| !policy.optional) else { return Ok(()) };
        let age_days = now_s().saturating_sub(log_key(&self.paths)?.verify(&note)?.stated_s()) / DAY_S;
        if age_days > u64::from(policy.age_days_max) {
            let allowed = policy.age_days_max;
            return self.raise(format!("the newest statement of the audit log is {age_days} days old, {allowed} are allowed"));
        }
        Ok(())
    }

    /// Takes up a statement. A log of which the device has seen one goes on from there, or it has two histories, and the alarm
    /// is raised.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn statement(&self, note: &str, http: &reqwest::Client, https_url: &str) -> Result<(), NotTaken> {
        // Notices and releases bring them: what one compares with, another does not replace meanwhile.
        let _alone = self.comparing.lock().await;
        let remembered = self.lock().checkpoint.clone();
        let policy = ImageFacts::read(&self.paths)?.release_log;
        if remembered.as_deref() == Some(note) || policy.optional {
            return Ok(());
        }
        let key = log_key(&self.paths)?;
        let stated = key.verify(note).map_err(|e| NotTaken::Forged(e.to_string()))?;
        let Some(old) = remembered.map(|text| key.verify(&text).context("heard.json")).transpose()? else {
            return Ok(self.change(|kept| kept.checkpoint = Some(note.to_owned()))?);
        };
        let now_s = now_s();
        if now_s >= old.stated_s() && stated.stated_s() > now_s + DAY_S {
            return Err(NotTaken::Forged(format!("it is from the future: {}", stated.stated_s())));
        }
        let older_days = old.stated_s().saturating_sub(stated.stated_s()) / DAY_S;
        if older_days > u64::from(policy.age_days_max) {
            return Err(NotTaken::Old(format!("it is {older_days} days older than one that was heard before")));
        }
        // Statements may come in another order than they were made in: the smaller one leads to the larger one.
        let (was, is) = (old.checkpoint().size, stated.checkpoint().size);
        let (smaller, larger) = if is >= was { (&old, &stated) } else { (&stated, &old) };
        let proof = match growth(smaller, larger, http, https_url).await {
            Ok(hashes) => hashes,
            Err(e) => {
                self.unproved(now_s)?;
                return Err(NotTaken::Unproved(e));
            }
        };
        if let Err(e) = verify_growth(smaller, larger, &proof) {
            let split = format!("the audit log had {was} entries and has {is} now: {e}");
            self.raise(split.clone())?;
            return Err(NotTaken::Split(split));
        }
        Ok(self.change(|kept| {
            kept.unproved_since_s = None;
            if is >= was {
                kept.checkpoint = Some(note.to_owned());
            }
        })?)
    }

    /// A server that never proves what it states hides something.
    fn unproved(&self, now_s: u64) -> Result<()> {
        let since_s = *self.lock().unproved_since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) > UNPROVED_S_MAX {
            return self.raise(format!("the server has not proved for {} days that the audit log only grew", UNPROVED_S_MAX / DAY_S));
        }
        self.change(|_| ())
    }

    async fn bundle_announced(&self, version: u64, http: &reqwest::Client, https_url: &str) -> Result<()> {
        let known = self.lock().trust_bundle;
        if version < known {
            return self.raise(format!("the server has trust bundle {version}, this device has {known} already"));
        }
        if version == known {
            return Ok(());
        }
        let response = http.get(format!("{https_url}/trust-bundle.json")).timeout(PATIENCE).send().await?.error_for_status()?;
        let bytes = read_limited(response, BYTES_MAX * 2).await?;
        let bundle = read(&self.paths, &bytes)?;
        anyhow::ensure!(bundle.version() > known, "the server announced trust bundle {version} and gave {}", bundle.version());
        write_durably(&bundle_path(&self.paths), &bytes)?;
        self.lock().trust_bundle = bundle.version();
        tracing::info!("trust bundle {} is taken", bundle.version());
        self.changed.notify_one();
        self.bundle_changed.notify_one();
        Ok(())
    }
}

/// Hashes from the smaller statement to the larger one; none where they are equally large.
async fn growth(smaller: &VerifiedCheckpoint, larger: &VerifiedCheckpoint, http: &reqwest::Client, https_url: &str) -> Result<Vec<String>> {
    let (from, to) = (smaller.checkpoint().size, larger.checkpoint().size);
    if from == to {
        return Ok(vec![]);
    }
    let url = format!("{https_url}/log/growth.json?from={from}&to={to}");
    let response = http.get(url).timeout(PATIENCE).send().await?.error_for_status()?;
    Ok(serde_json::from_slice::<LogGrowth>(&read_limited(response, GROWTH_MAX).await?)?.hashes)
}
