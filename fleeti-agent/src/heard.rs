//! What the device has heard that holds for every device: the intermediates that count, the audit
//! log's statements, and releases that were revoked. It is kept, so that a server that is somebody
//! else's tomorrow cannot make it unheard.

use crate::backoff::Backoff;
use crate::http::{read_document, read_limited};
use crate::image::{ImageFacts, running_release};
use crate::{Paths, anchors, identity, kept, write_durably};
use anyhow::{Context, Result};
use fleeti_core::id::ReleaseName;
use fleeti_core::strict;
use fleeti_core::wire::device::{LogGrowth, Notice, REVOKED_MAX, SignedBundle, TEXT_MAX};
use fleeti_pki::audit::verify_growth;
use fleeti_pki::bundle::{self, BYTES_MAX, VerifiedBundle};
use fleeti_pki::certificate;
use fleeti_pki::transition::Anchors;
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use x509_cert::Certificate;

/// Largest proof that is read.
const GROWTH_MAX: usize = 64 * 1024;
const DAY_S: u64 = 86_400;
/// How long a server may fail to prove that the audit log only grew.
const UNPROVED_S_MAX: u64 = 3 * DAY_S;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Audit logs that are remembered: those of the images of both slots, and some before them.
const LOGS_MAX: usize = 8;

/// What is remembered of one audit log.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct KeptLog {
    /// The newest statement that was believed.
    #[serde(default)]
    checkpoint: Option<String>,
    /// When the last reset was signed that was applied, Unix seconds.
    #[serde(default)]
    reset_s: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Of one log only, before there could be another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    /// By the text of the log's key.
    #[serde(default)]
    logs: BTreeMap<String, KeptLog>,
    /// Newer than what ran when they were heard of.
    #[serde(default)]
    revoked_releases: Vec<ReleaseName>,
    /// What should not be, in words; it stays.
    #[serde(default)]
    alarm: Option<String>,
    /// Since when the server has not proved what it states, Unix seconds.
    #[serde(default)]
    unproved_since_s: Option<u64>,
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
    anchors: Mutex<Anchors>,
    /// Digest of the list of transitions that was looked at last.
    transitions: Mutex<Option<String>>,
    /// Version of the newest root's bundle.
    trust_bundle: AtomicU64,
    /// Held while a statement is compared with the one that is kept.
    comparing: tokio::sync::Mutex<()>,
    /// There is something to report.
    pub changed: Notify,
    /// There is a newer statement of the audit log, which says how late it is.
    pub stated: Notify,
    /// There is a new trust bundle, or the server has moved: the daemon restarts and sets up TLS
    /// again.
    pub bundle_changed: Notify,
}

/// Bundles of two roots are kept apart: each is numbered by its own ceremony.
fn bundle_path(paths: &Paths, root_sha256: &str) -> PathBuf {
    paths.state.join(format!("trust-bundle-{}.json", root_sha256.get(..16).unwrap_or(root_sha256)))
}

/// The bundle of this root that the device has taken, verified again.
///
/// # Errors
/// When the root has no name.
pub fn bundle_of(paths: &Paths, root: &Certificate) -> Result<Option<VerifiedBundle>> {
    let path = bundle_path(paths, &certificate::fingerprint(root)?);
    let found = kept::read(&path, |bytes| Ok(bundle::read(&kept::json(bytes)?, root)?));
    // Before bundles were named after their root. One of another root is that root's.
    let unnamed = || kept::read(&paths.state.join("trust-bundle.json"), kept::json::<SignedBundle>);
    Ok(found.or_else(|| bundle::read(&unnamed()?, root).ok()))
}

