//! The domain of Fleeti: what a profile, a release, a device and a rollout *are*, how their state
//! machines move, and what is said on the wire about them.
//!
//! Pure: no I/O, no async, no clock, no randomness, no environment. Time comes in as an argument.
//!
//! ```
//! let checked = fleeti_core::profile::check(r#"
//! schema = 1
//! name = "kiosk"
//! architecture = "x86_64"
//! packages = ["Chromium!"]
//! "#);
//! let finding = &checked.unwrap_err()[0];
//! assert_eq!(finding.path, "packages[0]");
//! assert_eq!(finding.line, 5);
//! ```
//!
//! Code map: [`command_line`] (of a kernel image: what Fleeti sets, what a profile may) ·
//! [`foreign`] (text that somebody else wrote, made safe to show) · [`id`] (device ids, image
//! lines, versions) · [`profile`] (the typed model, its check and its revisions) · [`manifest`]
//! (what a release promises) · [`update`] and [`rollout`] (the state machines) · [`secure_boot`]
//! (whether firmware holds what was enrolled) · [`strict`] (JSON as it is documented and in no
//! other way) · [`wire`] (HTTP bodies, MQTT topics and payloads, problem codes).

#![warn(missing_docs)]

pub mod attestation;
pub mod boot_proof;
pub mod canonical;
pub mod command_line;
pub mod foreign;
pub mod id;
pub mod manifest;
pub mod profile;
pub mod rollout;
pub mod secure_boot;
pub mod strict;
pub mod update;
pub mod wire;
