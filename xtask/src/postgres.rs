//! A PostgreSQL server for tests, from Debian's package: in a temporary folder, on a Unix socket and,
//! with TLS and a password, on loopback; without durability.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The environment variable by which tests find the server, over its socket.
const URL: &str = "FLEETI_POSTGRES";
/// The environment variable with the URL over TCP, where the server accepts only TLS.
const TLS_URL: &str = "FLEETI_POSTGRES_TLS";
/// The environment variable with the folder of `root.pem`, the CA of the server's certificate for
/// `localhost`, and `other-root.pem`, a CA that has issued nothing.
const ROOTS: &str = "FLEETI_POSTGRES_ROOTS";
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
    port: u16,
    password: String,
}

/// Who may connect: over TCP only with TLS and the password, as every user of this machine can.
const ACCESS: &str = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";

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
        certificates(&folder)?;
        let (port, password) = (free_port()?, password()?);
        let password_file = folder.join("password");
        fs::write(&password_file, &password)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        own(&folder)?;
        // This locale does not sort by bytes, so that a missing collation shows.
        let made = as_user(&programs.join("initdb"))
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--username=fleeti"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en-US", "--no-sync"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .context("initdb")?;
        if !made.success() {
            bail!("initdb: {made}");
        }
        fs::write(data.join("pg_hba.conf"), ACCESS)?;
        let log = fs::File::create(folder.join("log"))?;
        let file = |name: &str| folder.join(name).display().to_string();
        let child = as_user(&programs.join("postgres"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            .args(["-c", "fsync=off", "-c", "max_connections=300", "-c", "ssl=on"])
            .args(["-c", &format!("ssl_cert_file={}", file("server.pem"))])
            .args(["-c", &format!("ssl_key_file={}", file("server.key"))])
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres")?;
        let mut cluster = Self { child, folder, port, password };
        cluster.wait(&programs)?;
        Ok(cluster)
    }

    /// The environment variables by which tests find the server. The name of a database is added
    /// to its URLs.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let Self { folder, port, password, .. } = self;
        let folder = folder.display().to_string();
        let socket = folder.replace('/', "%2F");
        [
            (URL, format!("postgres://fleeti@{socket}:{port}")),
            (TLS_URL, format!("postgres://fleeti:{password}@localhost:{port}")),
            (ROOTS, folder),
        ]
    }

    fn wait(&mut self, programs: &Path) -> Result<()> {
        let started = Instant::now();
        loop {
            let is_ready = Command::new(programs.join("pg_isready"))
                .arg("--quiet")
                .arg("--host")
                .arg(&self.folder)
                .args(["--port", &self.port.to_string()])
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
        .envs(cluster.environment())
        .status()
        .with_context(|| (*program).to_owned())?;
    drop(cluster);
    if status.success() { Ok(()) } else { bail!("{program}: {status}") }
}

/// A port that is free now. PostgreSQL cannot choose one itself.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn password() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes two CAs and, by the first one, a certificate for `localhost`.
fn certificates(folder: &Path) -> Result<()> {
    // Without the extensions of the system's configuration, which would be there twice.
    let configuration = folder.join("openssl.cnf");
    fs::write(&configuration, "[req]\ndistinguished_name = name\n[name]\n")?;
    let make = |name: &str, subject: &str, more: &[&str]| -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-newkey", "ec"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", &key]);
        command.args(["-out", &certificate, "-subj", subject]).args(more).current_dir(folder);
        let made = command.output().context("openssl")?;
        if !made.status.success() {
            bail!("openssl {certificate}: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    };
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
    make("root", "/CN=PostgreSQL root", &authority)?;
    make("other-root", "/CN=PostgreSQL root", &authority)?;
    let issued = ["-CA", "root.pem", "-CAkey", "root.key"];
    let name = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"];
    make("server", "/CN=localhost", &[issued, name].concat())
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
