//! The update path against the real systemd-sysupdate, on a disk image in a file: seconds, and no
//! machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod anchors;
mod answers;
mod bench;
mod contact;
mod faulty_server;
mod heard;
mod refusals;
mod release_log;
mod secure_boot;
mod time;
mod tpm;
