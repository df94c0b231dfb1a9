//! Keys, a server, releases and one device in a folder, made with the real executables.
//!
//! Code map: `processes` (server, signing service and build worker) · `keys` (keys and approvers) ·
//! `releases` (builds, releases, rollouts) · `machines` (devices and their virtual machines) ·
//! `inventory` (what the server knows about devices).

mod inventory;
mod keys;
mod machines;
mod processes;
mod releases;

pub(crate) use keys::copy_folder;
pub use machines::{Provisioning, Record};
pub use processes::WORKER_TOKEN;
pub use releases::Folders;

use crate::qemu::Accelerator;
use crate::vm::{HOST, Vm};
use anyhow::{Context, Result, bail};
use fleeti_client::Client;
use processes::{Process, ServerProcess};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The fleet of the demo.
pub const FLEET: &str = "demo";
/// Time limit of a boot under emulation on a busy machine.
pub const BOOT: Duration = Duration::from_secs(600);
/// Time limit of other actions of such a machine.
pub const SOON: Duration = Duration::from_secs(300);

/// Everything in one folder.
pub struct World {
    dir: PathBuf,
    programs: PathBuf,
    pub(crate) runtime: Runtime,
    signer: Option<Process>,
    /// Limit of the signing service, if it is not the default.
    pub certificates_per_minute: Option<u32>,
    server: Option<ServerProcess>,
    /// Whether a person uses the pages, which are then at their usual address.
    pub for_people: bool,
    /// Further options of the server.
    pub options: Vec<&'static str>,
    /// Host name of the server for devices; its certificate contains it.
    name: &'static str,
    /// Address for devices, after the start.
    ports: Option<[String; 2]>,
    /// Address for operators and the worker, after the start: as in `127.0.0.1:8080`.
    api: Option<String>,
    /// The build worker, started with the first build; the server itself builds nothing.
    worker: OnceLock<Process>,
    client: Option<Client>,
    vm: Option<Vm>,
    seen: usize,
    /// Probed with the first machine, which takes seconds.
    accelerator: OnceLock<Accelerator>,
}

impl World {
    /// A world in a new folder. Executables must be beside this one.
    ///
    /// # Errors
    /// I/O.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let programs =
            std::env::current_exe()?.parent().context("this executable has no folder")?.to_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self {
            dir: fs::canonicalize(dir)?,
            programs,
            runtime,
            signer: None,
            certificates_per_minute: None,
            server: None,
            for_people: false,
            options: Vec::new(),
            name: HOST,
            ports: None,
            api: None,
            worker: OnceLock::new(),
            client: None,
            vm: None,
            seen: 0,
            accelerator: OnceLock::new(),
        })
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Path of an executable beside this one.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Address of the API.
    #[must_use]
    pub fn api(&self) -> &str {
        self.server.as_ref().map_or("", |s| &s.api)
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    /// If the server does not run.
    pub fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the server does not run")
    }

    /// Runs `fleeti ARGUMENTS` and returns stdout.
    ///
    /// # Errors
    /// The error of the command.
    pub fn fleeti(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("fleeti"));
        command
            .args(arguments)
            .env("FLEETI_PASSPHRASE_FILE", self.path("passphrase"))
            .stdin(Stdio::null());
        if let Some(server) = &self.server {
            command.env("FLEETI_SERVER", &server.api).env("FLEETI_TOKEN_FILE", &server.token_file);
        }
        let output = command.output().context("fleeti")?;
        if !output.status.success() {
            bail!(
                "fleeti {}: {}{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
