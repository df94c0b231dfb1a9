//! `fleeti-server --data DIR`.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fleeti_client::danger::PlainHttp;
use fleeti_client::{Pin, WorkerClient};
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::device::is_proxy;
use fleeti_server::admin_tls::ApiTls;
use fleeti_server::config::Config;
use fleeti_server::limits::Limits;
use fleeti_server::remote_worker::{Nix, RemoteWorker};
use fleeti_server::server::Server;
use fleeti_server::service::retention::Retention;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// The control plane of Fleeti: API and web, device port, MQTT, builds.
///
/// DIR needs keys (`fleeti pki init DIR/pki`) and a passphrase (the systemd credential
/// fleeti-passphrase, or DIR/passphrase). The administrator's token is in DIR/admin.token after the
/// first start.
#[derive(Parser)]
#[command(version)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The data folder.
    #[arg(long, env = "FLEETI_DATA", required = true)]
    data: Option<PathBuf>,
    /// Where API and web listen. Plain HTTP on a loopback address, TLS on every other one: with a
    /// certificate that the server issues to itself unless --api-cert names another one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    api: SocketAddr,
    /// Certificate chain of the API, PEM, leaf first. Read again when it changes, as --api-key is.
    #[arg(long, requires = "api_key")]
    api_cert: Option<PathBuf>,
    /// Private key of the API, PEM.
    #[arg(long, requires = "api_cert")]
    api_key: Option<PathBuf>,
    /// TLS also on a loopback address, with a certificate that the server issues to itself
    /// (DIR/pki/admin).
    #[arg(long, conflicts_with = "api_cert")]
    api_tls: bool,
    /// Plain HTTP on an address that others can reach: tokens and sessions can be read on the way.
    #[arg(long, conflicts_with_all = ["api_cert", "api_tls"])]
    insecure_http: bool,
    /// Where the device port listens.
    #[arg(long, default_value = "0.0.0.0:8443")]
    https: SocketAddr,
    /// Where MQTT listens.
    #[arg(long, default_value = "0.0.0.0:8883")]
    mqtt: SocketAddr,
    /// DNS name or address that devices call this server by; the first goes into enrollment
    /// records.
    #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    names: Vec<String>,
    /// An HTTP proxy through which devices reach this server, `http://HOST:PORT`; it goes into
    /// enrollment records.
    #[arg(long, value_parser = proxy_url)]
    device_proxy: Option<String>,
    /// The socket of fleeti-signer. Without it the keys are in this process, which is for
    /// development.
    #[arg(long, env = "FLEETI_SIGNER")]
    signer: Option<PathBuf>,
    /// Where certificates of devices say that their revocation list is, as in
    /// `http://pki.example/{issuer}.crl`; the device port by default. With --signer, the signer's
    /// own --crl-url counts.
    #[arg(long)]
    crl_url: Option<String>,
    /// Let a TPM in software count as much as a chip, if its maker is in
    /// DIR/pki/tpm-makers/virtual: whoever runs the hosts of such devices is then believed.
    #[arg(long)]
    trust_virtual_tpms: bool,
    /// MiB that are kept free on the disk of the data folder: below them no build and no upload is
    /// taken, and twice as many are a warning. 5 % of the disk by default, 512 at the most.
    #[arg(long)]
    disk_floor_mib: Option<u64>,
    /// Builds whose files are kept, beside those that a release was made of.
    #[arg(long, default_value_t = Retention::default().builds)]
    keep_builds: u32,
    /// Days after which an upload that nobody goes on with is removed.
    #[arg(long, default_value_t = Retention::default().upload_s / 86_400)]
    keep_uploads_days: u64,
    /// Limits of connections, bodies and codes, as TOML. What it does not name has its default.
    #[arg(long)]
    limits: Option<PathBuf>,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Build images in this process, as the server's user, with the Nix of this machine: for
    /// development. Without it builds wait for `fleeti-server worker`, here or on another machine.
    #[arg(long)]
    local_worker: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Build images for a server, which then needs no Nix. `fleeti worker add NAME` makes the
    /// token.
    Worker(WorkerArguments),
}

