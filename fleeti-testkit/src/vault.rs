//! The sealed data partition of the device of a [`World`], and the secrets that it gets.

use crate::qemu::Tree;
use crate::world::{FLEET, World};
use anyhow::{Context, Result, ensure};
use fleeti_build::cache::Cache;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const SECTOR: u64 = 512;
/// The LUKS2 header with its key slots (LUKS2 On-Disk Format, 2), and some encrypted data.
const HEADER: u64 = 20 << 20;
const PATIENCE: Duration = Duration::from_secs(300);

impl World {
    /// Shows the recovery key of the device, as an operator does.
    ///
    /// # Errors
    /// If there is none.
    pub fn recovery_key(&self, device: &DeviceId) -> Result<String> {
        let text = self.fleeti(&[
            "-o",
            "json",
            "device",
            "recovery-key",
            device.as_str(),
            "--reason",
            "shown by the demo",
        ])?;
        let shown: serde_json::Value = serde_json::from_str(&text).context("the recovery key")?;
        Ok(shown["recovery_key"].as_str().context("no recovery key")?.to_owned())
    }

    /// Whether a key opens the data partition of the device in `folder`, tested with cryptsetup on
    /// another machine.
    ///
    /// # Errors
    /// If the disk has no such partition, or it is not encrypted.
    pub fn opens_data(&self, cache: &Cache, folder: &str, key: &str) -> Result<bool> {
        let (tree, folder) = (Tree::disks(cache)?, self.path(folder));
        let disk = folder.join("disk.raw");
        let (start, _) = data_partition(&tree, &folder)?;
        let mut file = fs::File::open(&disk)?;
        file.seek(SeekFrom::Start(start))?;
        let header = folder.join("data-header.raw");
        std::io::copy(&mut file.take(HEADER), &mut fs::File::create(&header)?)?;
        let is_luks = tree
            .command("cryptsetup", &[&folder])
            .arg("isLuks")
            .args(["--type", "luks2"])
            .arg(&header)
            .status()?;
        ensure!(is_luks.success(), "the data partition is not LUKS2");
        let mut open = tree.command("cryptsetup", &[&folder]);
        open.args(["open", "--test-passphrase", "--key-file", "-"])
            .arg(&header)
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let mut open = open.spawn()?;
        open.stdin.take().context("no stdin")?.write_all(key.as_bytes())?;
        let opened = open.wait()?.success();
        fs::remove_file(&header)?;
        Ok(opened)
    }

    /// Waits for the console line, from line `from` on, that the server has a recovery key: older
    /// keys no longer open the partition then. Returns the number of the next line.
    ///
    /// # Errors
    /// If the line does not appear in time.
    pub fn recovery_key_is_kept(&self, from: usize) -> Result<usize> {
        Ok(self.said_since(from, "fleeti: the server keeps the recovery key", PATIENCE)? + 1)
    }

    /// Sets a secret of the fleet and waits until a service of the device has read it.
    ///
    /// # Errors
    /// If the device does not get it.
    pub fn give_secret(&mut self, name: &str, value: &str) -> Result<Vec<String>> {
        Ok(vec![self.set_secret(name, value)?, self.secret_has_come(value)?])
    }

    /// Sets a secret of the fleet, which may have no device that gets it.
    ///
    /// # Errors
    /// The error of `fleeti`.
    pub fn set_secret(&self, name: &str, value: &str) -> Result<String> {
        let file = self.path(name);
        fs::write(&file, value)?;
        let said =
            self.fleeti(&["secret", "set", FLEET, name, "--file", &file.display().to_string()])?;
        fs::remove_file(&file)?;
        Ok(said)
    }

    /// Checks that none of these is in a log of the processes, on the device's console, or in the
    /// server's database.
    ///
    /// # Errors
    /// If one is, or a file cannot be read.
    pub fn nothing_leaked(&self, secrets: &[(&str, &str)]) -> Result<String> {
        const FILES: [&str; 4] =
            ["server.log", "signer.log", "server/fleeti.db", "server/fleeti.db-wal"];
        const OTHERS: [&str; 5] = [
            "worker.log",
            "device/serial.log",
            "other/serial.log",
            "adversary/serial.log",
            "drawer/serial.log",
        ];
        let mut searched = 0;
        let others = OTHERS.into_iter().filter(|file| self.path(file).exists());
        let files: Vec<_> = FILES.into_iter().chain(others).collect();
        for file in &files {
            let bytes = fs::read(self.path(file)).with_context(|| (*file).to_owned())?;
            searched += bytes.len();
            for (what, secret) in secrets {
                let secret = secret.trim().as_bytes();
                ensure!(secret.len() >= 16, "{what} is too short to search for");
                ensure!(!bytes.windows(secret.len()).any(|w| w == secret), "{what} is in {file}");
            }
        }
        let names: Vec<_> = secrets.iter().map(|(what, _)| *what).collect();
        Ok(format!("{} not found in {searched} bytes of {}", names.join(", "), files.join(", ")))
    }

    /// Waits until a service of the device has read a secret since the last call.
    ///
    /// # Errors
    /// If it does not.
    pub fn secret_has_come(&mut self, value: &str) -> Result<String> {
        self.console(&sha256_hex(value.as_bytes()), PATIENCE)
    }
}

/// Offset and size of the data partition of a folder's `disk.raw`, bytes.
///
/// # Errors
/// If the disk has none.
pub(crate) fn data_partition(tree: &Tree, folder: &Path) -> Result<(u64, u64)> {
    let table =
        tree.command("sfdisk", &[folder]).arg("--json").arg(folder.join("disk.raw")).output()?;
    let table: serde_json::Value = serde_json::from_slice(&table.stdout).context("sfdisk")?;
    let partitions = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
    let data =
        partitions.iter().find(|p| p["name"] == "fleeti-data").context("no data partition")?;
    let [start, size] =
        ["start", "size"].map(|field| data[field].as_u64().map(|sectors| sectors * SECTOR));
    start.zip(size).context("the data partition has no offset or size")
}
