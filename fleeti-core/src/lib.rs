//! The domain of Fleeti: the types of profiles, releases, devices and rollouts, their state
//! machines, and the messages between device, server and clients.
//!
//! This crate is pure: no I/O, no async, no clock, no randomness, no environment. The caller passes
//! the time as an argument.
//!
//! ```
//! let checked = fleeti_core::profile::check(r#"
//! schema = 1
//! name = "kiosk"
//! architecture = "x86_64"
//! software.packages = ["Chromium!"]
//! "#);
//! let finding = &checked.unwrap_err()[0];
//! assert_eq!(finding.path, "software.packages[0]");
//! assert_eq!(finding.line, 5);
//! ```
//!
//! Code map: [`command_line`] (arguments of a UKI: which ones Fleeti sets, which ones a profile may
//! set) · [`filter`] (the language that selects devices) · [`foreign`] (untrusted text, made safe to show) · [`id`] (device ids, image lines,
//! versions) · [`profile`] (the typed model, its check and its revisions) · [`manifest`] (the
//! signed content of a release) · [`update`], [`rollout`], [`build`], [`approval`], [`boot_secret`] and
//! [`enrollment`] (the state machines) · [`group_roles`] (roles by groups) · [`alert`] (alert rules, and the state machine of alerts) · [`drift`] (differences from what is desired) · [`attestation`]
//! (levels, claims and appraisal policies) · [`boot_proof`] (proof that a release boots as its
//! manifest predicts) · [`secure_boot`] (compares the firmware's keys with the enrolled ones) ·
//! [`doctor`] (judges the facts about a server) · [`package_version`] (the order of versions of packages) · [`size`] (sizes as text) · [`canonical`] (canonical JSON) · [`strict`] (strict JSON reading) · [`support`] (end of support of suites) · [`windows`] (update windows) · [`wire`] (HTTP bodies, MQTT
//! topics and payloads, problem codes).
//!
//! **Features**: none. **Errors**: Each parser and each state machine has its own error, which says
//! what is wrong and what to do. Foreign input never panics. **Stability**: What crosses the
//! network is compatible as decision 0005 says; Rust items may change with each release before 1.0.

#![warn(missing_docs)]

pub mod alert;
pub mod approval;
pub mod attestation;
pub mod boot_proof;
pub mod boot_secret;
pub mod build;
pub mod canonical;
pub mod command;
pub mod command_line;
pub mod doctor;
pub mod drift;
pub mod enrollment;
pub mod filter;
pub mod foreign;
pub mod group_roles;
pub mod id;
pub mod image;
pub mod manifest;
pub mod package_version;
pub mod profile;
pub mod rollout;
pub mod secure_boot;
pub mod size;
pub mod strict;
pub mod support;
pub mod update;
pub mod windows;
pub mod wire;
