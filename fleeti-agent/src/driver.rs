//! Turns input into events for `fleeti_core::update::step`, stores the state, and applies the
//! effects.

mod jobs;
mod observed;

use crate::announcements::Announcements;
use crate::image;
use crate::outbox::Outbox;
use crate::privileged::Helper;
use crate::{Paths, kept, write_durably};
use anyhow::Result;
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::update::{self, Contact, Context, Effect, Event, FailureCode, State};
use fleeti_core::windows::{Job, May, Wait};
use fleeti_core::wire::boot::BootSummary;
use fleeti_core::wire::device::{
    DesiredState, Forgiveness, NUMBER_MAX, Progress, Report, TEXT_MAX,
};
use fleeti_core::wire::mqtt::Up;
use observed::Observed;
use serde::{Deserialize, Serialize};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, mpsc, watch};

/// The state on the data partition.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    state: State,
    generation: u64,
    sequence: u64,
    rolled_back: Vec<Version>,
    /// The desired version, also while something else has to finish first.
    desired: Option<Version>,
    /// Whether the desired version is one to go back to.
    #[serde(default)]
    is_back: bool,
    /// Number of the last forgiveness that was applied.
    forgiveness: Option<u64>,
    /// Number of the newest requested change of the Secure Boot variables.
    #[serde(default)]
    boot_change: u64,
    /// The version that ran last and did not reach the server.
    #[serde(default)]
    unreached: Option<Unreached>,
}

/// A version that ran and did not reach the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unreached {
    version: Version,
    /// How often the previous version reached the server after this one had not: counts against it.
    trials: u8,
    /// How often it ran, outages included: determines the next delay.
    tries: u32,
}

/// The update driver.
pub struct Driver {
    paths: Paths,
    helper: Helper,
    outbox: Arc<Outbox>,
    http: reqwest::Client,
    https_url: String,
    boot: BootSummary,
    announcements: Arc<Announcements>,
    floor: Version,
    kept: Kept,
    /// The epoch of the reports since this start: even if the state is lost, they are newer than
    /// earlier ones.
    epoch: String,
    detail: Option<String>,
    progress: watch::Sender<Option<Progress>>,
    results: mpsc::Sender<JobResult>,
    /// The windows, and what else the device observes.
    observed: Observed,
    /// What the last report says that the update waits for.
    reported: Option<Wait>,
    /// A version is being staged.
    staging: bool,
    /// A reboot was requested, and its window is open.
    rebooting: Arc<AtomicBool>,
    /// The helper must reboot before it can arm.
    needs_reboot: bool,
    /// A staged version is being armed. That is finished in any case.
    arming: bool,
    /// A change of the Secure Boot variables is in progress.
    changing_boot: bool,
    boot_wanted: Arc<Notify>,
    boot_results: mpsc::Sender<std::result::Result<(), String>>,
}

/// What the jobs of a driver report to it.
pub struct Jobs {
    /// Results of staging and arming.
    pub results: mpsc::Receiver<JobResult>,
    /// Results of changes of the Secure Boot variables.
    pub boot: mpsc::Receiver<std::result::Result<(), String>>,
    /// Progress of a download.
    pub progress: watch::Receiver<Option<Progress>>,
}

/// The result of a background job.
#[derive(Debug)]
pub struct JobResult {
    /// The version it was for: the device may have another target when a job ends.
    target: Version,
    job: Job,
    /// `None` if the job did not begin, because its window has closed.
    event: Option<Event>,
    /// Whether the helper must reboot before it can arm.
    needs_reboot: bool,
    detail: Option<String>,
}

/// What a driver works with.
pub struct Parts {
    /// File locations.
    pub paths: Paths,
    /// The helper.
    pub helper: Helper,
    /// Messages to the server.
    pub outbox: Arc<Outbox>,
    /// HTTPS with the device's identity.
    pub http: reqwest::Client,
    /// The server's device port.
    pub https_url: String,
    /// What runs.
    pub boot: BootSummary,
    /// The announcements.
    pub announcements: Arc<Announcements>,
}

