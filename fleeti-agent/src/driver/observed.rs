//! What a device observes when it updates: the windows of its fleet, and programs that block
//! shutdowns. `fleeti_core::windows` decides; here is what it is told.

use crate::clock::Clock;
use crate::{Paths, inhibitors, kept, write_durably};
use fleeti_core::windows::{Device, Job, Local, May, Wait, WaitReason, Windows};
use fleeti_core::wire::device::DesiredState;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Of the desired state, on the data partition: it counts after a boot without network, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    windows: Windows,
    #[serde(default)]
    skip_until_s: Option<u64>,
    /// Since when a program blocks a reboot that its window permits.
    #[serde(default)]
    blocked_since_s: Option<u64>,
}

/// What a device observes when it updates.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    path: PathBuf,
    inhibitors: PathBuf,
    clock: Clock,
    zone: String,
    kept: Kept,
    /// Whether there is a file that could not be read. Until the next desired state nothing begins.
    is_unknown: bool,
}

impl Observed {
    /// What the device was told last.
    pub(super) fn load(paths: &Paths, zone: String) -> Self {
        let path = paths.state.join("windows.json");
        let is_there = path.exists() || path.with_file_name("windows.json.broken").exists();
        let read = kept::read(&path, kept::json);
        let (inhibitors, clock) = (paths.inhibitors.clone(), paths.clock.clone());
        let is_unknown = is_there && read.is_none();
        Self { path, inhibitors, clock, zone, kept: read.unwrap_or_default(), is_unknown }
    }

    /// The time zone of the device.
    pub(super) fn zone(&self) -> &str {
        &self.zone
    }

    /// The highest rate of a download, KiB per second.
    pub(super) fn download_kib_s(&self) -> Option<u32> {
        self.kept.windows.download_kib_s
    }

    /// Takes the windows of a desired state. Returns whether they are others than before.
    pub(super) fn take(&mut self, desired: &DesiredState) -> std::io::Result<bool> {
        let was_unknown = std::mem::replace(&mut self.is_unknown, false);
        let next = Kept {
            windows: desired.windows.clone(),
            skip_until_s: desired.skip_windows_until_s,
            blocked_since_s: self.kept.blocked_since_s,
        };
        let is_other = was_unknown || next != self.kept;
        if is_other {
            self.keep(next)?;
        }
        Ok(is_other)
    }

    fn change(&mut self, next: Kept) -> std::io::Result<()> {
        if next == self.kept {
            return Ok(());
        }
        self.keep(next)
    }

    fn keep(&mut self, next: Kept) -> std::io::Result<()> {
        self.kept = next;
        let bytes = serde_json::to_vec(&self.kept)?;
        write_durably(&self.path, &bytes)
    }

    /// Looks whether a program blocks the reboot of an armed device. The time that it waits at most
    /// begins when nothing else holds the reboot back, and goes on when the window ends meanwhile.
    pub(super) fn look(&mut self, is_armed: bool) -> std::io::Result<()> {
        let is_asked = is_armed && self.kept.windows.user_delay_min.is_some();
        let is_blocked = is_asked && inhibitors::block_shutdown(&self.inhibitors);
        let now_s = self.clock.now_s();
        let blocked_since_s = match self.kept.blocked_since_s {
            _ if !is_blocked => None,
            // A clock that was ahead would make it wait for longer.
            Some(since_s) => Some(since_s.min(now_s)),
            None if self.wait(Job::Reboot).is_none() => Some(now_s),
            None => None,
        };
        self.change(Kept { blocked_since_s, ..self.kept.clone() })
    }

    fn device(&self) -> Device<'_> {
        Device {
            at: Local { now_s: self.clock.now_s(), zone: &self.zone },
            is_clock_right: self.clock.is_plausible(),
            blocked_since_s: self.kept.blocked_since_s,
            skip_until_s: self.kept.skip_until_s,
        }
    }

    /// What a job waits for now.
    pub(super) fn wait(&self, job: Job) -> Option<Wait> {
        if self.is_unknown {
            return Some(Wait { job, reason: WaitReason::Window, until_s: None });
        }
        self.kept.windows.wait(job, self.device())
    }

    /// Whether there are windows to install in.
    pub(super) fn has_install_windows(&self) -> bool {
        !self.kept.windows.install.is_empty()
    }

    /// Which jobs may begin now.
    pub(super) fn may(&self) -> May {
        if self.is_unknown {
            return May { download: false, install: false, reboot: false };
        }
        self.kept.windows.may(self.device())
    }
}
