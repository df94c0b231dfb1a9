//! The wire types, defined once for server, agent, client, CLI and Python.
//!
//! [`mqtt`] has the table of topics and their payloads, [`packet`] reads and writes MQTT packets,
//! [`device`] has the messages between device and server, [`enrollment`] how a device gets its
//! identity, [`accounts`] people, their roles and tokens, [`boot`] what it has booted and may boot, [`api`] the HTTP API for operators and
//! automation, [`alarm`] alarms of devices, [`alerts`] alerts and their rules, [`refresh`] schedules of builds, [`rollout`] rollouts, [`trust`] the trust bundle and
//! approvals, [`attestation`] evidence and attestation results, [`readmission`] devices with
//! expired certificates, [`vault`] secrets and recovery keys, [`history`] drift and history of
//! devices, [`webhook`] webhooks, [`email`] e-mail, [`worker`] build workers, [`profile`]
//! documents of profiles, [`suite`] searches in the packages of a suite, [`package`] devices that
//! have a package, [`evidence`] the evidence of a release, and [`problem`] errors
//! (RFC 9457). [`doctor`] is the examination of a server.

pub mod accounts;
pub mod alarm;
pub mod alerts;
pub mod api;
pub mod approval;
pub mod attestation;
pub mod audit;
pub mod boot;
pub mod command;
pub mod device;
pub mod doctor;
pub mod email;
pub mod enrollment;
pub mod evidence;
pub mod fixes;
pub mod history;
#[cfg(test)]
mod kept;
pub mod labels;
pub mod list;
pub mod mqtt;
pub mod package;
pub mod packet;
pub mod problem;
pub mod profile;
pub mod readmission;
pub mod refresh;
pub mod rollout;
pub mod suite;
pub mod trust;
pub mod updates;
pub mod vault;
pub mod webhook;
pub mod worker;

use std::time::Duration;

/// How long the server keeps an idle HTTP connection.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a client keeps an idle HTTP connection. It is shorter than the server's time, so that a
/// client sends no request on a connection that the server is about to close: such a request fails
/// without a response, and the client does not know whether the server processed it (RFC 9112,
/// 9.6).
pub const HTTP_IDLE: Duration = Duration::from_secs(30);

const _: () = assert!(HTTP_IDLE.as_secs() * 2 < HTTP_KEEP_ALIVE.as_secs());
