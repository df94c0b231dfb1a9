//! `fleeti-server --data DIR`.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fleeti_client::danger::PlainHttp;
use fleeti_client::{Pin, WorkerClient};
use fleeti_control::accounts::links;
use fleeti_control::clock::{instant, now_s};
use fleeti_control::error::for_log;
use fleeti_control::suites;
use fleeti_core::doctor;
use fleeti_core::foreign::{self, Foreign};
use fleeti_core::wire::doctor::{CheckResult, Examined};
use fleeti_server::backup::write::Wanted;
use fleeti_server::backup::{self, Manifest, Omitted};
use fleeti_server::check::Checked;
use fleeti_server::config::write_first_link;
use fleeti_server::log::LogFormat;
use fleeti_server::options::Options;
use fleeti_server::remote_worker::{Nix, RemoteWorker};
use fleeti_server::server::Server;
use std::io::{self, Write};
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
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage; of `doctor` 3 if a check failed.
#[derive(Parser)]
#[command(version)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Build images for a server, which then needs no Nix. Create the token with
    /// `fleeti worker add NAME`.
    Worker(WorkerArguments),
    /// Examine the server of this machine, whether or not it runs: each line says ok, warning or
    /// failed, and what to do. Run it with the options of the server. Exit code 3: a check failed.
    Doctor(DoctorArguments),
    /// Back up the server of this machine to one file, while it runs: its database, tokens, public
    /// keys, releases and builds. Run it with the options of the server, as its user. Keys and audit
    /// log are the signing service's: see docs/guides/backup.md.
    Backup {
        /// The file, which must not exist, or a folder.
        to: PathBuf,
        /// Leave out files over 1 MiB of releases and builds, and list them.
        #[arg(long)]
        without_artifacts: bool,
        /// Leave out the database, which pg_dump backs up.
        #[arg(long)]
        without_database: bool,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Restore a backup into an empty data folder. All of it is verified first. The next start
    /// repeats what was revoked after the backup, and lists what is lost.
    Restore {
        /// The backup.
        from: PathBuf,
        /// The data folder.
        #[arg(long, env = "FLEETI_DATA")]
        data: PathBuf,
    },
    /// Check a file for --config, with the FLEETI_... variables: list the options that count, and
    /// everything for which a server would not start.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args)]
struct DoctorArguments {
    #[command(flatten)]
    options: Box<Options>,
    /// List also what will have ended on this day (YYYY-MM-DD), and who must renew it.
    #[arg(long, value_parser = day)]
    at: Option<Day>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// The end of a day in UTC.
#[derive(Debug, Clone, Copy)]
struct Day(u64);

fn day(text: &str) -> Result<Day, String> {
    let date: jiff::civil::Date = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    let end = jiff::tz::TimeZone::UTC.to_timestamp(date.at(23, 59, 59, 0));
    let end = end.map_err(|e| e.to_string())?.as_second();
    u64::try_from(end).map(Day).map_err(|_| "the day is before 1970".to_owned())
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

/// Maximum length of the final error message, in characters.
const ERROR_CHARS_MAX: usize = 2000;

fn main() -> ExitCode {
    with_little_memory();
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let Arguments { command, options } = Arguments::parse();
    let done = match command {
        Some(Command::Worker(worker)) => work(worker).map(|()| ExitCode::SUCCESS),
        Some(Command::Doctor(doctor)) => examine(doctor),
        Some(Command::CheckConfig { file }) => check_config(file, options),
        Some(Command::Backup { to, without_artifacts, without_database, options }) => {
            let (has_artifacts, has_database) = (!without_artifacts, !without_database);
            back_up(*options, &Wanted { to, has_artifacts, has_database })
        }
        Some(Command::Restore { from, data }) => restored(&from, &data),
        None => options.complete().and_then(serve).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|e| {
        eprintln!("Error: {}", Foreign::new(&for_log(&e), ERROR_CHARS_MAX));
        ExitCode::FAILURE
    })
}

/// Prints lines on stdout, each escaped.
fn print(lines: &[String]) {
    for line in lines {
        println!("{}", Foreign::new(line, ERROR_CHARS_MAX));
    }
}

/// `fleeti-server doctor`.
#[actix_web::main]
async fn examine(a: DoctorArguments) -> Result<ExitCode> {
    fleeti_server::log::start(LogFormat::Text);
    let found = fleeti_server::examine::examine(&a.options.complete()?.config()?).await?;
    let ended = a.at.map(|Day(at_s)| doctor::by(&found.endings, at_s));
    if a.json {
        let examined = Examined { diagnosis: found.clone(), ended };
        let text = foreign::json(&serde_json::to_string_pretty(&examined)?);
        writeln!(io::stdout(), "{text}")?;
    } else {
        print(&doctor::check_lines(&found.checks));
        print(&ended.map(|all| doctor::ending_lines(&all, instant)).unwrap_or_default());
    }
    let failed = doctor::worst(&found.checks) == CheckResult::Failed;
    Ok(if failed { ExitCode::from(FAILED_CHECK) } else { ExitCode::SUCCESS })
}

/// `fleeti-server backup`.
#[actix_web::main]
async fn back_up(options: Options, wanted: &Wanted) -> Result<ExitCode> {
    fleeti_server::log::start(LogFormat::Text);
    let config = options.complete()?.config()?;
    let (made, manifest) = backup::write::write(&config, wanted).await?;
    let lines = [
        format!(
            "wrote {}: {} files, {} MiB",
            made.path.display(),
            manifest.files.len(),
            made.bytes >> 20
        ),
        format!("SHA-256 {}", made.sha256),
    ];
    print(&lines);
    left_out(&manifest);
    Ok(ExitCode::SUCCESS)
}

/// `fleeti-server restore`.
fn restored(from: &Path, data: &Path) -> Result<ExitCode> {
    fleeti_server::log::start(LogFormat::Text);
    let manifest = backup::restore::restore(from, data, now_s())?;
    let next =
        "start the signing service and then this server, which repeats what was revoked since";
    let made = instant(manifest.made_s);
    print(&[format!("restored {} files of {made}; {next}", manifest.files.len())]);
    left_out(&manifest);
    Ok(ExitCode::SUCCESS)
}

/// Prints what a backup does not contain.
fn left_out(manifest: &Manifest) {
    let line =
        |file: &Omitted| format!("left out: {} ({} bytes): {}", file.path, file.bytes, file.why);
    print(&manifest.omitted.iter().map(line).collect::<Vec<_>>());
}

/// Exit code of `doctor` if a check failed.
const FAILED_CHECK: u8 = 3;

/// `fleeti-server check-config`.
fn check_config(file: PathBuf, options: Options) -> Result<ExitCode> {
    let given = Options { config: Some(file), ..options };
    let Checked { lines, problems } = fleeti_server::check::check(given)?;
    print(&lines);
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &problems {
        eprintln!("error: {}", Foreign::new(problem, ERROR_CHARS_MAX));
    }
    Ok(ExitCode::FAILURE)
}

/// Limits of glibc's allocator (mallopt(3)): one arena instead of one per thread, as most threads
/// wait for a disk and others can reuse what they free; and blocks of 128 KiB and more, such as
/// uploaded pieces, go back to the kernel when they are freed. By default glibc would serve such
/// blocks from an arena once one of them was freed, and keep them.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
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

/// `fleeti-server worker`.
#[actix_web::main]
async fn work(a: WorkerArguments) -> Result<()> {
    fleeti_server::log::start(LogFormat::Text);
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
async fn serve(options: Options) -> Result<()> {
    fleeti_server::log::start(options.log.unwrap_or_default());
    let config = options.config()?;
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
