//! What `fleeti-agent` is told on its command line: daemon, helper and the parts of a boot.

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
    /// Talk to the server. Runs without privileges.
    Daemon,
    /// The privileged half: fixed verbs on a socket.
    Helper,
    /// Run the health checks of the image; fails when this boot must not be kept.
    Health,
    /// Succeed when the boot loader counts the tries of this boot and it was not kept yet.
    OnTrial,
    /// Tell the helper that the boot was blessed.
    Blessed,
    /// Make, open and mount the data partition.
    Storage,
    /// Add to the data partition what it needs: the next key of register 11, a recovery key.
    RecoveryKey,
}

/// Does what the command line says.
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
            // A version that was kept is reported, not rebooted in circles.
            Ok(healthy || !is_on_trial(&paths))
        }
        Command::OnTrial => Ok(is_on_trial(&paths)),
        Command::Blessed => Helper::at(paths.socket()).blessed_changed().await.map(|()| true),
        Command::Storage => storage::open(&paths).map(|()| true),
        Command::RecoveryKey => {
            // First, while the token that opens the partition under this image is the first one.
            next_key::enroll(&paths).unwrap_or_else(|e| tracing::error!("{e:#}"));
            storage::add_recovery_key(&paths).map(|()| true)
        }
    }
}

fn is_on_trial(paths: &Paths) -> bool {
    let kept = image::running_release(paths)
        .is_ok_and(|r| boot::is_blessed(paths, r.line.as_str(), &r.version));
    boot::is_counted() && !kept
}

/// The id of the daemon's group in group(5).
#[must_use]
pub fn daemon_group() -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let row = text.lines().find(|l| l.split(':').next() == Some("fleeti"))?;
    row.split(':').nth(2)?.parse().ok()
}
