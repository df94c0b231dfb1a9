//! The announcements: intermediate CAs that count, checkpoints of the audit log, and revoked
//! releases. They are stored, so that an attacker who takes over the server later cannot make the
//! device forget them.

use crate::backoff::Backoff;
use crate::http::{read_document, read_limited};
use crate::image::{self, running_release};
use crate::{Paths, anchors, identity, kept, transitions, trust_bundle, write_durably};
use anyhow::{Context, Result};
use fleeti_core::id::ReleaseName;
use fleeti_core::strict;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::device::{LogConsistency, Notice, REVOKED_MAX, SignedBundle, TEXT_MAX};
use fleeti_pki::audit::verify_log_consistency;
use fleeti_pki::bundle::{self, BYTES_MAX};
use fleeti_pki::certificate;
use fleeti_pki::transition::Anchors;
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use x509_cert::Certificate;

/// Maximum size of a consistency proof.
const CONSISTENCY_MAX: usize = 64 * 1024;
const DAY_S: u64 = 86_400;
/// How long a server may fail to prove that the audit log is append-only.
const UNPROVED_S_MAX: u64 = 3 * DAY_S;
/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum number of remembered audit logs: those of the images in both slots, and some older ones.
const LOGS_MAX: usize = 8;

/// What is remembered of one audit log.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct KeptLog {
    /// The newest accepted checkpoint.
    #[serde(default)]
    checkpoint: Option<String>,
    /// When the last applied reset was signed, Unix seconds.
    #[serde(default)]
    reset_s: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The checkpoint from an agent that knew one audit log only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    /// By the text of the log's key.
    #[serde(default)]
    logs: BTreeMap<String, KeptLog>,
    /// Those newer than the version that ran when they were announced.
    #[serde(default)]
    revoked_releases: Vec<ReleaseName>,
    /// The alarm, as [`AlarmKind::text`]; it stays until an operator clears it.
    #[serde(default)]
    alarm: Option<String>,
    /// Since when the server has not proved its checkpoints, Unix seconds.
    #[serde(default)]
    unproved_since_s: Option<u64>,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The log has two histories.
    #[error("{0}")]
    Split(String),
    /// The checkpoint is not signed by this log, or its time is wrong.
    #[error("a checkpoint of the audit log is invalid: {0}")]
    Forged(String),
    /// The checkpoint is much older than a known one.
    #[error("a checkpoint of the audit log is too old: {0}")]
    Old(String),
    /// The server did not prove that the log is consistent with the known checkpoint.
    #[error("the consistency proof of the audit log: {0:#}")]
    Unproved(anyhow::Error),
    /// A local failure.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// The stored announcements.
#[derive(Debug)]
pub struct Announcements {
    paths: Paths,
    kept: Mutex<Kept>,
    anchors: Mutex<Anchors>,
    /// Digest of the list of transitions that was processed last.
    transitions: Mutex<Option<String>>,
    /// Version of the newest root's trust bundle.
    trust_bundle: AtomicU64,
    /// Held while a checkpoint is compared with the stored one.
    comparing: tokio::sync::Mutex<()>,
    /// Something has to be reported.
    pub changed: Notify,
    /// There is a newer checkpoint of the audit log, which states the time.
    pub stated: Notify,
    /// There is a new trust bundle, or the server has moved: the daemon restarts and sets up TLS
    /// again.
    pub bundle_changed: Notify,
}

