//! Background jobs of the driver: staging, arming, reboots, and changes of the Secure Boot variables.

use super::{Driver, JobResult};
use crate::backoff::Backoff;
use crate::http::read_document;
use crate::privileged::Armed;
use crate::staging::Staging;
use anyhow::Result;
use fleeti_core::id::Version;
use fleeti_core::update::{Event, State};
use fleeti_core::windows::Job;
use fleeti_core::wire::boot::BootChange;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Added to the number of trials of a version that did not reach the server: the delay before the
/// second trial is at most 16 seconds.
const RETRY_AFTER: u32 = 3;

impl JobResult {
    /// A job that ended.
    fn of(target: Version, job: Job, event: Event, detail: Option<String>) -> Self {
        Self { target, job, event: Some(event), needs_reboot: false, detail }
    }

    /// A job that did not begin.
    fn closed(target: Version, job: Job) -> Self {
        Self { target, job, event: None, needs_reboot: false, detail: None }
    }
}

impl Driver {
    /// Starts to apply the requested change of the Secure Boot variables, and retries until it
    /// succeeds.
    pub(super) fn change_boot(&mut self) {
        let (wanted, made) =
            (self.kept.boot_change, self.boot.firmware.as_ref().map_or(u64::MAX, |f| f.change));
        if wanted <= made {
            return;
        }
        if std::mem::replace(&mut self.changing_boot, true) {
            self.boot_wanted.notify_one();
            return;
        }
        let wake = Arc::clone(&self.boot_wanted);
        let (helper, http, url) = (
            self.helper.clone(),
            self.http.clone(),
            format!("{}/boot/change.json", self.https_url),
        );
        let results = self.boot_results.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                // Each attempt asks for the change again: a later change replaces a refused one.
                match wanted_boot_change(&http, &url).await {
                    Ok(change) => {
                        let result = helper.change_boot(change).await;
                        let is_made = result.is_ok();
                        if results.send(result.map_err(|e| format!("{e:#}"))).await.is_err()
                            || is_made
                        {
                            return;
                        }
                    }
                    // Not a refusal: the server could not be reached.
                    Err(e) => tracing::warn!("{url}: {e:#}"),
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    () = wake.notified() => backoff.reset(),
                }
            }
        });
    }

    fn staging(&self, version: &Version) -> Staging {
        Staging {
            paths: self.paths.clone(),
            helper: self.helper.clone(),
            http: self.http.clone(),
            https_url: self.https_url.clone(),
            upstream: format!("{}/releases/{}/{version}", self.https_url, self.boot.running.line),
            announcements: Arc::clone(&self.announcements),
            download_kib_s: self.observed.download_kib_s(),
            progress: self.progress.clone(),
        }
    }

    pub(super) fn spawn_stage(&mut self, version: Version) {
        self.staging = true;
        let attempt = match self.kept.state {
            State::Staging { attempt, .. } => attempt,
            _ => 1,
        };
        let job = self.staging(&version);
        let (results, observed) = (self.results.clone(), self.observed.clone());
        let tries =
            self.kept.unreached.as_ref().filter(|u| u.version == version).map_or(0, |u| u.tries);
        tokio::spawn(async move {
            if attempt > 1 {
                Backoff::after(attempt.into()).wait().await;
            } else if tries > 0 {
                // The version ran already and did not reach the server, which is reachable only
                // again now.
                Backoff::after(tries + RETRY_AFTER).wait().await;
            }
            let result = if observed.wait(Job::Download).is_some() {
                JobResult::closed(version, Job::Download)
            } else {
                match job.run().await {
                    Ok(()) => JobResult::of(version, Job::Download, Event::StageSucceeded, None),
                    Err((code, detail)) => {
                        tracing::warn!("staging {version}: {detail}");
                        JobResult::of(
                            version,
                            Job::Download,
                            Event::StageFailed(code),
                            Some(detail),
                        )
                    }
                }
            };
            results.send(result).await.ok();
        });
    }

    pub(super) fn spawn_arm(&mut self, version: Version) {
        self.arming = true;
        let (helper, results) = (self.helper.clone(), self.results.clone());
        let observed = self.observed.clone();
        // An older version is in the other slot already, and nothing was staged.
        let previous = (version < self.boot.running.version).then(|| self.staging(&version));
        let needs_reboot = self.needs_reboot;
        let failures = match self.kept.state {
            State::Staged { arm_attempts, .. } => u32::from(arm_attempts),
            _ => 0,
        };
        tokio::spawn(async move {
            if failures > 0 {
                Backoff::after(failures + 2).wait().await;
            }
            let may = observed.may();
            let is_open = needs_reboot || !observed.has_install_windows() || may.install;
            let armed = match previous {
                _ if !is_open => {
                    results.send(JobResult::closed(version, Job::Install)).await.ok();
                    return;
                }
                Some(previous) => previous.arm_previous(may.reboot).await,
                None => helper.arm(version.clone(), may.reboot).await,
            };
            let result = match armed {
                Ok(Armed::Yes) => JobResult::of(version, Job::Install, Event::ArmSucceeded, None),
                Ok(Armed::NeedsReboot) => {
                    JobResult { needs_reboot: true, ..JobResult::closed(version, Job::Install) }
                }
                Err(e) => {
                    JobResult::of(version, Job::Install, Event::ArmFailed, Some(format!("{e:#}")))
                }
            };
            results.send(result).await.ok();
        });
    }

    pub(super) fn spawn_reboot(&self) {
        if self.rebooting.swap(true, Ordering::SeqCst) {
            return;
        }
        let (helper, outbox) = (self.helper.clone(), Arc::clone(&self.outbox));
        let (observed, rebooting) = (self.observed.clone(), Arc::clone(&self.rebooting));
        tokio::spawn(async move {
            // The server should learn of the reboot; an unreachable server must not prevent it.
            for _ in 0..50 {
                if matches!(outbox.first(), Ok(None)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // The entry is armed: only a reboot leads on. If its window closes before, the driver
            // begins again when it opens.
            let mut backoff = Backoff::default();
            while observed.wait(Job::Reboot).is_none() {
                match helper.reboot().await {
                    Ok(()) => return,
                    Err(e) => tracing::error!("reboot: {e:#}"),
                }
                backoff.wait().await;
            }
            rebooting.store(false, Ordering::SeqCst);
        });
    }
}

async fn wanted_boot_change(http: &reqwest::Client, url: &str) -> Result<BootChange> {
    let response =
        http.get(url).timeout(Duration::from_secs(60)).send().await?.error_for_status()?;
    read_document("boot/change.json", response, fleeti_core::manifest::BYTES_MAX).await
}
