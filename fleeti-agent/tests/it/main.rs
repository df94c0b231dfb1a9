//! The update path with the real systemd-sysupdate, on a disk image in a file: fast, and without a
//! virtual machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod anchors;
mod announcements;
mod answers;
mod bench;
mod commands;
mod contact;
mod documents;
mod faulty_server;
mod kept;
mod refusals;
mod release_log;
mod secure_boot;
mod time;
mod tpm;
mod windows;
