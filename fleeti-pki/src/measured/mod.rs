//! What is measured during boot: the logs, their interpretation, and the reference values of a
//! release.
//!
//! [`log`] (firmware, boot loader, stub) · [`phases`] (user space) · [`boot`] (interpretation of
//! the log), [`finding`] (findings about it) · [`explained`], [`device_path`] (as text) ·
//! [`predicted`] (reference values).

pub mod boot;
pub mod device_path;
pub mod explained;
pub mod finding;
pub mod log;
pub mod phases;
pub mod predicted;
