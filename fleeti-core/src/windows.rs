//! Update windows: the times in which a device may begin to download, to install and to reboot.
//!
//! A fleet has [`Windows`] in its policy; a device gets them in its desired state. A window is one
//! line ([`Window`]) in local time: of the zone that it names, or of the device. The zone data is
//! part of the program, because an image may have none.
//!
//! ```
//! use fleeti_core::windows::{Job, Local, Opening, Windows};
//! let reboot = vec!["sat,sun 02:00-05:00 Europe/Berlin".parse()?];
//! let windows = Windows { reboot, ..Windows::default() };
//! let monday = Local { now_s: 1_767_571_200, zone: "Etc/UTC" };
//! let saturday = Opening::Closed { opens_s: Some(1_768_006_800) };
//! assert_eq!(windows.opening(Job::Reboot, monday), saturday);
//! # Ok::<_, fleeti_core::windows::WindowError>(())
//! ```
//!
//! Code map: `job` · `fleet` (the windows of a fleet) · `line` (a window as text) · `zone` ·
//! `local` (local time) · `wait` (what an update waits for).

mod fleet;
mod job;
mod line;
mod local;
mod wait;
mod zone;

pub use fleet::{
    DOWNLOAD_KIB_S_MAX, DOWNLOAD_KIB_S_MIN, InvalidWindows, Opening, USER_DELAY_MIN_MAX,
    WINDOWS_MAX, Windows,
};
pub use job::Job;
pub use line::{WINDOW_MAX, Window, WindowError};
pub use local::Local;
pub use wait::{Device, May, Wait, WaitReason};
pub use zone::{ZoneError, check_zone, is_zone};

#[cfg(test)]
mod tests;
