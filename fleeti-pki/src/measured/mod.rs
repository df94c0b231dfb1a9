//! What was measured while a system booted: the logs, what they mean, and what is expected of a
//! release.
//!
//! [`log`] (firmware, boot loader, stub) · [`phases`] (user space) · [`boot`] (what the log means),
//! [`finding`] (what is odd about it) · [`explained`], [`device_path`] (in words) · [`predicted`]
//! (what will be measured).

pub mod boot;
pub mod device_path;
pub mod explained;
pub mod finding;
pub mod log;
pub mod phases;
pub mod predicted;
