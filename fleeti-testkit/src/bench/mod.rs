//! Benchmarks beside peers: the same client, the same certificates, the same files, in the same run. What counts is
//! the server's own CPU time, because client and server share the machine.
//!
//! Code map: [`process`] (a server as a child, its CPU time and memory) · [`organisation`] (keys, certificates, a
//! server of ours) · [`artifacts`] (downloads, beside nginx) · [`channel`] (MQTT sessions, beside mosquitto and rumqttd)
//! · [`attestation`] (what a TPM's answer costs) · [`pages`] (what a person waits for) · [`trust`] (certificates and the audit log, beside cfssl and openssl).

pub mod artifacts;
pub mod attestation;
pub mod boot;
pub mod channel;
pub mod organisation;
pub mod pages;
pub mod process;
pub mod trust;

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The same for us and for the peer.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// `fleeti` or the peer.
    pub against: &'static str,
}

impl Record {
    /// A figure of somebody, told on stderr as well.
    pub fn new(name: &'static str, value: f64, unit: &'static str, against: &'static str) -> Self {
        eprintln!("    {name:<32} {value:>12.3} {unit:<12} {against}");
        Self { name, value, unit, against }
    }
}
