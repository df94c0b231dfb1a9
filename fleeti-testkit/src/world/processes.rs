//! The world's server, signing service and build worker, each in its own process.

use super::World;
use crate::tether::tethered;
use anyhow::{Context, Result, bail, ensure};
use fleeti_client::Client;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Name of the build worker.
const WORKER: &str = "builder";
/// File with the token of the build worker.
pub const WORKER_TOKEN: &str = "worker.token";

/// Library that moves a process's clock (Debian's `libfaketime`).
const OTHER_CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A process that is killed when dropped.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(super) struct ServerProcess {
    process: Process,
    pub(super) api: String,
    pub(super) token_file: PathBuf,
}

impl World {
    /// Starts the signing service. The server waits for it.
    fn start_signer(&mut self, seconds: u64) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("signer.log"))?;
        let mut command = tethered(self.programs.join("fleeti-signer"));
        move_clock(&mut command, seconds)?;
        command
            .arg("--pki")
            .arg(self.path("signer/pki"))
            .arg("--log")
            .arg(self.path("signer/audit"));
        command
            .arg("--socket")
            .arg(self.path("signer/socket"))
            .env("FLEETI_PASSPHRASE_FILE", self.path("passphrase"));
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
            .arg("--builds")
            .arg(self.path("server/builds"))
            .arg("--outbox")
            .arg(self.path("server/releases/.staging"));
        if let Some(limit) = self.certificates_per_minute {
            // An enrollment also writes an act of the server.
            command.args([
                "--certificates-per-minute",
                &limit.to_string(),
                "--records-per-minute",
                &limit.to_string(),
            ]);
        }
        self.signer = Some(Process(command.spawn().context("fleeti-signer")?));
        Ok(())
    }

    /// Starts signing service and server, and waits until the server is ready.
    ///
    /// # Errors
    /// The output of the server.
    pub fn start_server(&mut self) -> Result<String> {
        self.start_server_later(0, 0)
    }

    /// Kills signing service and server as a power cut would, and restarts them at the same
    /// addresses, with the server's clock ahead by this number of seconds.
    ///
    /// # Errors
    /// The output of the server.
    pub fn restart_server_later(&mut self, seconds: u64) -> Result<()> {
        self.stop_server();
        self.start_server_later(seconds, 0).map(drop)
    }

    /// As [`World::restart_server_later`], with both clocks ahead.
    ///
    /// # Errors
    /// The output of the server.
    pub fn restart_both_later(&mut self, seconds: u64) -> Result<()> {
        self.stop_server();
        self.start_server_later(seconds, seconds).map(drop)
    }

    /// Starts the build worker as a process with its own token, unless it runs.
    ///
    /// # Errors
    /// If the server refuses the worker, or the process does not start.
    pub fn ensure_worker(&self) -> Result<()> {
        if self.worker.get().is_some() {
            return Ok(());
        }
        let token = self.path(WORKER_TOKEN);
        self.fleeti(&["worker", "add", WORKER, "--out", &token.display().to_string()])?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("worker.log"))?;
        let mut command = tethered(self.programs.join("fleeti-server"));
        command
            .args(["worker", "--server", self.api(), "--token-file"])
            .arg(token)
            .arg("--work")
            .arg(self.path("worker"));
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.worker.set(Process(command.spawn().context("fleeti-server worker")?)).ok();
        Ok(())
    }

    /// Kills signing service and server as a power cut would.
    pub fn stop_server(&mut self) {
        (self.server, self.signer) = (None, None);
    }

    /// Kills the server as a power cut would. The signing service keeps running.
    pub fn stop_server_alone(&mut self) {
        self.server = None;
    }

    /// The addresses of the server for devices, host and port of HTTPS and MQTT, as
    /// [`World::start_server`] takes them.
    #[must_use]
    pub const fn ports(&self) -> Option<&[String; 2]> {
        self.ports.as_ref()
    }

    /// From the next start on, the server listens at other addresses, with a certificate for the
    /// host name that devices use then.
    pub fn set_address(&mut self, name: &'static str, ports: [String; 2]) {
        (self.name, self.ports) = (name, Some(ports));
    }

    fn start_server_later(&mut self, seconds: u64, signer: u64) -> Result<String> {
        self.start_signer(signer)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("server.log"))?;
        let is_free = || std::net::TcpListener::bind("127.0.0.1:8080").is_ok();
        let first = || {
            if self.for_people && is_free() { "127.0.0.1:8080" } else { "127.0.0.1:0" }.to_owned()
        };
        // The same address again: the worker knows no other.
        let api = self.api.clone().unwrap_or_else(first);
        let [https, mqtt] =
            self.ports.clone().unwrap_or_else(|| ["127.0.0.1:0", "127.0.0.1:0"].map(str::to_owned));
        let mut command = tethered(self.programs.join("fleeti-server"));
        move_clock(&mut command, seconds)?;
        // Passkeys are tied to a name. A port that is still to be chosen has no URL.
        if let Some(port) = api.strip_prefix("127.0.0.1:").filter(|port| *port != "0") {
            command.args(["--public-url", &format!("http://localhost:{port}")]);
        }
        let mut child = command
            .arg("--data")
            .arg(self.path("server"))
            .arg("--signer")
            .arg(self.path("signer/socket"))
            .args(["--api", &api, "--https", &https, "--mqtt", &mqtt])
            .arg("--trust-virtual-tpms")
            .args(&self.options)
            .args(["--name", self.name, "--name", "localhost", "--name", "127.0.0.1"])
            .env("FLEETI_PASSPHRASE_FILE", self.path("passphrase"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("fleeti-server")?;
        let stderr = child.stderr.take().context("the server's stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                bail!("the server ended: {}", said.join("\n"))
            };
            if let Some(rest) = line.split("API ").nth(1) {
                break rest.to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || {
            let mut log = log;
            for line in lines.map_while(Result::ok) {
                std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes()).ok();
            }
        });
        let api = address.split(',').next().unwrap_or_default().to_owned();
        let after = |word: &str| {
            address
                .split_once(word)
                .map(|(_, rest)| rest.split(',').next().unwrap_or_default().to_owned())
        };
        self.ports = after("https://").zip(after("MQTT ")).map(|(https, mqtt)| [https, mqtt]);
        self.api = api.split_once("://").map(|(_, address)| address.to_owned());
        let token_file = self.path("server/admin.token");
        let token = fs::read_to_string(&token_file)?;
        self.client = Some(Client::new(&api, token.trim())?);
        self.server = Some(ServerProcess { process: Process(child), api, token_file });
        Ok(address)
    }

    /// Process id of the server.
    ///
    /// # Errors
    /// If it does not run.
    pub fn server_id(&self) -> Result<u32> {
        Ok(self.server.as_ref().context("the server does not run")?.process.0.id())
    }

    /// Process id of the signing service.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signer_id(&self) -> Result<u32> {
        Ok(self.signer.as_ref().context("the signing service does not run")?.0.id())
    }

    /// Waits until the device's machine or the server ends.
    pub fn wait(&mut self) {
        if let Some(server) = &mut self.server {
            server.process.0.wait().ok();
        }
    }
}

/// Starts a process with a clock that is ahead by this number of seconds.
fn move_clock(command: &mut Command, seconds: u64) -> Result<()> {
    if seconds > 0 {
        ensure!(
            Path::new(OTHER_CLOCK).exists(),
            "{OTHER_CLOCK} is missing: install it with `cargo xtask setup`"
        );
        command
            .env("LD_PRELOAD", OTHER_CLOCK)
            .env("FAKETIME", format!("+{seconds}s"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    Ok(())
}