impl Driver {
    /// A driver with the stored state, and the receivers for results of its jobs.
    ///
    /// # Errors
    /// If the image or the stored state cannot be read.
    pub fn new(parts: Parts) -> Result<(Self, Jobs)> {
        let kept =
            kept::read(&parts.paths.state.join("update.json"), kept::json).unwrap_or_default();
        // Part of the next report, before anything is sent.
        parts.announcements.report_broken(&kept::unreported(&parts.paths.state))?;
        kept::reported(&parts.paths.state);
        let (results, receiver) = mpsc::channel(8);
        let (boot_results, boot_receiver) = mpsc::channel(8);
        let (progress, progress_receiver) = watch::channel(None);
        let facts = image::facts(&parts.paths)?;
        let observed = Observed::load(&parts.paths, facts.time_zone);
        let Parts { paths, helper, outbox, http, https_url, boot, announcements } = parts;
        let driver = Self {
            paths,
            helper,
            outbox,
            http,
            https_url,
            boot,
            announcements,
            floor: facts.minimum_version,
            kept,
            epoch: hex::encode(rand::random::<[u8; 8]>()),
            detail: None,
            progress,
            results,
            observed,
            reported: None,
            staging: false,
            rebooting: Arc::default(),
            needs_reboot: false,
            arming: false,
            changing_boot: false,
            boot_wanted: Arc::new(Notify::new()),
            boot_results,
        };
        Ok((driver, Jobs { results: receiver, boot: boot_receiver, progress: progress_receiver }))
    }

