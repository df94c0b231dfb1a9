//! `fleeti-server --data DIR`.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fleeti_client::danger::PlainHttp;
use fleeti_client::{Pin, WorkerClient};
use fleeti_control::accounts::links;
use fleeti_control::error::for_log;
use fleeti_control::settings::Retention;
use fleeti_control::suites;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::enrollment::is_proxy;
use fleeti_server::admin_tls::ApiTls;
use fleeti_server::config::{Config, write_first_link};
use fleeti_server::limits::Limits;
use fleeti_server::remote_worker::{Nix, RemoteWorker};
use fleeti_server::server::Server;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// The control plane of Fleeti: API and pages, device port, MQTT, builds.
///
/// DIR must contain keys (`fleeti pki init DIR/pki`). The passphrase is read from the systemd
/// credential fleeti-passphrase or from DIR/passphrase. The first start writes the administrator's
/// token to DIR/admin.token.
#[derive(Parser)]
#[command(version)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The data folder.
    #[arg(long, env = "FLEETI_DATA", required = true)]
    data: Option<PathBuf>,
    /// The database: sqlite:PATH, or postgres://USER@HOST/NAME. Default: DIR/fleeti.db. Use
    /// PGPASSFILE for the password of PostgreSQL, as other users see arguments. One server at a
    /// time is active on a database.
    #[arg(long, env = "FLEETI_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Address of API and pages. Plain HTTP on a loopback address, TLS on every other address, with
    /// a certificate that the server issues to itself unless --api-cert names one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    api: SocketAddr,
    /// Certificate chain of the API, PEM, leaf first. Reloaded when it changes, like --api-key.
    #[arg(long, requires = "api_key")]
    api_cert: Option<PathBuf>,
    /// Private key of the API, PEM.
    #[arg(long, requires = "api_cert")]
    api_key: Option<PathBuf>,
    /// Use TLS also on a loopback address, with a certificate that the server issues to itself
    /// (DIR/pki/admin).
    #[arg(long, conflicts_with = "api_cert")]
    api_tls: bool,
    /// Use plain HTTP on a reachable address: the network can read tokens and login sessions.
    #[arg(long, conflicts_with_all = ["api_cert", "api_tls"])]
    insecure_http: bool,
    /// Address of the device port (HTTPS).
    #[arg(long, default_value = "0.0.0.0:8443")]
    https: SocketAddr,
    /// Address of the MQTT port.
    #[arg(long, default_value = "0.0.0.0:8883")]
    mqtt: SocketAddr,
    /// DNS name or address by which devices reach this server; enrollment records contain the first
    /// one.
    #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    names: Vec<String>,
    /// HTTP proxy through which devices reach this server, `http://HOST:PORT`; enrollment records
    /// contain it.
    #[arg(long, value_parser = proxy_url)]
    device_proxy: Option<String>,
    /// Socket of fleeti-signer. Without it this process holds the keys, for development only.
    #[arg(long, env = "FLEETI_SIGNER")]
    signer: Option<PathBuf>,
    /// CRL distribution point in device certificates, such as `http://pki.example/{issuer}.crl`;
    /// default: the device port. With --signer, the option --crl-url of fleeti-signer counts.
    #[arg(long)]
    crl_url: Option<String>,
    /// Trust a software TPM as much as a chip, if its manufacturer is in
    /// DIR/pki/tpm-manufacturers/virtual. You then trust the operators of the hosts of such
    /// devices.
    #[arg(long)]
    trust_virtual_tpms: bool,
    /// Minimum free space on the disk of the data folder, in MiB. Below it the server refuses
    /// builds and uploads; below twice as much it warns. Default: 5 % of the disk, at most 512.
    #[arg(long)]
    disk_floor_mib: Option<u64>,
    /// Number of builds whose files are kept, beside those that a release was made from.
    #[arg(long, default_value_t = Retention::default().builds)]
    keep_builds: u32,
    /// Days without activity after which an unfinished upload is removed.
    #[arg(long, default_value_t = Retention::default().upload_s / 86_400)]
    keep_uploads_days: u64,
    /// TOML file with limits of connections, bodies and pairing codes. Missing values have
    /// defaults.
    #[arg(long)]
    limits: Option<PathBuf>,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Build images in this process, as the server's user, with the Nix of this machine. For
    /// development. Otherwise builds wait for `fleeti-server worker`, on this or another machine.
    #[arg(long)]
    local_worker: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Build images for a server, which then needs no Nix. Create the token with
    /// `fleeti worker add NAME`.
    Worker(WorkerArguments),
}

#[derive(Args)]
struct WorkerArguments {
    /// URL of the server's API.
    #[arg(long, env = "FLEETI_SERVER")]
    server: String,
    /// SHA-256 of the server's public key, `sha256:...`. Without it this machine must trust the
    /// server's certificate.
    #[arg(long, env = "FLEETI_FINGERPRINT")]
    fingerprint: Option<Pin>,
    /// File with the worker's token.
    #[arg(long)]
    token_file: PathBuf,
    /// Folder for builds.
    #[arg(long, default_value = "/var/lib/fleeti-worker/builds")]
    work: PathBuf,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Send the token over plain HTTP to another machine: the network can read it.
    #[arg(long)]
    insecure_http: bool,
}