impl Heard {
    /// What was kept. What cannot be read is set aside, with an alarm.
    ///
    /// # Errors
    /// When the image's anchors cannot be read, or nothing can be kept.
    pub fn open(paths: &Paths) -> Result<Self> {
        let kept = kept::read(&paths.state.join("heard.json"), kept::json).unwrap_or_default();
        let heard = Self {
            paths: paths.clone(),
            kept: Mutex::new(kept),
            anchors: Mutex::new(anchors::of_daemon(paths)?),
            transitions: Mutex::default(),
            trust_bundle: AtomicU64::new(0),
            comparing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            stated: Notify::new(),
            bundle_changed: Notify::new(),
        };
        heard.take_up_anchors()?;
        // Also so that a broken one is told of below.
        heard.look_at_bundles()?;
        heard.report_broken(&kept::unreported(&paths.state))?;
        kept::reported(&paths.state);
        Ok(heard)
    }

    /// Files that could not be used, of this half or the other one.
    ///
    /// # Errors
    /// When the alarm cannot be kept.
    pub fn report_broken(&self, reasons: &[String]) -> Result<()> {
        if reasons.is_empty() {
            return Ok(());
        }
        // Files are read one after the other. The first words stay: an alarm that stands is not
        // replaced.
        let before = self.lock().alarm.clone();
        let all: Vec<&str> =
            before.iter().map(String::as_str).chain(reasons.iter().map(String::as_str)).collect();
        let alarm: String = all.join("; ").chars().take(TEXT_MAX / 4).collect();
        tracing::error!("{}", reasons.join("; "));
        self.change(|kept| kept.alarm = Some(alarm))?;
        self.changed.notify_one();
        Ok(())
    }

