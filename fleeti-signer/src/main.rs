//! `fleeti-signer --pki DIR --log DIR --socket PATH`.

use anyhow::{Context, Result, bail};
use clap::Parser;
use fleeti_core::foreign::{self, Foreign};
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::keeper::Keeper;
use fleeti_signer::limits::Limits;
use fleeti_signer::{keys, socket};
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::fmt::format::debug_fn;

/// The process that holds the keys of a Fleeti server, and writes the audit log.
///
/// It runs as a user of its own, without a network, and speaks with one other user on a Unix
/// socket. The passphrase of its keys comes from the systemd credential fleeti-passphrase, from the
/// file that FLEETI_PASSPHRASE_FILE names, from `passphrase` beside the keys' folder, or from a
/// prompt. A key file may name a key in a token instead (PKCS#11).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder with `online/` and `public/` (`fleeti pki init`).
    #[arg(long)]
    pki: PathBuf,
    /// The folder of the audit log.
    #[arg(long)]
    log: PathBuf,
    /// Where to listen.
    #[arg(long)]
    socket: PathBuf,
    /// User id of the server; root and the signer's own user may speak as well.
    #[arg(long)]
    server_uid: Option<u32>,
    /// Where devices' revocation list can be had; it goes into every certificate.
    #[arg(long)]
    crl_url: Option<String>,
    /// The server's builds; needed, with --outbox, where this signer holds release keys
    /// (`pki/signing`).
    #[arg(long, requires = "outbox")]
    builds: Option<PathBuf>,
    /// Where signed releases are left for the server: its `releases/.staging`, writable by both.
    #[arg(long, requires = "builds")]
    outbox: Option<PathBuf>,
    /// Most certificates in a minute.
    #[arg(long, default_value_t = Limits::default().certificates_per_minute)]
    certificates_per_minute: u32,
    /// Most acts of Secure Boot (keys made, variables changed, releases signed for a device) in a
    /// minute.
    #[arg(long, default_value_t = Limits::default().boot_per_minute)]
    boot_per_minute: u32,
    /// Most releases signed in a minute.
    #[arg(long, default_value_t = Limits::default().releases_per_minute)]
    releases_per_minute: u32,
    /// Most secrets and recovery keys kept or given away in a minute.
    #[arg(long, default_value_t = Limits::default().secrets_per_minute)]
    secrets_per_minute: u32,
    /// Revocation lists signed in a minute, at the most.
    #[arg(long, default_value_t = Limits::default().lists_per_minute)]
    lists_per_minute: u32,
    /// Acts of the server entered into the audit log in a minute, at the most; more wait with the
    /// server.
    #[arg(long, default_value_t = Limits::default().records_per_minute)]
    records_per_minute: u32,
}

/// Characters of the error that ends the program.
const ERROR_CHARS_MAX: usize = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let field = debug_fn(|writer, field, value| foreign::log_field(writer, field.name(), value));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .fmt_fields(field)
        .init();
    run(Arguments::parse()).await.map_or_else(
        |e| {
            eprintln!("Error: {}", Foreign::new(&format!("{e:#}"), ERROR_CHARS_MAX));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

async fn run(a: Arguments) -> Result<()> {
    let passphrase = keys::passphrase(a.pki.parent().unwrap_or(&a.pki))?;
    let mut keys = keys::open(&a.pki, &passphrase, a.crl_url)?;
    if let (Some(builds), Some(outbox)) = (a.builds, a.outbox) {
        let folders = keys::Folders { builds, outbox, work: a.log.join("releases") };
        keys.releases = keys::open_signing(&a.pki, &passphrase, folders)?.map(Arc::new);
    } else if a.pki.join("signing/release.key").exists() {
        tracing::warn!(
            "pki/signing has release keys; they are used with --builds and --outbox only"
        );
    }
    if let Some(releases) = &keys.releases {
        tracing::info!("this signer signs releases {}", releases.policy_in_words());
    }
    let limits = Limits {
        certificates_per_minute: a.certificates_per_minute,
        boot_per_minute: a.boot_per_minute,
        releases_per_minute: a.releases_per_minute,
        secrets_per_minute: a.secrets_per_minute,
        lists_per_minute: a.lists_per_minute,
        records_per_minute: a.records_per_minute,
    };
    let keeper = Keeper::open(keys, &a.log, limits)?;
    tracing::info!("audit log {} in {}", keeper.log_key().to_text(), a.log.display());
    let own = std::fs::metadata("/proc/self")?.uid();
    let listener = socket::listen(&a.socket).with_context(|| a.socket.display().to_string())?;
    tracing::info!("listening at {}", a.socket.display());
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let signer = SignerHandle::embedded(keeper)?;
    tokio::select! {
        () = socket::serve(listener, signer.clone(), own, a.server_uid) => {}
        () = signer.stopped() => bail!("the audit log cannot be written"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    Ok(())
}
