//! What an update waits for on a device.

use super::fleet::{Opening, Windows};
use super::job::Job;
use super::local::Local;
use serde::{Deserialize, Serialize};

/// Why a job does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpdateWaitReason)]
pub enum WaitReason {
    /// Its window is closed, or what is left of it is too short.
    Window,
    /// A program on the device blocks shutdowns.
    User,
    /// The clock of the device is wrong, so it does not know whether a window is open.
    Clock,
}

/// What an update waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdateWait)]
pub struct Wait {
    /// The job that does not begin.
    pub job: Job,
    /// Why.
    pub reason: WaitReason,
    /// When it begins at the latest (a user), or may begin (a window), Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<u64>,
}

impl Wait {
    /// What is true, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let job = self.job;
        match self.reason {
            WaitReason::Window => format!("its {job} window is closed"),
            WaitReason::User => {
                "a program on it blocks shutdowns, so it does not reboot".to_owned()
            }
            WaitReason::Clock => {
                format!("its clock is wrong, so it does not know whether its {job} window is open")
            }
        }
    }

    /// What would change it, in words.
    #[must_use]
    pub fn change(&self) -> &'static str {
        match self.reason {
            WaitReason::Window => {
                "the window opens, or `fleeti device skip-windows DEVICE --reason REASON`"
            }
            WaitReason::User => "the program ends, or the longest wait does",
            WaitReason::Clock => "its clock is set: check the battery and NTP of the device",
        }
    }
}

/// Which jobs may begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct May {
    /// A download.
    pub download: bool,
    /// Making a release bootable.
    pub install: bool,
    /// A reboot.
    pub reboot: bool,
}

impl May {
    /// Every job may.
    pub const ALL: Self = Self { download: true, install: true, reboot: true };
}

/// What a device knows of itself where it decides whether a job may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device<'a> {
    /// Time and zone.
    pub at: Local<'a>,
    /// Whether its clock may be right.
    pub is_clock_right: bool,
    /// Since when a program blocks the reboot into a release, Unix seconds.
    pub blocked_since_s: Option<u64>,
    /// Until when its desired state lets it skip windows and users, Unix seconds.
    pub skip_until_s: Option<u64>,
}

impl Windows {
    /// What a job waits for; `None` if it may begin.
    #[must_use]
    pub fn wait(&self, job: Job, device: Device<'_>) -> Option<Wait> {
        let Device { at, is_clock_right, blocked_since_s, skip_until_s } = device;
        if skip_until_s.is_some_and(|until_s| at.now_s < until_s) {
            return None;
        }
        if !is_clock_right && !self.of(job).is_empty() {
            return Some(Wait { job, reason: WaitReason::Clock, until_s: None });
        }
        if let Opening::Closed { opens_s: until_s } = self.opening(job, at) {
            return Some(Wait { job, reason: WaitReason::Window, until_s });
        }
        let (delay_min, since_s) = (self.user_delay_min?, blocked_since_s?);
        // A time that is not over yet was stored by a clock that was ahead.
        let since_s = since_s.min(at.now_s);
        let until_s = since_s.saturating_add(u64::from(delay_min) * 60);
        let is_waiting = job == Job::Reboot && at.now_s < until_s;
        is_waiting.then_some(Wait { job, reason: WaitReason::User, until_s: Some(until_s) })
    }

    /// Which jobs may begin.
    #[must_use]
    pub fn may(&self, device: Device<'_>) -> May {
        let may = |job| self.wait(job, device).is_none();
        May { download: may(Job::Download), install: may(Job::Install), reboot: may(Job::Reboot) }
    }
}