/// TLS of the API, according to the arguments.
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

/// Checks a proxy URL by the agents' rules: no TLS to the proxy, no password, no path.
fn proxy_url(url: &str) -> Result<String, String> {
    if is_proxy(url) { Ok(url.to_owned()) } else { Err("use the form http://HOST:PORT".to_owned()) }
}

/// Maximum length of the final error message, in characters.
const ERROR_CHARS_MAX: usize = 2000;

fn main() -> ExitCode {
    with_little_memory();
    let mut arguments = begin();
    let done = match arguments.command.take() {
        Some(Command::Worker(worker)) => work(worker),
        None => serve(arguments),
    };
    done.map_or_else(
        |e| {
            eprintln!("Error: {}", Foreign::new(&for_log(&e), ERROR_CHARS_MAX));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Limits of glibc's allocator (mallopt(3)): two arenas instead of one per thread, as most threads
/// wait for a disk and others can reuse what they free; and blocks of 128 KiB and more, such as
/// uploaded pieces, go back to the kernel when they are freed. By default glibc would serve such
/// blocks from an arena once one of them was freed, and keep them.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Executes this program again, in the same process, with limits for glibc's allocator. Without
/// unsafe code only the environment can set them. What the environment sets already is kept.
fn with_little_memory() {
    let missing: Vec<_> =
        ALLOCATOR.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else {
        return;
    };
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let failed = process::Command::new(program).arg0(name).args(arguments).envs(missing).exec();
    eprintln!("the allocator's limits are not set: {}", Foreign::log(&failed.to_string()));
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

/// Writes a one-time link for the first administrator, until there is one.
async fn first_link(server: &Server, origin: &str, data: &Path) -> Result<()> {
    let Some(link) = links::first(&server.control).await? else { return Ok(()) };
    let url = format!("{origin}{}", link.path.expose());
    let path = write_first_link(data, &url)?;
    tracing::info!(
        "nobody administers this server with a password yet: open the link in {} within a day",
        path.display()
    );
    Ok(())
}

/// Scheme and authority by which a browser reaches the API: the first name of the server where it
/// listens on every address.
fn origin(scheme: &str, api: SocketAddr, names: &[String]) -> String {
    match names.first() {
        Some(name) if api.ip().is_unspecified() => format!("{scheme}://{name}:{}", api.port()),
        _ => format!("{scheme}://{api}"),
    }
}

#[actix_web::main]
async fn serve(a: Arguments) -> Result<()> {
    let api_tls = ApiTls::of(a.api, asked(&a));
    let data = a.data.context("--data is missing")?;
    let limits = a.limits.as_deref().map_or_else(|| Ok(Limits::default()), Limits::read)?;
    // Parsed here, as an error of clap would show the password.
    let database = a.database.as_deref().map(str::parse).transpose().context("--database")?;
    let config = Config {
        limits,
        database,
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
    let (data_folder, names) = (config.data.clone(), config.names.clone());
    // Install the signal handlers before the log shows that the server is up.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (scheme, has_local_worker) = (config.api_tls.scheme(), config.local_worker);
    let server = Server::start(config).await?;
    let at = server.addresses;
    tracing::info!("API {scheme}://{}, device port https://{}, MQTT {}", at.api, at.https, at.mqtt);
    if let Some(fingerprint) = &server.api_fingerprint {
        tracing::info!(
            "the API's key has the fingerprint {fingerprint}: `fleeti login URL --fingerprint {fingerprint}` pins it"
        );
    }
    first_link(&server, &origin(scheme, at.api, &names), &data_folder).await?;
    // Remote workers upload the index of the suite instead.
    let indexing =
        has_local_worker.then(|| tokio::spawn(suites::local::run(Arc::clone(&server.control))));
    let lost = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        e = server.lease_lost() => Some(e),
    };
    tracing::info!("stopping");
    indexing.iter().for_each(JoinHandle::abort);
    server.stop().await;
    lost.map_or(Ok(()), |e| Err(e.into()))
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn the_first_link_names_a_host_that_a_browser_reaches() {
        let names = ["fleet.example.com".to_owned(), "127.0.0.1".to_owned()];
        for (api, expected) in [
            ("0.0.0.0:8080", "https://fleet.example.com:8080"),
            ("[::]:8080", "https://fleet.example.com:8080"),
            ("192.0.2.7:8080", "https://192.0.2.7:8080"),
            ("[2001:db8::7]:8080", "https://[2001:db8::7]:8080"),
        ] {
            assert_eq!(origin("https", api.parse().unwrap(), &names), expected);
        }
        assert_eq!(origin("https", "0.0.0.0:8080".parse().unwrap(), &[]), "https://0.0.0.0:8080");
    }
}