    fn anchors(&self) -> Anchors {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn log_key(&self) -> LogKey {
        self.anchors().log().clone()
    }

    /// What is reported of bundles is the newest root's, or, where that has none yet, the one
    /// before it.
    fn look_at_bundles(&self) -> Result<()> {
        let mut version = 0;
        for root in self.anchors().roots() {
            version = bundle_of(&self.paths, root)?.map_or(version, |b| b.version());
        }
        self.trust_bundle.store(version, Ordering::Relaxed);
        Ok(())
    }

    /// What was kept before the log had a name becomes this log's, and a reset that is signed is
    /// applied once.
    fn take_up_anchors(&self) -> Result<()> {
        let anchors = self.anchors();
        let (key, name) = (anchors.log(), anchors.log().to_text());
        // It stays where it was for the agent of an older image.
        let unnamed = self.lock().checkpoint.clone().filter(|note| key.verify(note).is_ok());
        if !self.lock().logs.contains_key(&name)
            && let Some(note) = unnamed
        {
            self.change(|kept| {
                drop(kept.logs.insert(name.clone(), KeptLog { checkpoint: Some(note), reset_s: 0 }))
            })?;
        }
        let Some(reset) = anchors.reset() else { return Ok(()) };
        if reset.issued_s <= self.lock().logs.get(&name).map_or(0, |log| log.reset_s) {
            return Ok(());
        }
        tracing::warn!(
            "the audit log goes on from {} entries: this was signed by release keys",
            reset.checkpoint.checkpoint().size
        );
        self.change(|kept| {
            kept.logs.insert(
                name,
                KeptLog { checkpoint: Some(reset.note.clone()), reset_s: reset.issued_s },
            );
            (kept.alarm, kept.unproved_since_s) = (None, None);
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Asks for the server's transitions where it has others than those that were looked at.
    async fn transitions_announced(
        &self,
        sha256: &str,
        http: &reqwest::Client,
        https_url: &str,
    ) -> Result<()> {
        if self.transitions.lock().unwrap_or_else(PoisonError::into_inner).as_deref()
            == Some(sha256)
        {
            return Ok(());
        }
        let given = anchors::fetch(http, https_url).await?;
        if anchors::take(&self.paths, &self.paths.state, &given)? {
            let roots = self.anchors().roots().len();
            let anchors = anchors::of_daemon(&self.paths)?;
            let has_other_roots =
                anchors.roots().len() != roots || anchors.roots() != self.anchors().roots();
            let has_moved = identity::follow(&self.paths, anchors.moves())?;
            *self.anchors.lock().unwrap_or_else(PoisonError::into_inner) = anchors;
            self.take_up_anchors()?;
            self.look_at_bundles()?;
            if has_other_roots || has_moved {
                self.bundle_changed.notify_one();
            }
        }
        *self.transitions.lock().unwrap_or_else(PoisonError::into_inner) = Some(sha256.to_owned());
        Ok(())
    }

    fn checkpoint(&self, key: &LogKey) -> Option<String> {
        self.lock().logs.get(&key.to_text()).and_then(|log| log.checkpoint.clone())
    }

    fn keep_checkpoint(&self, key: &LogKey, note: &str) -> Result<()> {
        let name = key.to_text();
        self.stated.notify_one();
        self.change(|kept| {
            kept.logs.entry(name.clone()).or_default().checkpoint = Some(note.to_owned());
            while kept.logs.len() > LOGS_MAX {
                let other = kept.logs.keys().find(|k| **k != name).cloned();
                other.map(|o| kept.logs.remove(&o));
            }
        })
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
        (self.trust_bundle.load(Ordering::Relaxed), self.lock().alarm.clone())
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
    /// One that could not be taken up is tried again until the next one comes, which may take the
    /// server an hour.
    pub async fn run(
        &self,
        mut notices: watch::Receiver<Option<Notice>>,
        http: &reqwest::Client,
        https_url: &str,
    ) {
        while notices.changed().await.is_ok() {
            let mut backoff = Backoff::default();
            loop {
                let Some(notice) = notices.borrow_and_update().clone() else { break };
                let Err(e) = self.listen(&notice, http, https_url).await else { break };
                tracing::warn!("a notice was not taken up, and is tried again: {e:#}");
                tokio::select! {
                    () = backoff.wait() => {}
                    next = notices.changed() => match next {
                        Ok(()) => backoff.reset(),
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// Takes up a notice.
    ///
    /// # Errors
    /// When the server does not answer, or what it answers is not what it announced.
    pub async fn listen(
        &self,
        notice: &Notice,
        http: &reqwest::Client,
        https_url: &str,
    ) -> Result<()> {
        self.revocations(&notice.revoked_releases)?;
        if let Some(sha256) = &notice.transitions {
            self.transitions_announced(sha256, http, https_url).await?;
        }
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
        self.bundle_announced(notice, http, https_url).await?;
        heard
    }

    /// Remembers what is newer than what runs, of its own line: the rest it would not install
    /// anyway. A full memory takes nothing more, so that nobody flushes it with names.
    fn revocations(&self, revoked: &[ReleaseName]) -> Result<()> {
        let running = running_release(&self.paths)?;
        let matters = |r: &&ReleaseName| r.line == running.line && r.version > running.version;
        let new: Vec<_> = revoked
            .iter()
            .take(REVOKED_MAX)
            .filter(matters)
            .filter(|r| !self.is_revoked(r))
            .cloned()
            .collect();
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
        let key = self.log_key();
        let Some(note) = self.checkpoint(&key).filter(|_| !policy.optional) else { return Ok(()) };
        let age_days =
            self.paths.clock.now_s().saturating_sub(key.verify(&note)?.stated_s()) / DAY_S;
        if age_days > u64::from(policy.age_days_max) {
            let allowed = policy.age_days_max;
            return self.raise(format!("the newest statement of the audit log is {age_days} days old, {allowed} are allowed"));
        }
        Ok(())
    }

    /// Takes up a statement. A log of which the device has seen one goes on from there, or it has
    /// two histories, and the alarm is raised.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn statement(
        &self,
        note: &str,
        http: &reqwest::Client,
        https_url: &str,
    ) -> Result<(), NotTaken> {
        // Notices and releases bring them: what one compares with, another does not replace
        // meanwhile.
        let _alone = self.comparing.lock().await;
        let key = self.log_key();
        let remembered = self.checkpoint(&key);
        let policy = ImageFacts::read(&self.paths)?.release_log;
        if remembered.as_deref() == Some(note) || policy.optional {
            return Ok(());
        }
        let stated = key.verify(note).map_err(|e| NotTaken::Forged(e.to_string()))?;
        let clock = &self.paths.clock;
        let now_s = clock.now_s();
        if clock.is_plausible() && stated.stated_s() > now_s + DAY_S {
            return Err(NotTaken::Forged(format!("it is from the future: {}", stated.stated_s())));
        }
        // What is kept was verified before it was; what does not verify any more is no statement of
        // this log.
        let Some(old) = remembered.and_then(|text| key.verify(&text).ok()) else {
            clock.raise(stated.stated_s());
            return Ok(self.keep_checkpoint(&key, note)?);
        };
        let older_days = old.stated_s().saturating_sub(stated.stated_s()) / DAY_S;
        if older_days > u64::from(policy.age_days_max) {
            return Err(NotTaken::Old(format!(
                "it is {older_days} days older than one that was heard before"
            )));
        }
        // Statements may come in another order than they were made in: the smaller one leads to the
        // larger one.
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
        clock.raise(stated.stated_s());
        self.change(|kept| kept.unproved_since_s = None)?;
        if is >= was {
            self.keep_checkpoint(&key, note)?;
        }
        Ok(())
    }

    /// The newest verified checkpoint of the audit log, as a signed note, and its tree size in
    /// entries.
    #[must_use]
    pub fn newest_statement(&self) -> Option<(String, u64)> {
        let key = self.log_key();
        let note = self.checkpoint(&key)?;
        let size = key.verify(&note).ok()?.checkpoint().size;
        Some((note, size))
    }

    /// A server that never proves what it states hides something.
    fn unproved(&self, now_s: u64) -> Result<()> {
        let since_s = *self.lock().unproved_since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) > UNPROVED_S_MAX {
            return self.raise(format!(
                "the server has not proved for {} days that the audit log only grew",
                UNPROVED_S_MAX / DAY_S
            ));
        }
        self.change(|_| ())
    }

    async fn bundle_announced(
        &self,
        notice: &Notice,
        http: &reqwest::Client,
        https_url: &str,
    ) -> Result<()> {
        let anchors = self.anchors();
        let is_named = |root: &&Certificate| {
            let name = notice.root_sha256.as_ref();
            name.is_none_or(|name| certificate::fingerprint(root).is_ok_and(|f| f == *name))
        };
        // The numbers of another root's bundles are no older or newer than these.
        let Some(root) = anchors.roots().iter().rev().find(is_named) else { return Ok(()) };
        let (version, known) =
            (notice.trust_bundle, bundle_of(&self.paths, root)?.map_or(0, |b| b.version()));
        if version < known {
            return self.raise(format!(
                "the server has trust bundle {version}, this device has {known} already"
            ));
        }
        if version == known {
            return Ok(());
        }
        let response = http
            .get(format!("{https_url}/trust-bundle.json"))
            .timeout(PATIENCE)
            .send()
            .await?
            .error_for_status()?;
        let bytes = read_limited(response, BYTES_MAX * 2).await.context("the trust bundle")?;
        let signed: SignedBundle = strict::from_slice(&bytes).context("the trust bundle")?;
        let bundle = bundle::read(&signed, root)?;
        anyhow::ensure!(
            bundle.version() > known,
            "the server announced trust bundle {version} and gave {}",
            bundle.version()
        );
        write_durably(&bundle_path(&self.paths, &certificate::fingerprint(root)?), &bytes)?;
        self.look_at_bundles()?;
        tracing::info!("trust bundle {} is taken", bundle.version());
        self.changed.notify_one();
        self.bundle_changed.notify_one();
        Ok(())
    }
}

/// Hashes from the smaller statement to the larger one; none where they are equally large.
async fn growth(
    smaller: &VerifiedCheckpoint,
    larger: &VerifiedCheckpoint,
    http: &reqwest::Client,
    https_url: &str,
) -> Result<Vec<String>> {
    let (from, to) = (smaller.checkpoint().size, larger.checkpoint().size);
    if from == to {
        return Ok(vec![]);
    }
    let url = format!("{https_url}/log/growth.json?from={from}&to={to}");
    let response = http.get(url).timeout(PATIENCE).send().await?.error_for_status()?;
    Ok(read_document::<LogGrowth>("log/growth.json", response, GROWTH_MAX).await?.hashes)
}
