//! Benchmarks beside peers, one scenario at a time; `cargo xtask bench` builds and runs them.

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use fleeti_testkit::bench::{
    self, Record, Scale, abuse, artifacts, attestation, boot, channel, control, pages, profile,
    rollout, sdk, trust,
};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    /// The scenario.
    scenario: Scenario,
    /// Output file of the records, one JSON array.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Path of rumqttd, to measure it as well.
    #[arg(long)]
    rumqttd: Option<PathBuf>,
    /// Python with the package `fleeti`, for the scenario `sdk`.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Run for a few seconds instead of minutes, to check that the scenario works. Ignore its
    /// results.
    #[arg(long)]
    tiny: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// Honest clients beside hostile ones.
    Abuse,
    /// Downloads, beside nginx.
    Artifacts,
    /// MQTT sessions, beside mosquitto and rumqttd.
    Channel,
    /// Filtered lists of 100,000 devices.
    Control,
    /// Response times of pages.
    Pages,
    /// Check and editor of a profile with 300 packages.
    Profile,
    /// Reports during a rollout, and its start, in a small fleet and in a large one.
    Rollout,
    /// The clients in Rust and Python: the list of a large fleet.
    Sdk,
    /// Certificates, beside cfssl and openssl, the audit log, and Secure Boot of a fleet.
    Trust,
    /// Certificates alone.
    Certificates,
    /// TPM evidence: verification, appraisal and storage.
    Attestation,
    /// Secure Boot of a fleet alone.
    Boot,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = match arguments.scenario {
        // In memory: a flush would hide what the server spends.
        Scenario::Rollout => tempfile::tempdir_in("/dev/shm")?,
        _ => tempfile::tempdir()?,
    };
    let scale = if arguments.tiny { Scale::Tiny } else { Scale::Full };
    let records: Vec<Record> = match arguments.scenario {
        Scenario::Abuse => abuse::run(dir.path(), scale)?,
        Scenario::Artifacts => artifacts::run(dir.path(), scale)?,
        Scenario::Control => control::run(dir.path(), scale)?,
        Scenario::Pages => pages::run(dir.path(), scale)?,
        Scenario::Profile => profile::run(dir.path(), scale)?,
        Scenario::Rollout => rollout::run(dir.path(), scale)?,
        Scenario::Sdk => sdk::run(dir.path(), arguments.python.as_deref(), scale)?,
        Scenario::Trust => trust::run(dir.path(), scale)?,
        Scenario::Certificates => trust::certificates(dir.path(), scale)?,
        Scenario::Attestation => attestation::run(dir.path(), scale)?,
        Scenario::Boot => boot::run(dir.path(), scale)?,
        Scenario::Channel => channel::run(dir.path(), arguments.rumqttd.as_deref(), scale)?,
    };
    bench::check(&records, scale)?;
    let text = serde_json::to_string_pretty(&records)?;
    match &arguments.json {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string()),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}
