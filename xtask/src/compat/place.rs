//! Programs of one release, and the processes that they run as.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time limit of one step on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(500);

/// The programs of one release.
pub struct Programs {
    folder: PathBuf,
    /// What it is, in words.
    pub title: String,
}

impl Programs {
    /// The programs in a folder.
    pub fn new(folder: &Path, title: &str) -> Result<Self> {
        let folder = fs::canonicalize(folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, title: title.to_owned() })
    }

    /// A command of this release without the environment of the caller's configuration.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("FLEETI_") {
                command.env_remove(variable);
            }
        }
        command.env_remove("CREDENTIALS_DIRECTORY").stdin(Stdio::null());
        command
    }
}

/// A folder for one run, with the server's data and three free ports, which every server of the run
/// uses in turn.
pub struct Place {
    folder: PathBuf,
    ports: [u16; 3],
}

impl Place {
    /// An empty folder; what an earlier run left is deleted.
    pub fn new(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // Held until all three are known, so that they differ.
        let held = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0"));
        let mut ports = [0; 3];
        for (port, held) in ports.iter_mut().zip(&held) {
            let held = held.as_ref().map_err(|e| anyhow::anyhow!("a free port: {e}"))?;
            *port = held.local_addr()?.port();
        }
        Ok(Self { folder: folder.to_owned(), ports })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Starts a background process; its output goes to `NAME.out` and `NAME.err`.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        let (out, err) = (self.path(&format!("{name}.out")), self.path(&format!("{name}.err")));
        let temporary = self.path(&format!("{name}.tmp"));
        fs::create_dir_all(&temporary)?;
        command.env("TMPDIR", temporary);
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let child = command.spawn().with_context(|| name.to_owned())?;
        Ok(Process { name: name.to_owned(), child, out, err })
    }

    /// Starts a server on the data of the run.
    pub fn serve(&self, programs: &Programs, name: &str) -> Result<Process> {
        let mut command = programs.command("fleeti-server");
        command.arg("--data").arg(self.path("data"));
        for (option, port) in ["--api", "--https", "--mqtt"].into_iter().zip(self.ports) {
            command.arg(option).arg(format!("127.0.0.1:{port}"));
        }
        let mut server = self.start(name, &mut command)?;
        server.says("device port https://", &server.err.clone())?;
        Ok(server)
    }

    /// Starts a device in memory, which enrolls into a fleet of the running server.
    pub fn device(&self, programs: &Programs, fleet: &str) -> Result<Process> {
        let mut command = programs.command("fake_fleet");
        command.args(["--devices", "1", "--running", "kiosk@1", "--fleet", fleet]);
        command.args(["--server", &self.url()]);
        command.arg("--token-file").arg(self.path("data/admin.token"));
        command.arg("--public").arg(self.path("data/pki/public"));
        self.start(fleet, &mut command)
    }

    /// Runs `fleeti -o json WORDS` and returns its document.
    pub fn fleeti(&self, programs: &Programs, words: &[&str]) -> Result<Value> {
        let mut command = programs.command("fleeti");
        command.args(["-o", "json"]).args(words);
        command.env("FLEETI_SERVER", self.url());
        command.env("FLEETI_TOKEN_FILE", self.path("data/admin.token"));
        command.env("XDG_CONFIG_HOME", self.path("config"));
        let output = command.output().context("fleeti")?;
        let what = || format!("fleeti {} of {}", words.join(" "), programs.title);
        if !output.status.success() {
            bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(what)
    }
}

/// A background process, which is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Waits until its standard output has a text.
    pub fn prints(&mut self, text: &str) -> Result<()> {
        self.says(text, &self.out.clone())
    }

    fn says(&mut self, text: &str, file: &Path) -> Result<()> {
        until(&format!("{} says {text:?}", self.name), || {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(&self.err).unwrap_or_default();
                bail!("{} ended: {status}\n{said}", self.name);
            }
            Ok(fs::read_to_string(file)?.contains(text).then_some(()))
        })
    }

    /// Asks it to end, and waits until it did.
    pub fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(asked.success(), "{} has ended", self.name);
        let name = self.name.clone();
        until(&format!("{name} ends"), || Ok(self.child.try_wait()?.map(|_| ())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        ensure!(started.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(PAUSE);
    }
}