    /// Handles a boot, or a restart of the agent within the same boot.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn started(&mut self) -> Result<()> {
        let marker = self.paths.state.join("boot-id");
        let same_boot = fs::read_to_string(&marker).is_ok_and(|id| id == self.boot.boot_id);
        let event = if same_boot {
            Event::Resumed
        } else {
            let failed = match &self.kept.state {
                State::Staged { target, .. }
                | State::Armed { target }
                | State::Trying { target }
                    if *target != self.boot.running.version =>
                {
                    self.helper.why_failed(target.clone()).await?
                }
                _ => None,
            };
            Event::Booted(failed)
        };
        self.step(event).await?;
        write_durably(&marker, self.boot.boot_id.as_bytes())?;
        self.change_boot();
        self.go_on().await
    }

    /// Handles a desired state from the server.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn desired(&mut self, desired: DesiredState) -> Result<()> {
        if let Err(e) = desired.check() {
            tracing::error!("{e}");
            return Ok(());
        }
        self.kept.generation = desired.generation;
        if self.observed.take(&desired)? {
            // Other news may change nothing, and the server waits for the generation.
            self.report()?;
        }
        if let Some(Forgiveness { version, number }) = desired.forgiven
            && self.kept.forgiveness != Some(number)
        {
            self.kept.forgiveness = Some(number);
            self.kept.rolled_back.retain(|v| *v != version);
            self.kept.unreached.take_if(|u| u.version == version);
            // An operator's decision that is newer than the revocation.
            self.announcements.forgive(&ReleaseName {
                line: self.boot.running.line.clone(),
                version: version.clone(),
            })?;
            self.step(Event::Forgiven(version)).await?;
        }
        self.kept.boot_change = self.kept.boot_change.max(desired.boot_change.unwrap_or(0));
        self.change_boot();
        self.kept.desired = None;
        match desired.release {
            None => self.keep(),
            Some(release) if release.line != self.boot.running.line => {
                self.detail =
                    Some(format!("{release} is of another image line than {}", self.boot.running));
                self.step(Event::Refused(release.version, FailureCode::WrongImage)).await
            }
            Some(release) if self.announcements.is_revoked(&release) => {
                self.refuse_revoked(release.version).await
            }
            Some(release) => {
                self.kept.desired = Some(release.version.clone());
                self.kept.is_back = desired.back;
                let event = self.wanted(release.version);
                self.step(event).await?;
                self.go_on().await
            }
        }
    }

    /// A session with the server started in this boot.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn reached(&mut self) -> Result<()> {
        // The health checks of a boot on trial wait for it.
        self.helper.reached().await.unwrap_or_else(|e| tracing::warn!("{e:#}"));
        self.step(Event::ServerReached).await?;
        self.go_on().await
    }

    /// No session started within the time that a boot on trial has for it.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn silent(&mut self) -> Result<()> {
        self.step(Event::ServerSilent).await
    }

    /// The time as far as this device knows it, Unix seconds.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.paths.clock.now_s()
    }

    /// Handles new announcements: the target of the current update may have been revoked.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn announcements(&mut self) -> Result<()> {
        self.go_on().await?;
        self.report()
    }

    /// The event of the desired version.
    fn wanted(&self, version: Version) -> Event {
        if self.kept.is_back { Event::DesiredBack(version) } else { Event::Desired(version) }
    }

    /// Refuses a version that the device knows to be revoked.
    async fn refuse_revoked(&mut self, version: Version) -> Result<()> {
        self.detail = Some(format!("{}@{version} was revoked", self.boot.running.line));
        self.step(Event::Refused(version, FailureCode::Revoked)).await
    }

    /// Looks at the time: a window may have opened, or a program may not block shutdowns any more.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn look(&mut self) -> Result<()> {
        self.go_on().await
    }

    /// Does what no later event would trigger, and reports what the update waits for.
    async fn go_on(&mut self) -> Result<()> {
        self.observed
            .look(matches!(self.kept.state, State::Staged { .. } | State::Armed { .. }))?;
        self.proceed().await?;
        if self.waits() == self.reported { Ok(()) } else { self.report() }
    }

    /// The job that would begin next; `None` while one is in progress, or if there is nothing to
    /// do.
    fn next_job(&self) -> Option<Job> {
        let desired = self.kept.desired.as_ref().filter(|d| **d != self.boot.running.version);
        match &self.kept.state {
            State::Staging { .. } => (!self.staging).then_some(Job::Download),
            State::Staged { target, .. } => {
                let is_next = !self.arming && desired == Some(target);
                is_next.then_some(Job::Install)
            }
            State::Armed { .. } => (!self.rebooting.load(Ordering::SeqCst)).then_some(Job::Reboot),
            State::Idle | State::Unconfirmed { contact: Contact::Reached, .. } => {
                desired.map(|_| Job::Download)
            }
            State::Trying { .. } | State::Unconfirmed { .. } => None,
            State::RolledBack { target, .. } | State::Failed { target, .. } => {
                desired.filter(|d| *d != target).map(|_| Job::Download)
            }
        }
    }

    /// What the update waits for.
    fn waits(&self) -> Option<Wait> {
        match self.next_job()? {
            // A device that goes back to its other slot downloads nothing.
            Job::Download if self.goes_back() => None,
            // The install window was open, and the helper asked for a reboot first.
            Job::Install if self.needs_reboot => self.observed.wait(Job::Reboot),
            // An armed device starts the version at any power cut. Without a window of its own to
            // install in, it is armed only where it reboots at once.
            Job::Install if self.observed.has_install_windows() => self.observed.wait(Job::Install),
            Job::Install => self.observed.wait(Job::Reboot),
            job => self.observed.wait(job),
        }
    }

    fn goes_back(&self) -> bool {
        let is_lower = |v: &Version| *v < self.boot.running.version;
        self.kept.is_back && self.kept.desired.as_ref().is_some_and(is_lower)
    }

    /// Activates a staged version, and starts on a desired version that had to wait.
    async fn proceed(&mut self) -> Result<()> {
        let (announcements, line) =
            (Arc::clone(&self.announcements), self.boot.running.line.clone());
        let is_revoked = |version: &Version| {
            announcements.is_revoked(&ReleaseName { line: line.clone(), version: version.clone() })
        };
        let on_its_way = match &self.kept.state {
            State::Staging { target, .. } => Some(target),
            State::Staged { target, .. } if !self.arming => Some(target),
            _ => None,
        };
        if let Some(target) = on_its_way.filter(|t| is_revoked(t)).cloned() {
            self.refuse_revoked(target).await?;
        } else if self.kept.desired.as_ref().is_some_and(is_revoked)
            && let Some(desired) = self.kept.desired.take()
        {
            return self.refuse_revoked(desired).await;
        }
        // What waits changes nothing, so that nothing is written each time.
        let (Some(_), None) = (self.next_job(), self.waits()) else { return Ok(()) };
        match (&self.kept.state, &self.kept.desired) {
            (State::Staging { .. } | State::Armed { .. }, _) => self.step(Event::Opened).await,
            (State::Staged { target, .. }, Some(desired)) if target == desired => {
                self.step(Event::MayActivate).await
            }
            (State::Idle | State::Unconfirmed { contact: Contact::Reached, .. }, Some(desired))
                if *desired != self.boot.running.version =>
            {
                let event = self.wanted(desired.clone());
                self.step(event).await
            }
            (State::RolledBack { target, .. } | State::Failed { target, .. }, Some(desired))
                if target != desired && *desired != self.boot.running.version =>
            {
                let event = self.wanted(desired.clone());
                self.step(event).await
            }
            _ => Ok(()),
        }
    }

    /// A background job ended.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn job_ended(&mut self, result: JobResult) -> Result<()> {
        let is_of_target = self.kept.state.target() == Some(&result.target);
        match result.job {
            // Another version may be staged since.
            Job::Download => self.staging &= !is_of_target,
            Job::Install | Job::Reboot => self.arming = false,
        }
        self.needs_reboot = is_of_target && result.needs_reboot;
        if let Some(event) = result.event.filter(|_| is_of_target) {
            self.detail = result.detail;
            self.progress.send_replace(None);
            self.step(event).await?;
        }
        self.go_on().await
    }

    /// Handles `boot-complete.target`: the boot entry was blessed.
    ///
    /// # Errors
    /// If the state cannot be stored.
    pub async fn blessed(&mut self) -> Result<()> {
        self.step(Event::HealthConfirmed).await?;
        self.go_on().await
    }

    /// Handles the result of one attempt to change the Secure Boot variables.
    ///
    /// # Errors
    /// If the report cannot be queued.
    pub async fn boot_changed(&mut self, result: std::result::Result<(), String>) -> Result<()> {
        match result {
            Ok(()) => {
                self.changing_boot = false;
                self.boot = self.helper.boot_summary().await?;
                let number = self.boot.firmware.as_ref().map_or(0, |f| f.change);
                self.helper.say(&format!("fleeti: secure boot change={number} made")).await.ok();
                self.change_boot();
            }
            Err(detail) => {
                tracing::warn!("Secure Boot: {detail}");
                if let Some(firmware) = &mut self.boot.firmware {
                    firmware.refused = Some(detail.chars().take(TEXT_MAX / 4).collect());
                }
            }
        }
        self.report()
    }

    /// Reports which values of secrets of the boot the device holds.
    ///
    /// # Errors
    /// If the helper does not answer, or the report cannot be queued.
    pub async fn secrets_changed(&mut self) -> Result<()> {
        self.boot.secrets = self.helper.boot_summary().await?.secrets;
        self.report()
    }

    /// The kernel's boot id.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot.boot_id
    }

    /// Queues a report.
    ///
    /// # Errors
    /// I/O.
    pub fn report(&mut self) -> Result<()> {
        // If the stored number is invalid, the sequence restarts, under the new epoch.
        self.kept.sequence =
            if self.kept.sequence < NUMBER_MAX { self.kept.sequence + 1 } else { 1 };
        self.keep()?;
        let (trust_bundle, alarm) = self.announcements.report();
        let report = Report {
            trust_bundle,
            alarm,
            sequence: self.kept.sequence,
            epoch: Some(self.epoch.clone()),
            clock_wrong_by_s: self.paths.clock.wrong_by_s(),
            generation: self.kept.generation,
            boot: self.boot.clone(),
            update: self.kept.state.clone(),
            progress: *self.progress.borrow(),
            waits: self.waits(),
            time_zone: Some(self.observed.zone().to_owned()),
            detail: self.detail.as_ref().map(|d| d.chars().take(TEXT_MAX / 4).collect()),
        };
        self.outbox.push(Up::Report, &serde_json::to_vec(&report)?)?;
        self.reported = report.waits;
        Ok(())
    }

    fn keep(&self) -> Result<()> {
        Ok(write_durably(&self.paths.state.join("update.json"), &serde_json::to_vec(&self.kept)?)?)
    }

    async fn step(&mut self, event: Event) -> Result<()> {
        if event == Event::ArmSucceeded {
            self.observed.look(true)?;
        }
        let target = self.kept.state.target();
        let trials = self
            .kept
            .unreached
            .as_ref()
            .filter(|u| Some(&u.version) == target)
            .map_or(0, |u| u.trials);
        let ctx = Context {
            running: &self.boot.running.version,
            floor: &self.floor,
            rolled_back: &self.kept.rolled_back,
            trials,
            may: May {
                install: self.next_job() == Some(Job::Install) && self.waits().is_none(),
                ..self.observed.may()
            },
        };
        let (state, effects) = match update::step(&self.kept.state, event, &ctx) {
            Ok(next) => next,
            Err(rejected) => {
                tracing::info!("{rejected}");
                return Ok(());
            }
        };
        if let State::RolledBack { target, .. } = &state
            && !self.kept.rolled_back.contains(target)
        {
            self.kept.rolled_back.push(target.clone());
        }
        // The version that it leaves for an older one is rolled back.
        if let State::Armed { target } = &state
            && *target < self.boot.running.version
            && !self.kept.rolled_back.contains(&self.boot.running.version)
        {
            self.kept.rolled_back.push(self.boot.running.version.clone());
        }
        if let State::Unconfirmed { target, trials, .. } = &state {
            let before = self.kept.unreached.take().filter(|u| u.version == *target);
            let is_new = !matches!(self.kept.state, State::Unconfirmed { .. });
            let tries = before.map_or(0, |u| u.tries).saturating_add(u32::from(is_new));
            self.kept.unreached =
                Some(Unreached { version: target.clone(), trials: *trials, tries });
        }
        if state != self.kept.state {
            self.helper.say(&format!("fleeti: update {}", describe(&state))).await.ok();
        }
        // INVARIANT: the state is on disk before an effect is applied.
        self.kept.state = state;
        self.keep()?;
        for effect in effects {
            match effect {
                Effect::Report => self.report()?,
                Effect::Stage(version) => self.spawn_stage(version),
                Effect::Arm(version) => self.spawn_arm(version),
                Effect::Reboot => self.spawn_reboot(),
            }
        }
        Ok(())
    }
}

fn describe(state: &State) -> String {
    let target = state.target().map_or_else(String::new, |t| format!(" version={t}"));
    match state {
        State::RolledBack { reason, .. } => {
            let (why, evidence) = match reason {
                update::RollbackReason::Verity { evidence } => ("verity", evidence),
                update::RollbackReason::Health { evidence } => ("health", evidence),
                update::RollbackReason::ServerUnreachable { evidence } => {
                    ("server-unreachable", evidence)
                }
                update::RollbackReason::BootRefused { evidence } => ("boot-refused", evidence),
            };
            format!("rolled-back{target} reason={why}: {evidence}")
        }
        State::Failed { code, .. } => format!("failed{target} code={code:?}"),
        State::Idle
        | State::Staging { .. }
        | State::Staged { .. }
        | State::Armed { .. }
        | State::Trying { .. }
        | State::Unconfirmed { .. } => {
            format!("{}{target}", state.name())
        }
    }
}
