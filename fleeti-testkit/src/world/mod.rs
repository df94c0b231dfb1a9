//! Keys, a server, releases and one device in a folder, made with the real programs as a person
//! would.
//!
//! Code map: `processes` (server, signer and build worker).

mod processes;

use crate::qemu::{Accelerator, Tree};
use crate::tpm::Maker;
use crate::vm::{End, HOST, Machine, Parts, Vm};
use anyhow::{Context, Result, bail};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_client::Client;
use fleeti_core::id::DeviceId;
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, CreateCommand, Device, Event, Provisioned};
use fleeti_core::wire::device::{EnrollmentRecord, Order};
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
/// A boot under emulation on a busy machine.
pub const BOOT: Duration = Duration::from_secs(600);
/// What such a machine does once it is up.
pub const SOON: Duration = Duration::from_secs(300);

/// The file with a machine's OEM string.
const SMBIOS: &str = "smbios.bin";

/// Where a device finds its enrollment record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A file on its ESP.
    OnEsp,
    /// An OEM string of SMBIOS.
    InSmbios,
}

/// Everything in one folder.
pub struct World {
    dir: PathBuf,
    programs: PathBuf,
    pub(crate) runtime: Runtime,
    signer: Option<Process>,
    /// The signer's limit, where it is not the usual one.
    pub certificates_per_minute: Option<u32>,
    server: Option<ServerProcess>,
    /// Whether somebody is to look at its pages, and finds them where they always are.
    pub for_people: bool,
    /// The host that devices call it by, which its certificate names.
    name: &'static str,
    /// Where devices find it, once it was started.
    ports: Option<[String; 2]>,
    /// Where people and the worker find it, once it was started: as in `127.0.0.1:8080`.
    api: Option<String>,
    /// What builds, as the server itself builds nothing: started with the first build.
    worker: OnceLock<Process>,
    client: Option<Client>,
    vm: Option<Vm>,
    seen: usize,
    /// Found out with the first machine, which takes seconds.
    accelerator: OnceLock<Accelerator>,
}

impl World {
    /// In a folder that is made; programs are beside this one.
    ///
    /// # Errors
    /// I/O.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let programs =
            std::env::current_exe()?.parent().context("this program has no folder")?.to_owned();
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

    /// One of the programs that are beside this one.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where the API is.
    #[must_use]
    pub fn api(&self) -> &str {
        self.server.as_ref().map_or("", |s| &s.api)
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the server does not run")
    }

    /// `fleeti ARGUMENTS`; gives stdout.
    ///
    /// # Errors
    /// What the program said.
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

    /// Makes the keys; the signer gets what is online, and everybody what is public.
    ///
    /// # Errors
    /// What `fleeti pki init` said.
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
        self.believe_the_maker()?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// The maker of this world's TPMs, whom its server believes.
    fn maker(&self) -> Result<Maker> {
        Maker::at(&self.path("tpm-maker"))
    }

