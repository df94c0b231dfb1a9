//! Benchmarks beside peers: the same client, certificates and files in the same run. They compare
//! the server's own CPU time, because client and server share the machine.
//!
//! Code map: [`process`] (a server as a child process, its CPU time and memory) · [`organisation`]
//! (keys, certificates, Fleeti's server) · [`artifacts`] (downloads, beside nginx) · [`channel`]
//! (MQTT sessions, beside mosquitto and rumqttd) · [`attestation`] (the cost of TPM evidence) ·
//! [`control`] (filtered lists of devices) ·
//! [`abuse`] (honest clients beside hostile ones) · [`pages`] (response times of pages) ·
//! [`profile`] (check and editor of a large profile) ·
//! [`rollout`] (reports and the start of a rollout, in a small fleet and in a large one, with
//! [`rows`]) · [`sdk`] (the clients in Rust and Python) · [`trust`] (certificates and the audit log, beside cfssl and openssl).

pub mod abuse;
pub mod artifacts;
pub mod attestation;
pub mod boot;
pub mod channel;
pub mod control;
pub mod organisation;
pub mod pages;
pub mod process;
pub mod profile;
pub mod rollout;
pub mod rows;
pub mod sdk;
pub mod suite_index;
pub mod trust;

use anyhow::{Result, ensure};
use serde::Serialize;

/// Size of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Large enough for meaningful results.
    Full,
    /// A few seconds: checks that the scenario works and that every response in it is a success.
    /// Its results have no meaning.
    Tiny,
}

impl Scale {
    /// The number for this size.
    pub fn pick<T>(self, full: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Tiny => tiny,
        }
    }
}

/// Checks that all results are valid.
///
/// # Errors
/// The median of times in milliseconds, which is printed with the slowest one.
fn median(name: &str, mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("    {name:<40} median {median:.1} ms, slowest {slowest:.1} ms");
    median
}

/// Names a record that is not a positive number, or reports that there is none.
pub fn check(records: &[Record], scale: Scale) -> Result<()> {
    ensure!(!records.is_empty(), "the scenario measured nothing");
    for r in records {
        // A few sessions may fit into memory that the server had already allocated.
        let is_increase_of_little = scale == Scale::Tiny && r.unit == "KiB";
        let is_measured = r.value.is_finite() && (r.value > 0.0 || is_increase_of_little);
        ensure!(
            is_measured,
            "{} of {} is {} {}, expected a positive number",
            r.name,
            r.against,
            r.value,
            r.unit
        );
    }
    Ok(())
}

/// One result.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Name of the metric, the same for Fleeti and peers.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// Unit.
    pub unit: &'static str,
    /// `fleeti` or the name of the peer.
    pub against: &'static str,
}

impl Record {
    /// A result, also printed on stderr.
    pub fn new(name: &'static str, value: f64, unit: &'static str, against: &'static str) -> Self {
        eprintln!("    {name:<32} {value:>12.3} {unit:<12} {against}");
        Self { name, value, unit, against }
    }
}
