//! `fleeti-signer --pki DIR --log DIR --socket PATH`.

use anyhow::{Context, Result, bail};
use clap::Parser;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::keeper::{Keeper, Limits};
use fleeti_signer::{keys, socket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// The process that holds the keys of a Fleeti server, and writes the audit log.
///
/// It runs as a user of its own, without a network, and speaks with one other user on a Unix socket. The passphrase of
/// its keys comes from the systemd credential fleeti-passphrase, from the file that FLEETI_PASSPHRASE_FILE names, or
/// from `passphrase` beside the keys' folder.
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
    /// Most certificates in a minute.
    #[arg(long, default_value_t = Limits::default().certificates_per_minute)]
    certificates_per_minute: u32,
    /// Most acts of Secure Boot (keys made, variables changed, releases signed for a device) in a minute.
    #[arg(long, default_value_t = Limits::default().boot_per_minute)]
    boot_per_minute: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let a = Arguments::parse();
    let passphrase = keys::passphrase(a.pki.parent().unwrap_or(&a.pki))?;
    let keys = keys::open(&a.pki, &passphrase, a.crl_url)?;
    let keeper =
        Keeper::open(keys, &a.log, Limits { certificates_per_minute: a.certificates_per_minute, boot_per_minute: a.boot_per_minute })?;
    tracing::info!("audit log {} in {}", keeper.log_key().to_text(), a.log.display());
    let own = std::fs::metadata("/proc/self")?.uid();
    let listener = socket::listen(&a.socket).with_context(|| a.socket.display().to_string())?;
    tracing::info!("listening at {}", a.socket.display());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
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