impl Announcements {
    /// Opens the stored announcements. Unreadable files are set aside, with an alarm.
    ///
    /// # Errors
    /// If the image's trust anchors cannot be read, or nothing can be stored.
    pub fn open(paths: &Paths) -> Result<Self> {
        let kept =
            kept::read(&paths.state.join("announcements.json"), kept::json).unwrap_or_default();
        let announcements = Self {
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
        announcements.take_up_anchors()?;
        // Also detects damaged bundles, which are reported below.
        announcements.look_at_bundles()?;
        announcements.report_broken(&kept::unreported(&paths.state))?;
        kept::reported(&paths.state);
        Ok(announcements)
    }

    /// Reports files of the daemon or the helper that could not be used.
    ///
    /// # Errors
    /// If the alarm cannot be stored.
    pub fn report_broken(&self, reasons: &[String]) -> Result<()> {
        if reasons.is_empty() {
            return Ok(());
        }
        // Each was logged when its file was set aside.
        let reasons = reasons.join("; ");
        // Files are read one after the other. The first text stays: an alarm that stands is not
        // replaced.
        let alarm = match self.lock().alarm.as_deref() {
            Some(before) => format!("{before}; {reasons}"),
            None => AlarmKind::StateUnusable.text(reasons),
        };
        let alarm = alarm.chars().take(TEXT_MAX / 4).collect();
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

    /// Reports the newest root's bundle or, if there is none yet, that of the root before it.
    fn look_at_bundles(&self) -> Result<()> {
        let mut version = 0;
        for root in self.anchors().roots() {
            version = trust_bundle::of_root(&self.paths, root)?.map_or(version, |b| b.version());
        }
        self.trust_bundle.store(version, Ordering::Relaxed);
        Ok(())
    }

    /// Assigns a checkpoint from before logs had names to this log, and applies a signed reset
    /// once.
    fn take_up_anchors(&self) -> Result<()> {
        let anchors = self.anchors();
        let (key, name) = (anchors.log(), anchors.log().to_text());
        // It is kept there as well, for the agent of an older image.
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
            "the audit log continues from {} entries, signed by release keys",
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

    /// Fetches the server's transitions if they are not those processed last.
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
        let given = transitions::fetch(http, https_url).await?;
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

    /// Whether this release is known to be revoked.
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
        Ok(write_durably(
            &self.paths.state.join("announcements.json"),
            &serde_json::to_vec(&*kept)?,
        )?)
    }

    fn raise(&self, kind: AlarmKind, words: &str) -> Result<()> {
        let alarm = kind.text(words);
        tracing::error!("{alarm}");
        self.change(|kept| {
            // The first alarm is kept: later ones may be caused by the attacker.
            kept.alarm.get_or_insert(alarm.chars().take(TEXT_MAX / 4).collect());
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Forgets the revocation of a release, after an operator's decision.
    ///
    /// # Errors
    /// If the change cannot be stored.
    pub fn forgive(&self, release: &ReleaseName) -> Result<()> {
        if self.is_revoked(release) {
            self.change(|kept| kept.revoked_releases.retain(|r| r != release))?;
        }
        Ok(())
    }

    /// Clears the alarm, after an operator has investigated it.
    ///
    /// # Errors
    /// If the change cannot be stored.
    pub fn clear_alarm(&self) -> Result<()> {
        self.change(|kept| kept.alarm = None)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Processes notices until the channel closes. Only the newest counts, because each is
    /// complete. A failed one is retried until the next one arrives, which may take the server an
    /// hour.
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
                tracing::warn!("a notice was not processed, and will be retried: {e:#}");
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

    /// Processes a notice.
    ///
    /// # Errors
    /// If the server does not answer, or its answers do not match the notice.
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
        let checkpoint = async {
            if let Some(note) = &notice.checkpoint {
                match self.take_checkpoint(note, http, https_url).await {
                    // The alarm reports it.
                    Ok(()) | Err(NotTaken::Split(_)) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            self.freshness()
        };
        let announcements = checkpoint.await;
        self.bundle_announced(notice, http, https_url).await?;
        announcements
    }

    /// Remembers revoked releases of this line that are newer than the running one; older ones
    /// would not be installed anyway. When the memory is full, new names do not replace old ones.
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

    /// An attacker who withholds newer checkpoints hides what they would prove.
    fn freshness(&self) -> Result<()> {
        let policy = image::facts(&self.paths)?.release_log;
        let key = self.log_key();
        let Some(note) = self.checkpoint(&key).filter(|_| !policy.optional) else { return Ok(()) };
        let age_days =
            self.paths.clock.now_s().saturating_sub(key.verify(&note)?.stated_s()) / DAY_S;
        if age_days > u64::from(policy.age_days_max) {
            let allowed = policy.age_days_max;
            let words = format!(
                "the newest checkpoint of the audit log is {age_days} days old, {allowed} are allowed"
            );
            return self.raise(AlarmKind::LogStale, &words);
        }
        Ok(())
    }

    /// Processes a checkpoint. It must be consistent with the known one; otherwise the log has two
    /// histories, and the alarm is raised.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn take_checkpoint(
        &self,
        note: &str,
        http: &reqwest::Client,
        https_url: &str,
    ) -> Result<(), NotTaken> {
        // Notices and releases both bring checkpoints. The lock keeps one from replacing the stored
        // checkpoint while another is compared with it.
        let _alone = self.comparing.lock().await;
        let key = self.log_key();
        let remembered = self.checkpoint(&key);
        let policy = image::facts(&self.paths)?.release_log;
        if remembered.as_deref() == Some(note) || policy.optional {
            return Ok(());
        }
        let stated = key.verify(note).map_err(|e| NotTaken::Forged(e.to_string()))?;
        let clock = &self.paths.clock;
        let now_s = clock.now_s();
        if clock.is_plausible() && stated.stated_s() > now_s + DAY_S {
            return Err(NotTaken::Forged(format!("it is from the future: {}", stated.stated_s())));
        }
        // The stored checkpoint was verified before it was stored. If it does not verify any more,
        // it is not of this log.
        let Some(old) = remembered.and_then(|text| key.verify(&text).ok()) else {
            clock.raise(stated.stated_s());
            return Ok(self.keep_checkpoint(&key, note)?);
        };
        let older_days = old.stated_s().saturating_sub(stated.stated_s()) / DAY_S;
        if older_days > u64::from(policy.age_days_max) {
            return Err(NotTaken::Old(format!("it is {older_days} days older than a known one")));
        }
        // Checkpoints may arrive in another order than they were made: the smaller log must be a
        // prefix of the larger one.
        let (was, is) = (old.checkpoint().size, stated.checkpoint().size);
        let (smaller, larger) = if is >= was { (&old, &stated) } else { (&stated, &old) };
        let proof = match consistency(smaller, larger, http, https_url).await {
            Ok(hashes) => hashes,
            Err(e) => {
                self.unproved(now_s)?;
                return Err(NotTaken::Unproved(e));
            }
        };
        if let Err(e) = verify_log_consistency(smaller, larger, &proof) {
            let split = format!("the audit log had {was} entries and has {is} now: {e}");
            self.raise(AlarmKind::LogSplit, &split)?;
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
    pub fn newest_checkpoint(&self) -> Option<(String, u64)> {
        let key = self.log_key();
        let note = self.checkpoint(&key)?;
        let size = key.verify(&note).ok()?.checkpoint().size;
        Some((note, size))
    }

    /// A server that never proves its checkpoints hides something.
    fn unproved(&self, now_s: u64) -> Result<()> {
        let since_s = *self.lock().unproved_since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) > UNPROVED_S_MAX {
            let words = format!(
                "the server has sent no consistency proof of the audit log for {} days",
                UNPROVED_S_MAX / DAY_S
            );
            return self.raise(AlarmKind::LogUnproved, &words);
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
        // Numbers of another root's bundles cannot be compared with these.
        let Some(root) = anchors.roots().iter().rev().find(is_named) else { return Ok(()) };
        let (version, known) = (
            notice.trust_bundle,
            trust_bundle::of_root(&self.paths, root)?.map_or(0, |b| b.version()),
        );
        if version < known {
            let words =
                format!("the server has trust bundle {version}, this device has {known} already");
            return self.raise(AlarmKind::BundleOlder, &words);
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
        write_durably(&trust_bundle::path(&self.paths, &certificate::fingerprint(root)?), &bytes)?;
        self.look_at_bundles()?;
        tracing::info!("trust bundle {} is accepted", bundle.version());
        self.changed.notify_one();
        self.bundle_changed.notify_one();
        Ok(())
    }
}

/// The consistency proof from the smaller log to the larger one; empty if they are equally large.
async fn consistency(
    smaller: &VerifiedCheckpoint,
    larger: &VerifiedCheckpoint,
    http: &reqwest::Client,
    https_url: &str,
) -> Result<Vec<String>> {
    let (from, to) = (smaller.checkpoint().size, larger.checkpoint().size);
    if from == to {
        return Ok(vec![]);
    }
    let url = format!("{https_url}/log/consistency.json?from={from}&to={to}");
    let response = http.get(url).timeout(PATIENCE).send().await?.error_for_status()?;
    Ok(read_document::<LogConsistency>("log/consistency.json", response, CONSISTENCY_MAX)
        .await?
        .hashes)
}