#[derive(Args)]
struct WorkerArguments {
    /// The server's API.
    #[arg(long, env = "FLEETI_SERVER")]
    server: String,
    /// SHA-256 of the public key that the server must have, `sha256:...`; without it its
    /// certificate must be trusted here.
    #[arg(long, env = "FLEETI_FINGERPRINT")]
    fingerprint: Option<Pin>,
    /// File with the worker's token.
    #[arg(long)]
    token_file: PathBuf,
    /// Where builds are made.
    #[arg(long, default_value = "/var/lib/fleeti-worker/builds")]
    work: PathBuf,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Send the token over plain HTTP to another machine: it can be read on the way.
    #[arg(long)]
    insecure_http: bool,
}

/// What the arguments say about TLS of the API.
fn asked(a: &Arguments) -> Option<ApiTls> {
    match (&a.api_cert, &a.api_key) {
        (Some(certificate), Some(key)) => {
            Some(ApiTls::Files { certificate: certificate.clone(), key: key.clone() })
        }
        _ if a.api_tls => Some(ApiTls::SelfIssued),
        _ if a.insecure_http => Some(ApiTls::Insecure),
        _ => None,
    }
}

/// What agents take: no TLS to the proxy, no password, no path.
fn proxy_url(url: &str) -> Result<String, String> {
    if is_proxy(url) { Ok(url.to_owned()) } else { Err("give http://HOST:PORT".to_owned()) }
}

/// Characters of the error that ends the program.
const ERROR_CHARS_MAX: usize = 2000;

fn main() -> ExitCode {
    with_few_arenas();
    let mut arguments = begin();
    let done = match arguments.command.take() {
        Some(Command::Worker(worker)) => work(worker),
        None => serve(arguments),
    };
    done.map_or_else(
        |e| {
            eprintln!("Error: {}", Foreign::new(&format!("{e:#}"), ERROR_CHARS_MAX));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Starts this program anew, as the same process, so that glibc keeps what was freed in two arenas
/// and not in one for each thread: most threads here wait for a disk, and what they free comes in
/// handy elsewhere. Only the environment says so without unsafe code (mallopt(3)).
fn with_few_arenas() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(ARENAS).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else {
        return;
    };
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let failed = process::Command::new(program).arg0(name).args(arguments).env(ARENAS, "2").exec();
    eprintln!(
        "fleeti-server goes on with more memory than it needs: {}",
        Foreign::log(&failed.to_string())
    );
}

fn begin() -> Arguments {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    fleeti_server::log::start();
    Arguments::parse()
}

/// `fleeti-server worker`.
#[actix_web::main]
async fn work(a: WorkerArguments) -> Result<()> {
    let plain_http = if a.insecure_http { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly };
    let token = std::fs::read_to_string(&a.token_file)
        .with_context(|| a.token_file.display().to_string())?;
    let client =
        WorkerClient::with_plain_http(&a.server, token.trim(), a.fingerprint.as_ref(), plain_http)?;
    let agent = match a.agent {
        Some(agent) => agent,
        None => std::env::current_exe()?.with_file_name("fleeti-agent"),
    };
    tracing::info!("building for {}", a.server);
    let worker = RemoteWorker { client, work: a.work, agent, builder: Arc::new(Nix) };
    match worker.run().await {}
}

#[actix_web::main]
async fn serve(a: Arguments) -> Result<()> {
    let api_tls = ApiTls::of(a.api, asked(&a));
    let data = a.data.context("--data is missing")?;
    let limits = a.limits.as_deref().map_or_else(|| Ok(Limits::default()), Limits::read)?;
    let config = Config {
        limits,
        api: a.api,
        api_tls,
        https: a.https,
        mqtt: a.mqtt,
        names: a.names,
        device_proxy: a.device_proxy,
        agent: a.agent,
        signer: a.signer,
        crl_url: a.crl_url,
        trusts_hypervisor: a.trust_virtual_tpms,
        local_worker: a.local_worker,
        disk_floor: a.disk_floor_mib.map(|mib| mib << 20),
        retention: Retention {
            builds: a.keep_builds,
            upload_s: a.keep_uploads_days.saturating_mul(86_400),
        },
        ..Config::new(data)
    };
    // Before anybody can read where it listens, and ends it.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let scheme = config.api_tls.scheme();
    let server = Server::start(config).await?;
    let at = server.addresses;
    tracing::info!("API {scheme}://{}, device port https://{}, MQTT {}", at.api, at.https, at.mqtt);
    if let Some(fingerprint) = &server.api_fingerprint {
        tracing::info!(
            "the API's key has the fingerprint {fingerprint}: `fleeti login URL --fingerprint {fingerprint}` pins it"
        );
    }
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}
