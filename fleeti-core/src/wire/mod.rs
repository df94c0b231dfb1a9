//! What is said on the wire, once for server, agent, client, CLI and Python.
//!
//! [`mqtt`] is the table of topics and their payloads, [`packet`] reads and writes MQTT itself,
//! [`device`] what a device and the server tell each other, [`api`] the HTTP API for people and
//! automation ([`trust`]: what counts and who agrees), [`attestation`] what a TPM says and what it
//! means, [`readmission`] devices whose certificates have ended, [`vault`] secrets and recovery
//! keys, [`worker`] build workers, [`problem`] its errors (RFC 9457).

pub mod api;
pub mod attestation;
pub mod device;
pub mod mqtt;
pub mod packet;
pub mod problem;
pub mod readmission;
pub mod trust;
pub mod vault;
pub mod worker;

use std::time::Duration;

/// How long the server keeps an HTTP connection on which nothing is asked.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a client keeps one. Shorter, so that no request is sent on a connection that the server
/// is about to close: such a request ends without an answer, and nobody knows whether it was heard
/// (RFC 9112 section 9.6).
pub const HTTP_IDLE: Duration = Duration::from_secs(30);

const _: () = assert!(HTTP_IDLE.as_secs() * 2 < HTTP_KEEP_ALIVE.as_secs());
