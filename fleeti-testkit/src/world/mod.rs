//! Keys, a server, releases and one device in a folder, made with the real executables.
//!
//! Code map: `processes` (server, signing service and build worker).

mod processes;

use crate::qemu::{Accelerator, Tree};
use crate::tpm::Manufacturer;
use crate::vm::{End, HOST, Machine, Parts, Vm};
use anyhow::{Context, Result, bail};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_client::Client;
use fleeti_core::id::DeviceId;
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, CreateCommand, Device, Event, Provisioned};
use fleeti_core::wire::device::CommandKind;
use fleeti_core::wire::enrollment::EnrollmentRecord;
pub use processes::WORKER_TOKEN;
use processes::{Process, ServerProcess};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
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

/// File with a machine's OEM string.
const SMBIOS: &str = "smbios.bin";

/// Where a device reads its enrollment record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// From a file on its ESP.
    OnEsp,
    /// From an SMBIOS OEM string.
    InSmbios,
}

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

    /// Makes the keys. The signing service gets the online keys; the public keys are in `public`.
    ///
    /// # Errors
    /// The error of `fleeti pki init`.
    pub fn make_keys(&self) -> Result<String> {
        let secret = hex::encode(rand::random::<[u8; 24]>());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path("passphrase"))?;
        std::io::Write::write_all(&mut file, secret.as_bytes())?;
        let said = self.fleeti(&["pki", "init", &self.text("pki")])?;
        for (from, to) in [
            ("pki/online", "signer/pki/online"),
            ("pki/public", "signer/pki/public"),
            ("pki/public", "server/pki/public"),
            ("pki/public", "public"),
        ] {
            copy_folder(&self.path(from), &self.path(to))?;
        }
        self.believe_the_manufacturer()?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// The manufacturer of this world's TPMs, which its server trusts.
    fn manufacturer(&self) -> Result<Manufacturer> {
        Manufacturer::at(&self.path("tpm-manufacturer"))
    }

    fn believe_the_manufacturer(&self) -> Result<()> {
        let folder = self.path("server/pki/tpm-manufacturers/virtual");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("manufacturer.pem"), self.manufacturer()?.certificate_pem()?)?)
    }

    /// Gives the signing service release keys, and a policy of one approval besides the requester.
    /// Alice and Bob are approvers; their keys are `people/NAME.key`. The demo does not use this.
    ///
    /// # Errors
    /// I/O.
    pub fn let_the_signer_release(&self) -> Result<()> {
        let folder = self.path("signer/pki/signing");
        fs::create_dir_all(&folder)?;
        for name in ["release.key", "openpgp.key", "db.key", "pcr.key"] {
            fs::copy(self.path("pki/offline").join(name), folder.join(name))?;
        }
        let mut arguments = vec![
            "pki".to_owned(),
            "approvers".into(),
            self.text("signer/pki/signing"),
            "--approvals=1".into(),
        ];
        for name in ["alice", "bob"] {
            let key = self.text(&format!("people/{name}.key"));
            self.fleeti(&["pki", "approver-key", &key])?;
            arguments.push(format!("--add={name}={}", self.text(&format!("people/{name}.pem"))));
        }
        self.fleeti(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Rolls a release out to the fleet of the demo, and waits for its end.
    ///
    /// # Errors
    /// The output of the command, if the rollout fails.
    pub fn roll_out(&self, release: &str) -> Result<String> {
        self.fleeti(&["rollout", "start", "--release", release, "--fleet", FLEET, "--wait"])
    }

    /// A one-time enrollment record for the fleet of the demo.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn enrollment_record(&self) -> Result<EnrollmentRecord> {
        let enrollment =
            self.runtime.block_on(self.client()?.create_enrollment(&FLEET.parse()?, 3600))?;
        // Virtual machines reach this host at another address.
        let local = |text: &str| text.replace(self.name, "localhost");
        let record = enrollment.record;
        Ok(EnrollmentRecord {
            https_url: local(&record.https_url),
            mqtt_address: local(&record.mqtt_address),
            ..record
        })
    }

    /// Builds a profile on the server or its worker, and returns the build's folder on the server.
    ///
    /// # Errors
    /// Why the build failed.
    pub fn build(&self, profile: Profile, version: &str) -> Result<PathBuf> {
        self.ensure_worker()?;
        let client = self.client()?;
        let request = CreateBuild { profile, version: version.parse()? };
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let mut build = client.create_build(&request).await?;
            loop {
                match build.phase {
                    BuildPhase::Succeeded => {
                        return Ok(PathBuf::from(
                            build.directory.context("the build has no folder")?,
                        ));
                    }
                    BuildPhase::Failed => bail!("the build failed: {}", build.detail),
                    BuildPhase::Queued | BuildPhase::Running => {}
                }
                events.wait_for(|e| matches!(e, Event::Build { id } if *id == build.id)).await?;
                build = client.build(&build.id).await?;
            }
        })
    }

    /// Builds a profile on this machine with another agent, an executable beside this one. Returns
    /// the build's folder.
    ///
    /// # Errors
    /// The error of `fleeti build run`.
    pub fn build_here(&self, profile: &Path, version: &str, agent: &str) -> Result<PathBuf> {
        let out = self.path("builds").join(version);
        let agent = self.programs.join(agent).display().to_string();
        let (profile, trust, text) =
            (profile.display().to_string(), self.text("public"), out.display().to_string());
        self.fleeti(&[
            "build",
            "run",
            &profile,
            "--version",
            version,
            "--trust",
            &trust,
            "--out",
            &text,
            "--agent",
            &agent,
        ])?;
        Ok(out)
    }

    /// Signs and publishes a build, and returns the release's folder.
    ///
    /// # Errors
    /// The error of `fleeti release`.
    pub fn release(&self, build: &Path, version: &str) -> Result<PathBuf> {
        let out = self.path("releases").join(version);
        let text = out.display().to_string();
        let build = build.display().to_string();
        // Each device boots it with a signature by its own key.
        self.fleeti(&[
            "release",
            "create",
            &build,
            "--pki",
            &self.text("pki"),
            "--out",
            &text,
            "--device-keys-only",
        ])?;
        self.fleeti(&["release", "publish", &text])?;
        Ok(out)
    }

    /// Provisions a device with its own Secure Boot keys, makes its disk, and returns its id. The
    /// folder `name` gets `bundle.json` and `disk.raw`.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn provision(&self, name: &str, build: &Path, release: &Path) -> Result<DeviceId> {
        self.provision_by(FLEET, name, build, release, Record::OnEsp)
    }

    /// As [`World::provision`], for another fleet and place of the enrollment record.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn provision_by(
        &self,
        fleet: &str,
        name: &str,
        build: &Path,
        release: &Path,
        record: Record,
    ) -> Result<DeviceId> {
        let (folder, disk) = (self.path(name), self.text(&format!("{name}/disk.raw")));
        fs::create_dir_all(&folder)?;
        let of = BuildRecord::read(build)?.release.to_string();
        let out = folder.display().to_string();
        let made = self.fleeti(&[
            "device",
            "provision",
            "--fleet",
            fleet,
            "--release",
            &of,
            "--out",
            &out,
            "--output",
            "json",
        ])?;
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let (id, bundle) = (
            made[0]["device"].as_str().context("no device")?,
            made[0]["bundle"].as_str().context("no bundle")?,
        );
        fs::rename(bundle, folder.join("bundle.json"))?;
        let bundle = self.text(&format!("{name}/bundle.json"));
        let (build, release) = (build.display().to_string(), release.display().to_string());
        let mut making = vec![
            "release",
            "disk",
            &build,
            "--release",
            &release,
            "--out",
            &disk,
            "--size-gib",
            "3",
            "--bundle",
            &bundle,
        ];
        let smbios = self.text(&format!("{name}/{SMBIOS}"));
        if record == Record::InSmbios {
            self.fleeti(&["device", "smbios", &bundle, "--out", &smbios])?;
            making.push("--no-record");
        }
        self.fleeti(&making)?;
        Ok(id.parse()?)
    }

    /// The device that was provisioned in the folder `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn provisioned(&self, name: &str) -> Result<DeviceId> {
        let bundle: Provisioned =
            serde_json::from_slice(&fs::read(self.path(name).join("bundle.json"))?)?;
        Ok(bundle.device)
    }

    /// Powers on a machine whose disk was made. Its firmware has only the keys that were enrolled
    /// before.
    ///
    /// # Errors
    /// If the machine does not start.
    pub fn start(&self, cache: &Cache, name: &str) -> Result<(Vm, Accelerator)> {
        self.start_with(cache, name, None, Parts::default())
    }

    /// As [`World::start`], with a cable to another machine, and with other parts.
    ///
    /// # Errors
    /// If the machine does not start.
    pub fn start_with(
        &self,
        cache: &Cache,
        name: &str,
        cable: Option<End<'_>>,
        parts: Parts,
    ) -> Result<(Vm, Accelerator)> {
        let tree = Tree::qemu(cache)?;
        let accelerator = *self.accelerator.get_or_init(|| Accelerator::probe(&tree));
        let disk = self.path(&format!("{name}/disk.raw"));
        let tpm = self.path(&format!("{name}/tpm"));
        if !parts.no_tpm && !tpm.exists() {
            fs::create_dir_all(&tpm)?;
            self.manufacturer()?.make(&tpm)?;
        }
        let smbios = self.path(&format!("{name}/{SMBIOS}"));
        let smbios = smbios.exists().then_some(smbios.as_path());
        let machine = Machine {
            dir: &self.path(name),
            disk: &disk,
            public: None,
            smbios,
            parts,
            cable,
            accelerator,
        };
        Ok((Vm::start(&tree, &machine)?, accelerator))
    }

    /// Makes the device and powers it on.
    ///
    /// # Errors
    /// If a command fails or the machine does not start.
    pub fn power_on(&mut self, cache: &Cache, build: &Path, release: &Path) -> Result<String> {
        let id = self.provision("device", build, release)?;
        let (vm, accelerator) = self.start(cache, "device")?;
        self.vm = Some(vm);
        Ok(format!("{id} in QEMU with {accelerator:?}, OVMF in setup mode, swtpm"))
    }

    /// Powers the device on again.
    ///
    /// # Errors
    /// If the machine does not start.
    pub fn power_on_again(&mut self) -> Result<()> {
        self.power_on_with(Parts::default())
    }

    /// As [`World::power_on_again`], with other parts.
    ///
    /// # Errors
    /// If the machine does not start.
    pub fn power_on_with(&mut self, parts: Parts) -> Result<()> {
        self.vm = Some(self.start_with(&Cache::discover()?, "device", None, parts)?.0);
        Ok(())
    }

    /// Cuts the power of the device.
    pub fn power_off(&mut self) {
        self.vm = None;
        self.seen = 0;
    }

    /// Waits for a line on the device's console, after the last line that was waited for.
    ///
    /// # Errors
    /// If it does not appear in time.
    pub fn console(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let vm = self.vm.as_ref().context("the device is off")?;
        let (line, found) = vm.wait_for(text, self.seen, timeout)?;
        self.seen = line + 1;
        Ok(found)
    }

    /// Number of lines on the device's console so far.
    ///
    /// # Errors
    /// If the device is off.
    pub fn console_lines(&self) -> Result<usize> {
        Ok(self.vm.as_ref().context("the device is off")?.lines())
    }

    /// Waits for a line on the device's console from line `from` on, and returns its number: for
    /// lines in any order.
    ///
    /// # Errors
    /// If it does not appear in time.
    pub fn said_since(&self, from: usize, text: &str, timeout: Duration) -> Result<usize> {
        Ok(self.vm.as_ref().context("the device is off")?.wait_for(text, from, timeout)?.0)
    }

    /// The only device, when `wanted` holds.
    ///
    /// # Errors
    /// If it does not hold in time.
    pub fn device(&self, timeout: Duration, wanted: impl Fn(&Device) -> bool) -> Result<Device> {
        self.look(timeout, |_| true, wanted)
    }

    /// A device, when `wanted` holds.
    ///
    /// # Errors
    /// If it does not hold in time.
    pub fn device_with(
        &self,
        timeout: Duration,
        id: &DeviceId,
        wanted: impl Fn(&Device) -> bool,
    ) -> Result<Device> {
        self.look(timeout, |d| d.id == *id, wanted)
    }

    fn look(
        &self,
        timeout: Duration,
        which: impl Fn(&Device) -> bool,
        wanted: impl Fn(&Device) -> bool,
    ) -> Result<Device> {
        let client = self.client()?;
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let mut last = None;
            let looked = tokio::time::timeout(timeout, async {
                loop {
                    last = client.devices().await?.into_iter().find(|d| which(d));
                    if let Some(device) = last.take_if(|d| wanted(d)) {
                        return anyhow::Ok(device);
                    }
                    events.wait_for(|e| matches!(e, Event::Device { .. })).await?;
                }
            })
            .await;
            match looked {
                Ok(result) => result,
                Err(_) => {
                    bail!(
                        "the expected state was not reached in {} s; last state: {last:?}",
                        timeout.as_secs()
                    )
                }
            }
        })
    }

    /// Sends the command `report`, waits until the device has acknowledged it, and returns its id.
    ///
    /// # Errors
    /// If the device does not do so in time.
    pub fn command(&self, device: &DeviceId) -> Result<String> {
        let client = self.client()?;
        let order = CreateCommand { kind: CommandKind::Report, valid_s: 600 };
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let id = client.create_command(device, &order).await?.id;
            let answered = async {
                while client.command(&id).await?.status != "done" {
                    events.next().await?;
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(SOON, answered)
                .await
                .context("the device did not acknowledge the command")??;
            Ok(id)
        })
    }

    /// The device's certificate, PEM.
    ///
    /// # Errors
    /// If the server does not know the device.
    pub fn certificate(&self, device: &DeviceId) -> Result<String> {
        Ok(self.runtime.block_on(self.client()?.certificate(device))?)
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
