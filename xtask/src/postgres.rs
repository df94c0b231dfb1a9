//! A PostgreSQL server for tests, from Debian's package: in a temporary folder, on a Unix socket
//! alone, without durability.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The environment variable by which tests find the server.
pub const URL: &str = "FLEETI_POSTGRES";
/// Where Debian puts the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Made by the package. PostgreSQL refuses to run as root.
const USER: &str = "postgres";

/// A running server. Dropping it stops the server and removes its folder.
pub struct Cluster {
    child: Child,
    folder: PathBuf,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When the package is missing, or the server does not start.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = std::env::temp_dir().join(format!("fleeti-postgres-{}", std::process::id()));
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| folder.display().to_string())?;
        own(&folder)?;
        // This locale does not sort by bytes, so that a missing collation shows.
        let made = as_user(&programs.join("initdb"))
            .args(["--auth=trust", "--username=fleeti", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .context("initdb")?;
        if !made.success() {
            bail!("initdb: {made}");
        }
        let log = fs::File::create(folder.join("log"))?;
        let child = as_user(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300"])
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres")?;
        let mut cluster = Self { child, folder };
        cluster.wait(&programs)?;
        Ok(cluster)
    }

    /// The URL of the server, to which the name of a database is added.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://fleeti@{}", self.folder.display().to_string().replace('/', "%2F"))
    }

    fn wait(&mut self, programs: &Path) -> Result<()> {
        let started = Instant::now();
        loop {
            let is_ready = Command::new(programs.join("pg_isready"))
                .arg("--quiet")
                .arg("--host")
                .arg(&self.folder)
                .status()
                .context("pg_isready")?
                .success();
            if is_ready {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("PostgreSQL does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGINT: end at once, with all sessions. SIGKILL would leave children and shared memory.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// `cargo xtask postgres COMMAND`: runs a command beside a server.
///
/// # Errors
/// When the server does not start, or the command fails.
pub fn beside(command: &[&str]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command") };
    let cluster = Cluster::start()?;
    let status = Command::new(program)
        .args(arguments)
        .env(URL, cluster.url())
        .status()
        .with_context(|| (*program).to_owned())?;
    drop(cluster);
    if status.success() { Ok(()) } else { bail!("{program}: {status}") }
}

/// The programs of the newest version.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).context("run `cargo xtask setup`: no PostgreSQL")?;
    let newest = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then_some((version, path))
        })
        .max();
    let (_, path) = newest.context("run `cargo xtask setup`: no PostgreSQL")?;
    Ok(path.join("bin"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// A command of an unprivileged user, which ends with this process.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

fn own(folder: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let status = Command::new("chown")
        .args(["--recursive", &format!("{USER}:{USER}")])
        .arg(folder)
        .status()
        .context("chown")?;
    if status.success() { Ok(()) } else { bail!("chown {}: {status}", folder.display()) }
}
