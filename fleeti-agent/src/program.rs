//! The command line of `fleeti-agent`: daemon, helper, and the steps of a boot.

use crate::boot_secrets::{Setup, Store};
use crate::privileged::{self, Helper};
use crate::{Paths, boot, daemon, health, image, next_key, storage};
use anyhow::Result;
use clap::{Parser, Subcommand};
use fleeti_core::foreign;
use std::process::ExitCode;
use tracing_subscriber::fmt::format::debug_fn;

#[derive(Parser)]
#[command(version, about = "The device side of Fleeti")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon, which talks to the server without privileges.
    Daemon,
    /// Run the privileged helper, which offers fixed verbs on a socket.
    Helper,
    /// Run the health checks of the image; fail if this boot must not be kept.
    Health,
    /// Succeed if the boot loader counts attempts for this boot and it was not kept yet.
    OnTrial,
    /// Tell the helper that this boot was blessed.
    Blessed,
    /// Create, open and mount the data partition.
    Storage,
    /// Empty the persistent directories if a factory reset was requested, before they are used.
    FactoryReset,
    /// Put the secrets without which the server is not reached into memory, before the network.
    BootSecrets,
    /// Add to the data partition what it needs: the next key of PCR 11, a recovery key.
    RecoveryKey,
}

/// Runs the subcommand.
pub async fn main() -> ExitCode {
    let field = debug_fn(|writer, field, value| foreign::log_field(writer, field.name(), value));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .fmt_fields(field)
        .init();
    match run(Arguments::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<bool> {
    let paths = Paths::device();
    match command {
        Command::Daemon => daemon::run(paths).await.map(|()| true),
        Command::Helper => privileged::serve(paths, daemon_group()).await.map(|()| true),
        Command::Health => {
            let healthy = health::run(&paths, is_on_trial(&paths)).await.unwrap_or_else(|e| {
                tracing::error!("{e:#}");
                false
            });
            // A version that was kept is reported, not rebooted repeatedly.
            Ok(healthy || !is_on_trial(&paths))
        }
        Command::OnTrial => Ok(is_on_trial(&paths)),
        Command::Blessed => Helper::at(paths.socket()).blessed_changed().await.map(|()| true),
        Command::Storage => storage::open(&paths).map(|()| true),
        Command::FactoryReset => {
            privileged::reset::apply(&paths).inspect_err(|e| {
                crate::console::say(&format!("fleeti: no factory reset: {e:#}"));
            })?;
            Ok(true)
        }
        Command::BootSecrets => {
            boot_secrets(&paths)?;
            Ok(true)
        }
        Command::RecoveryKey => {
            // First, while the first token is the one that opens the partition under this image.
            next_key::enroll(&paths).unwrap_or_else(|e| tracing::error!("{e:#}"));
            storage::add_recovery_key(&paths).map(|()| true)
        }
    }
}

fn boot_secrets(paths: &Paths) -> Result<()> {
    let declared = image::facts(paths)?.boot_secrets;
    Store::open(paths, declared, Setup::device(!is_on_trial(paths))).map(drop)
}

fn is_on_trial(paths: &Paths) -> bool {
    boot::is_counted() && !boot::is_kept(paths)
}

/// The group id of the daemon in group(5).
#[must_use]
pub fn daemon_group() -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let row = text.lines().find(|l| l.split(':').next() == Some("fleeti"))?;
    row.split(':').nth(2)?.parse().ok()
}
