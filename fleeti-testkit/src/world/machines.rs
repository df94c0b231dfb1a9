//! Devices of a world, and their virtual machines.

use super::{FLEET, World};
use crate::qemu::{Accelerator, Tree};
use crate::vm::{End, Machine, Parts, Vm};
use anyhow::{Context, Result};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Provisioned;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use std::fs;
use std::path::Path;
use std::time::Duration;

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

/// A device to provision.
#[derive(Debug, Clone, Copy)]
pub struct Provisioning<'a> {
    /// Its fleet.
    pub fleet: &'a str,
    /// Name of its folder.
    pub name: &'a str,
    /// The build that it is made of.
    pub build: &'a Path,
    /// The release of that build.
    pub release: &'a Path,
    /// Where it reads its enrollment record.
    pub record: Record,
}

impl World {
    /// A one-time enrollment record for the fleet of the demo.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn enrollment_record(&self) -> Result<EnrollmentRecord> {
        self.enrollment_record_of(FLEET)
    }

    /// As [`World::enrollment_record`], for a device of another fleet.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn enrollment_record_of(&self, fleet: &str) -> Result<EnrollmentRecord> {
        let enrollment =
            self.runtime.block_on(self.client()?.create_enrollment(&fleet.parse()?, 3600))?;
        // Virtual machines reach this host at another address.
        let local = |text: &str| text.replace(self.name, "localhost");
        let record = enrollment.record;
        Ok(EnrollmentRecord {
            https_url: local(&record.https_url),
            mqtt_address: local(&record.mqtt_address),
            ..record
        })
    }

    /// Provisions a device with its own Secure Boot keys, makes its disk, and returns its id. The
    /// folder `name` gets `bundle.json` and `disk.raw`.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn provision(&self, name: &str, build: &Path, release: &Path) -> Result<DeviceId> {
        self.provision_by(&Provisioning {
            fleet: FLEET,
            name,
            build,
            release,
            record: Record::OnEsp,
        })
    }

    /// As [`World::provision`], for another fleet and place of the enrollment record.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn provision_by(&self, device: &Provisioning<'_>) -> Result<DeviceId> {
        self.provision_behind(device, None)
    }

    /// As [`World::provision_by`], for a device that reaches the server through a proxy.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn provision_behind(
        &self,
        device: &Provisioning<'_>,
        proxy: Option<&str>,
    ) -> Result<DeviceId> {
        let Provisioning { fleet, name, build, release, record } = *device;
        let (folder, disk) = (self.path(name), self.text(&format!("{name}/disk.raw")));
        fs::create_dir_all(&folder)?;
        let of = BuildRecord::read(build)?.release.to_string();
        let out = folder.display().to_string();
        let mut asked = vec![
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
        ];
        asked.extend(proxy.iter().flat_map(|proxy| ["--proxy", proxy]));
        let made = self.fleeti(&asked)?;
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
}