    fn believe_the_maker(&self) -> Result<()> {
        let folder = self.path("server/pki/tpm-makers/virtual");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("maker.pem"), self.maker()?.certificate_pem()?)?)
    }

    /// Gives the signer release keys, with which it signs once one person agrees beside who asks:
    /// Alice and Bob, whose keys are `people/NAME.key`. Not what the demo does.
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

    /// A one-time enrollment record for the fleet of the demo.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn enrollment_record(&self) -> Result<EnrollmentRecord> {
        let enrollment =
            self.runtime.block_on(self.client()?.create_enrollment(&FLEET.parse()?, 3600))?;
        // Virtual machines know this host by another address.
        let local = |text: &str| text.replace(self.name, "localhost");
        let record = enrollment.record;
        Ok(EnrollmentRecord {
            https_url: local(&record.https_url),
            mqtt_address: local(&record.mqtt_address),
            ..record
        })
    }

    /// Has the server or its worker build a profile; gives the build's folder at the server.
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

    /// Builds a profile on this machine with another agent, a program beside this one; gives the
    /// build's folder.
    ///
    /// # Errors
    /// What `fleeti build run` said.
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

    /// Signs a build and publishes it; gives the release's folder.
    ///
    /// # Errors
    /// What `fleeti release` said.
    pub fn release(&self, build: &Path, version: &str) -> Result<PathBuf> {
        let out = self.path("releases").join(version);
        let text = out.display().to_string();
        let build = build.display().to_string();
        // Every device starts it by a signature of its own.
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

    /// Provisions a device with Secure Boot keys of its own, and makes its disk; gives its id. Both
    /// are in the folder `name`: `bundle.json` and `disk.raw`.
    ///
    /// # Errors
    /// What `fleeti` said.
    pub fn provision(&self, name: &str, build: &Path, release: &Path) -> Result<DeviceId> {
        self.provision_by(FLEET, name, build, release, Record::OnEsp)
    }

    /// As [`World::provision`], in another fleet, with the enrollment record where it is said to
    /// be.
    ///
    /// # Errors
    /// What `fleeti` said.
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
    /// When there is none.
    pub fn provisioned(&self, name: &str) -> Result<DeviceId> {
        let bundle: Provisioned =
            serde_json::from_slice(&fs::read(self.path(name).join("bundle.json"))?)?;
        Ok(bundle.device)
    }

    /// Powers a machine on whose disk was made; its firmware has no keys but those that were
    /// enrolled before.
    ///
    /// # Errors
    /// When the machine does not start.
    pub fn start(&self, cache: &Cache, name: &str) -> Result<(Vm, Accelerator)> {
        self.start_with(cache, name, None, Parts::default())
    }

    /// As [`World::start`], with a cable to another machine, and of other parts.
    ///
    /// # Errors
    /// When the machine does not start.
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
            self.maker()?.make(&tpm)?;
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
    /// When a program or the machine does not start.
    pub fn power_on(&mut self, cache: &Cache, build: &Path, release: &Path) -> Result<String> {
        let id = self.provision("device", build, release)?;
        let (vm, accelerator) = self.start(cache, "device")?;
        self.vm = Some(vm);
        Ok(format!("{id} in QEMU with {accelerator:?}, OVMF in setup mode, swtpm"))
    }

    /// Powers the device on that was powered on before.
    ///
    /// # Errors
    /// When the machine does not start.
    pub fn power_on_again(&mut self) -> Result<()> {
        self.power_on_with(Parts::default())
    }

    /// As [`World::power_on_again`], of other parts.
    ///
    /// # Errors
    /// When the machine does not start.
    pub fn power_on_with(&mut self, parts: Parts) -> Result<()> {
        self.vm = Some(self.start_with(&Cache::discover()?, "device", None, parts)?.0);
        Ok(())
    }

    /// Pulls the plug of the device.
    pub fn power_off(&mut self) {
        self.vm = None;
        self.seen = 0;
    }

    /// Waits for a line on the device's console, after the last one that was waited for.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn console(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let vm = self.vm.as_ref().context("the device is off")?;
        let (line, found) = vm.wait_for(text, self.seen, timeout)?;
        self.seen = line + 1;
        Ok(found)
    }

    /// Lines on the device's console so far.
    ///
    /// # Errors
    /// When the device is off.
    pub fn console_lines(&self) -> Result<usize> {
        Ok(self.vm.as_ref().context("the device is off")?.lines())
    }

    /// Waits for a line on the device's console from line `from` on, and says which it is: for what
    /// comes in any order.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn said_since(&self, from: usize, text: &str, timeout: Duration) -> Result<usize> {
        Ok(self.vm.as_ref().context("the device is off")?.wait_for(text, from, timeout)?.0)
    }

    /// The only device, once `wanted` holds.
    ///
    /// # Errors
    /// When it does not hold in time.
    pub fn device(&self, timeout: Duration, wanted: impl Fn(&Device) -> bool) -> Result<Device> {
        self.look(timeout, |_| true, wanted)
    }

    /// A device, once `wanted` holds.
    ///
    /// # Errors
    /// When it does not hold in time.
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
                    bail!("the server did not see it in {} s; it sees {last:?}", timeout.as_secs())
                }
            }
        })
    }

    /// Orders a report and waits until the device has answered; gives the command's id.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn command(&self, device: &DeviceId) -> Result<String> {
        let client = self.client()?;
        let order = CreateCommand { order: Order::Report, valid_s: 600 };
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let id = client.create_command(device, &order).await?.id;
            let answered = async {
                while client.command(&id).await?.status != "done" {
                    events.next().await?;
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(SOON, answered).await.context("the device did not answer")??;
            Ok(id)
        })
    }

    /// The device's certificate, PEM.
    ///
    /// # Errors
    /// When the server does not know the device.
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
