//! What is said on the wire, once for server, agent, client, CLI and Python.
//!
//! [`mqtt`] is the table of topics and their payloads, [`device`] what a device and the server tell each
//! other, [`api`] the HTTP API for people and automation ([`trust`]: what counts and who agrees), [`problem`] its errors (RFC 9457).

pub mod api;
pub mod device;
pub mod mqtt;
pub mod problem;
pub mod trust;
