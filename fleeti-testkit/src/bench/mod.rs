//! Benchmarks beside peers: the same client, the same certificates, the same files, in the same
//! run. What counts is the server's own CPU time, because client and server share the machine.
//!
//! Code map: [`process`] (a server as a child, its CPU time and memory) · [`organisation`] (keys,
//! certificates, a server of ours) · [`artifacts`] (downloads, beside nginx) · [`channel`] (MQTT
//! sessions, beside mosquitto and rumqttd) · [`attestation`] (what a TPM's answer costs) ·
//! [`abuse`] (honest clients beside hostile ones) · [`pages`] (what a person waits for) · [`trust`]
//! (certificates and the audit log, beside cfssl and openssl).

pub mod abuse;
pub mod artifacts;
pub mod attestation;
pub mod boot;
pub mod channel;
pub mod organisation;
pub mod pages;
pub mod process;
pub mod trust;

use anyhow::{Result, ensure};
use serde::Serialize;

/// How much of a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Enough for figures that mean something.
    Full,
    /// A few seconds: shows that the scenario still works and that every answer in it is a success.
    /// Its figures mean nothing.
    Tiny,
}

impl Scale {
    /// A size by scale.
    pub fn pick<T>(self, full: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Tiny => tiny,
        }
    }
}

/// Whether every figure was measured.
///
/// # Errors
/// Names a record that is not a positive number, or says that there is none.
pub fn check(records: &[Record], scale: Scale) -> Result<()> {
    ensure!(!records.is_empty(), "the scenario measured nothing");
    for r in records {
        // A few sessions may fit into memory that the server already had.
        let is_growth_of_little = scale == Scale::Tiny && r.unit == "KiB";
        let is_measured = r.value.is_finite() && (r.value > 0.0 || is_growth_of_little);
        ensure!(
            is_measured,
            "{} of {} is {} {}, which is no measurement",
            r.name,
            r.against,
            r.value,
            r.unit
        );
    }
    Ok(())
}

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
