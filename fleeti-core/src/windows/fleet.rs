//! The windows of a fleet.

use super::job::Job;
use super::line::Window;
use super::local::{self, Local};
use serde::{Deserialize, Serialize};

/// Largest number of windows of one job.
pub const WINDOWS_MAX: usize = 16;
/// Longest time for which a reboot waits for a user, minutes: a week.
pub const USER_DELAY_MIN_MAX: u32 = 7 * 24 * 60;
/// Lowest limit of a download, KiB per second: below it a large image takes longer than the device
/// lets a download take.
pub const DOWNLOAD_KIB_S_MIN: u32 = 128;
/// Highest limit of a download, KiB per second.
pub const DOWNLOAD_KIB_S_MAX: u32 = 10 << 20;

/// The update windows of a fleet, and what else its devices observe when they update. A job without
/// windows may begin at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateWindows)]
pub struct Windows {
    /// When a download may begin; at most 16. A download that has begun goes on when its window
    /// ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub download: Vec<Window>,
    /// When a release may be made bootable; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub install: Vec<Window>,
    /// When the device may reboot for an update; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub reboot: Vec<Window>,
    /// How long a reboot waits for a program on the device that blocks shutdowns
    /// (`systemd-inhibit`), minutes: 1 to 10080. Absent: it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10080)]
    pub user_delay_min: Option<u32>,
    /// Highest rate at which each device downloads, KiB per second: 128 to 10485760. Absent: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 128, maximum = 10_485_760)]
    pub download_kib_s: Option<u32>,
}

/// Why windows are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidWindows {
    /// A job has too many.
    #[error("windows.{job}: {count} windows, expected at most {WINDOWS_MAX}")]
    TooMany {
        /// The job.
        job: Job,
        /// How many.
        count: usize,
    },
    /// A reboot would wait too long, or not at all.
    #[error("windows.user_delay_min is {0}, must be 1 to {USER_DELAY_MIN_MAX}")]
    UserDelay(u32),
    /// A rate is too low or too high.
    #[error("windows.download_kib_s is {0}, must be {DOWNLOAD_KIB_S_MIN} to {DOWNLOAD_KIB_S_MAX}")]
    Rate(u32),
}

/// Whether a job may begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It may.
    Open {
        /// From when on it may not, Unix seconds; `None` if it always may.
        until_s: Option<u64>,
    },
    /// It may not.
    Closed {
        /// When it next may, Unix seconds.
        opens_s: Option<u64>,
    },
}

impl Windows {
    /// Whether devices update at any time: no job has a window, and nothing else is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The windows of a job.
    #[must_use]
    pub fn of(&self, job: Job) -> &[Window] {
        match job {
            Job::Download => &self.download,
            Job::Install => &self.install,
            Job::Reboot => &self.reboot,
        }
    }

    /// Checks numbers; each window was checked when it was read.
    ///
    /// # Errors
    /// [`InvalidWindows`].
    pub fn check(&self) -> Result<(), InvalidWindows> {
        for job in Job::ALL {
            let count = self.of(job).len();
            if count > WINDOWS_MAX {
                return Err(InvalidWindows::TooMany { job, count });
            }
        }
        let delay = self.user_delay_min.filter(|m| !(1..=USER_DELAY_MIN_MAX).contains(m));
        let rates = DOWNLOAD_KIB_S_MIN..=DOWNLOAD_KIB_S_MAX;
        match (delay, self.download_kib_s.filter(|rate| !rates.contains(rate))) {
            (Some(minutes), _) => Err(InvalidWindows::UserDelay(minutes)),
            (None, Some(rate)) => Err(InvalidWindows::Rate(rate)),
            (None, None) => Ok(()),
        }
    }

    /// Whether a job may begin now. Windows of a device whose own zone is not known count in UTC.
    #[must_use]
    pub fn opening(&self, job: Job, at: Local<'_>) -> Opening {
        let windows = self.of(job);
        if windows.is_empty() {
            return Opening::Open { until_s: None };
        }
        let times = || windows.iter().flat_map(|window| local::begins(window, at));
        let now_s = at.now_s;
        match times().filter(|t| t.contains(&now_s)).map(|t| t.end).max() {
            Some(end_s) => Opening::Open { until_s: Some(end_s) },
            None => {
                let opens_s = times().map(|t| t.start).filter(|start_s| *start_s > now_s).min();
                Opening::Closed { opens_s }
            }
        }
    }

    /// Until when a window of a job lasts that has begun, Unix seconds; `None` outside, and for a
    /// job without windows.
    #[must_use]
    pub fn lasts_until_s(&self, job: Job, at: Local<'_>) -> Option<u64> {
        let times = self.of(job).iter().flat_map(|window| local::times(window, at));
        times.filter(|time| time.contains(&at.now_s)).map(|time| time.end).max()
    }
}
