//! `fleeti-server --data DIR`.

use anyhow::Result;
use clap::Parser;
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// The control plane of Fleeti: API and web, device port, MQTT, builds.
///
/// DIR needs keys (`fleeti pki init DIR/pki`) and a passphrase (the systemd credential fleeti-passphrase, or
/// DIR/passphrase). The administrator's token is in DIR/admin.token after the first start.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The data folder.
    #[arg(long, env = "FLEETI_DATA")]
    data: PathBuf,
    /// Where API and web listen. Without TLS, so keep it on loopback or behind a proxy.
    #[arg(long, default_value = "127.0.0.1:8080")]
    api: SocketAddr,
    /// Where the device port listens.
    #[arg(long, default_value = "0.0.0.0:8443")]
    https: SocketAddr,
    /// Where MQTT listens.
    #[arg(long, default_value = "0.0.0.0:8883")]
    mqtt: SocketAddr,
    /// DNS name or address that devices call this server by; the first goes into enrollment records.
    #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    names: Vec<String>,
    /// The socket of fleeti-signer. Without it the keys are in this process, which is for development.
    #[arg(long, env = "FLEETI_SIGNER")]
    signer: Option<PathBuf>,
    /// Let a TPM in software count as much as a chip, if its maker is in DIR/pki/tpm-makers/virtual: whoever runs the
    /// hosts of such devices is then believed.
    #[arg(long)]
    trust_virtual_tpms: bool,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long)]
    agent: Option<PathBuf>,
}

fn main() -> Result<()> {
    with_few_arenas();
    serve()
}

/// Starts this program anew, as the same process, so that glibc keeps what was freed in two arenas and not in one for each
/// thread: most threads here wait for a disk, and what they free comes in handy elsewhere. Only the environment says so
/// without unsafe code (mallopt(3)).
fn with_few_arenas() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(ARENAS).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else { return };
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let failed = Command::new(program).arg0(name).args(arguments).env(ARENAS, "2").exec();
    eprintln!("fleeti-server goes on with more memory than it needs: {failed}");
}

#[actix_web::main]
async fn serve() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let a = Arguments::parse();
    let config = Config {
        api: a.api,
        https: a.https,
        mqtt: a.mqtt,
        names: a.names,
        agent: a.agent,
        signer: a.signer,
        trusts_hypervisor: a.trust_virtual_tpms,
        ..Config::new(a.data)
    };
    // Before anybody can read where it listens, and ends it.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = Server::start(config).await?;
    let at = server.addresses;
    tracing::info!("API http://{}, device port https://{}, MQTT {}", at.api, at.https, at.mqtt);
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}
