//! The data partition. If the machine has a TPM and the image has a signed PCR policy, the
//! partition is LUKS2 and its key is sealed to the TPM. It opens with every UKI whose PCR 11 the
//! organisation has signed, after the end of the initrd and before the services of the system
//! start, and only while nothing is passed to the kernel from outside the UKI (PCR 12). So updates
//! and new Secure Boot keys do not lock it, and a disk that is removed from its machine reveals
//! nothing.
//!
//! systemd does the work: systemd-repart creates the partition, systemd-cryptsetup opens it,
//! systemd-cryptenroll adds the recovery key. Needs root.

use crate::luks::Header;
use crate::{Paths, console, write_durably};
use anyhow::{Context, Result, bail, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::vault::is_recovery_key;
use fleeti_pki::pcr_policy;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Name of the device mapping.
const NAME: &str = "fleeti-data";
/// The partition's number on the disk, after those of both slots. Not its name: the kernel does not
/// know that of a new partition yet, and another partition can have the same one.
const NUMBER: &str = "6";
/// PCR 11 and 12 of the SHA-256 bank, as the kernel shows them.
const PCRS: [&str; 2] = ["/sys/class/tpm/tpm0/pcr-sha256/11", "/sys/class/tpm/tpm0/pcr-sha256/12"];
const MAPPING: &str = "/dev/mapper/fleeti-data";
const MOUNT_POINT: &str = "/data";
const TPM: &str = "/dev/tpmrm0";
/// Where the stub's tmpfiles put files of the UKI (systemd-stub(7)).
const SIGNATURE: &str = "/run/systemd/tpm2-pcr-signature.json";
pub(crate) const PUBLIC_KEY: &str = "/run/systemd/tpm2-pcr-public-key.pem";
/// The LUKS2 header with only the token that opens the partition with this UKI, while the partition
/// is opened.
const HEADER: &str = "/run/fleeti-data.header";
/// LUKS2 on-disk format, 2.1.
const LUKS_MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
/// Nothing is passed to the kernel from outside the UKI: PCR 12 is empty.
pub(crate) const NOTHING_PASSED: &str =
    "12:sha256=0000000000000000000000000000000000000000000000000000000000000000";

/// Whether the open data partition is sealed.
#[must_use]
pub fn is_sealed() -> bool {
    Path::new(MAPPING).exists()
}

/// The data partition, on the disk of the verified root only. `None` until the first boot has
/// created it.
///
/// # Errors
/// If the root is on no disk.
pub(crate) fn partition() -> Result<Option<PathBuf>> {
    let is_root = |e: &fs::DirEntry| {
        fs::read_to_string(e.path().join("dm/name")).is_ok_and(|name| name.trim() == "root")
    };
    let root =
        fs::read_dir("/sys/block")?.flatten().find(is_root).context("the root is not verified")?;
    let below = fs::read_dir(root.path().join("slaves"))?
        .flatten()
        .next()
        .context("the root is on no partition")?;
    // The partition's folder is inside that of its disk.
    let disk =
        fs::canonicalize(below.path())?.parent().context("the root is on no disk")?.to_owned();
    partition_of(&disk)
}

/// The data partition of a disk (`disk` is its folder in `/sys`).
fn partition_of(disk: &Path) -> Result<Option<PathBuf>> {
    let is_ours = |e: &fs::DirEntry| {
        fs::read_to_string(e.path().join("partition")).is_ok_and(|number| number.trim() == NUMBER)
    };
    let found = fs::read_dir(disk)?.flatten().find(is_ours);
    Ok(found.map(|e| Path::new("/dev").join(e.file_name())))
}

/// Creates the data partition if there is none, opens and mounts it.
///
/// # Errors
/// If it cannot be created, or the TPM does not open it. Then a boot on trial is rolled back to the
/// other slot; one that was kept is retried every few minutes, until an operator enters the
/// recovery key.
pub fn open(paths: &Paths) -> Result<()> {
    opened(paths).inspect_err(|e| console::say(&format!("fleeti: no data partition: {e:#}")))
}

fn opened(paths: &Paths) -> Result<()> {
    if partition()?.is_none() {
        make(paths)?;
    }
    let device = partition()?.context("there is no data partition")?;
    let device = device.to_str().context("the data partition's name")?;
    run("/usr/bin/udevadm", &["wait", "--timeout=60", device])?;
    let source = if is_luks(Path::new(device))? {
        if let Err(e) = attach(device) {
            console::say(
                "fleeti: the TPM does not open the data partition; the server may have its recovery key",
            );
            return Err(e);
        }
        MAPPING
    } else {
        device
    };
    run(
        "/usr/bin/mount",
        &["-t", "ext4", "-o", "rw,nodev,nosuid,noexec,noatime", source, MOUNT_POINT],
    )
}

/// Opens the partition with the token for this UKI's key. It may also be sealed to the key of the
/// previous or the next UKI (`crate::next_key`).
fn attach(device: &str) -> Result<()> {
    let options = format!("tpm2-device=auto,tpm2-signature={SIGNATURE},headless=yes,discard");
    let attach =
        |options: &str| run("/usr/bin/systemd-cryptsetup", &["attach", NAME, device, "-", options]);
    let alone = || -> Result<Option<Vec<u8>>> {
        let key = pcr_policy::public_key_der(&fs::read(PUBLIC_KEY)?)?;
        Header::read(Path::new(device))?.alone(Path::new(device), &key)
    };
    match alone() {
        Ok(None) => {}
        // systemd tries to open a partition with an unreadable header nevertheless.
        Err(e) => tracing::warn!("the header of the data partition: {e:#}"),
        Ok(Some(header)) => {
            console::say(
                "fleeti: the data partition is sealed to several keys of PCR 11; opening it with the key of this image",
            );
            write_durably(Path::new(HEADER), &header)?;
            let opened = attach(&format!("{options},header={HEADER}"));
            fs::remove_file(HEADER)?;
            return opened;
        }
    }
    attach(&options)
}

fn is_luks(device: &Path) -> Result<bool> {
    let mut magic = [0; LUKS_MAGIC.len()];
    fs::File::open(device)
        .and_then(|mut f| f.read_exact(&mut magic))
        .with_context(|| device.display().to_string())?;
    Ok(magic == *LUKS_MAGIC)
}

/// Creates the partition; sealed if it will open again.
fn make(paths: &Paths) -> Result<()> {
    let plain = format!("--definitions={}", paths.lib.join("repart/plain").display());
    let sealed = format!("--definitions={}", paths.lib.join("repart/sealed").display());
    if will_open() {
        let (pcrs, key) =
            (format!("--tpm2-pcrs={NOTHING_PASSED}"), format!("--tpm2-public-key={PUBLIC_KEY}"));
        let options = [
            "--dry-run=no",
            &sealed,
            "--tpm2-device=auto",
            &pcrs,
            &key,
            "--tpm2-public-key-pcrs=11",
        ];
        match run("/usr/bin/systemd-repart", &options) {
            Ok(()) => return Ok(()),
            // A defective TPM lowers trust, but needs no visit. Nothing is on the disk yet, and the
            // server shows that it is not sealed.
            Err(e) => tracing::error!("the data partition is not sealed: {e:#}"),
        }
    }
    run("/usr/bin/systemd-repart", &["--dry-run=no", &plain])
}

/// Whether a partition that is sealed now opens at the next boot: the image has a signature over
/// the current value of PCR 11, and nothing was passed to the kernel. Firmware that measures
/// nothing leaves PCR 11 empty, for example.
fn will_open() -> bool {
    let pcr = |path: &str| -> Option<[u8; 32]> {
        let mut value = [0; 32];
        hex::decode_to_slice(fs::read_to_string(path).ok()?.trim(), &mut value).ok()?;
        Some(value)
    };
    let [Some(kernel_image), Some(passed)] = PCRS.map(pcr) else { return false };
    let is_signed = fs::read(SIGNATURE)
        .is_ok_and(|signatures| pcr_policy::is_signed(&signatures, &kernel_image));
    let can = [TPM, PUBLIC_KEY].iter().all(|path| Path::new(path).exists())
        && is_signed
        && passed == [0; 32];
    if !can {
        console::say(
            "fleeti: the data partition is not sealed: PCR 11 or 12 differ from what the image is signed for, so it would not open again",
        );
    }
    can
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .with_context(|| program.to_owned())?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

/// Adds a recovery key to a sealed partition, unless it has one that the server keeps or is about
/// to get. Older recovery keys stay valid until the server keeps this one, so that one is always
/// known.
///
/// # Errors
/// If the TPM does not open the partition, or the key cannot be stored.
pub fn add_recovery_key(paths: &Paths) -> Result<()> {
    if !is_sealed() || kept(paths).exists() || waiting(paths).exists() {
        return Ok(());
    }
    enroll_recovery_key(paths).inspect_err(|e| {
        console::say(&format!("fleeti: the data partition has no recovery key: {e:#}"))
    })
}

fn enroll_recovery_key(paths: &Paths) -> Result<()> {
    let device = partition()?.context("there is no data partition")?;
    let before = recovery_slots(&cryptenroll(&device, &[])?);
    let key = cryptenroll(&device, &["--unlock-tpm2-device=auto", "--recovery-key"])?;
    let key = key.trim();
    ensure!(is_recovery_key(key), "systemd-cryptenroll returned no recovery key");
    let after = recovery_slots(&cryptenroll(&device, &[])?);
    let slot = after
        .into_iter()
        .find(|slot| !before.contains(slot))
        .context("the recovery key has no slot")?;
    // The key last: a slot without a stored key is unused, and the next boot adds another one.
    write_durably(&slot_of(paths), slot.to_string().as_bytes())?;
    write_durably(&waiting(paths), key.as_bytes()).context("the recovery key")
}

/// Standard output of systemd-cryptenroll.
pub(crate) fn cryptenroll(device: &Path, arguments: &[&str]) -> Result<Zeroizing<String>> {
    let mut command = Command::new("/usr/bin/systemd-cryptenroll");
    let output = command
        .args(arguments)
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .context("systemd-cryptenroll")?;
    let said = Zeroizing::new(output.stdout);
    ensure!(
        output.status.success(),
        "systemd-cryptenroll: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(Zeroizing::new(std::str::from_utf8(&said).context("systemd-cryptenroll")?.to_owned()))
}

/// Slots of recovery keys, from the table that systemd-cryptenroll prints.
fn recovery_slots(table: &str) -> Vec<u32> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let slot = words.next()?.parse().ok()?;
        (words.next()? == "recovery").then_some(slot)
    };
    table.lines().filter_map(row).collect()
}

/// The file of a recovery key that the server does not have yet.
fn waiting(paths: &Paths) -> PathBuf {
    paths.helper_state.join("recovery-key")
}

/// The file with the number of its slot.
fn slot_of(paths: &Paths) -> PathBuf {
    paths.helper_state.join("recovery-key.slot")
}

/// The file with the digest of the key that the server has.
fn kept(paths: &Paths) -> PathBuf {
    paths.helper_state.join("recovery-key.kept")
}

/// The recovery key that the server should keep and does not have yet, if there is one.
///
/// # Errors
/// If the file cannot be read.
pub fn recovery_key(paths: &Paths) -> Result<Option<Zeroizing<String>>> {
    match fs::read_to_string(waiting(paths)) {
        Ok(key) => Ok(Some(Zeroizing::new(key))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context("the recovery key"),
    }
}

/// The server keeps the recovery key of this digest (SHA-256, hexadecimal): removes older ones from
/// the partition, and deletes this one from the device.
///
/// # Errors
/// If another one is waiting, or older ones cannot be removed.
pub fn recovery_key_kept(paths: &Paths, sha256: &str) -> Result<()> {
    let Some(key) = recovery_key(paths)? else { bail!("no recovery key waits") };
    ensure!(sha256_hex(key.as_bytes()) == sha256, "the server keeps another recovery key");
    if is_sealed() {
        end_older_keys(paths)?;
    }
    write_durably(&kept(paths), sha256.as_bytes())?;
    Ok(fs::remove_file(waiting(paths))?)
}

/// Removes every recovery key except the waiting one, which unlocks the partition for that: the TPM
/// does not at this point.
fn end_older_keys(paths: &Paths) -> Result<()> {
    let device = partition()?.context("there is no data partition")?;
    let own: u32 =
        fs::read_to_string(slot_of(paths))?.trim().parse().context("the recovery key's slot")?;
    let slots = recovery_slots(&cryptenroll(&device, &[])?);
    ensure!(slots.contains(&own), "slot {own} is not that of a recovery key");
    let older: Vec<_> = slots.iter().filter(|slot| **slot != own).map(u32::to_string).collect();
    if older.is_empty() {
        return Ok(());
    }
    let key = format!("--unlock-key-file={}", waiting(paths).display());
    cryptenroll(&device, &[&key, &format!("--wipe-slot={}", older.join(","))]).map(drop)
}

/// Makes the next boot create a new recovery key and remove this one, because an operator has seen
/// it.
///
/// # Errors
/// I/O.
pub fn forget_recovery_key(paths: &Paths) -> Result<()> {
    for path in [kept(paths), waiting(paths)] {
        fs::remove_file(path)
            .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        fs::create_dir_all(&paths.helper_state).unwrap();
        (dir, paths)
    }

    #[test]
    fn a_recovery_key_is_given_up_only_when_the_server_keeps_this_very_one() {
        let (_dir, paths) = device();
        assert!(recovery_key(&paths).unwrap().is_none());
        assert!(recovery_key_kept(&paths, &sha256_hex(b"")).is_err());
        write_durably(&waiting(&paths), b"abcd-efgh").unwrap();
        assert!(recovery_key_kept(&paths, &sha256_hex(b"other")).is_err());
        assert_eq!(recovery_key(&paths).unwrap().unwrap().as_str(), "abcd-efgh");
        recovery_key_kept(&paths, &sha256_hex(b"abcd-efgh")).unwrap();
        assert!(recovery_key(&paths).unwrap().is_none() && kept(&paths).exists());
        forget_recovery_key(&paths).unwrap();
        assert!(!kept(&paths).exists());
        forget_recovery_key(&paths).unwrap();
    }

    #[test]
    fn slots_are_read_from_the_table_that_systemd_shows() {
        assert_eq!(
            recovery_slots(
                "SLOT TYPE    \n   0 tpm2\n   1 recovery\n   3 recovery\n   4 password\n"
            ),
            [1, 3]
        );
        assert_eq!(recovery_slots("No slots found.\n"), [] as [u32; 0]);
    }

    #[test]
    fn the_partition_is_the_one_after_both_slots_of_its_own_disk() {
        let (dir, _) = device();
        for number in [1, 5, 6] {
            let folder = dir.path().join(format!("vda/vda{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("partition"), format!("{number}\n")).unwrap();
        }
        fs::create_dir_all(dir.path().join("vda/queue")).unwrap();
        assert_eq!(
            partition_of(&dir.path().join("vda")).unwrap().as_deref(),
            Some(Path::new("/dev/vda6"))
        );
        fs::remove_dir_all(dir.path().join("vda/vda6")).unwrap();
        assert_eq!(partition_of(&dir.path().join("vda")).unwrap(), None);
    }

    #[test]
    fn a_partition_is_a_sealed_one_by_its_own_word() {
        let (dir, _) = device();
        let path = dir.path().join("disk");
        fs::write(&path, b"LUKS\xba\xbe\x00\x02").unwrap();
        assert!(is_luks(&path).unwrap());
        fs::write(&path, [0; 4096]).unwrap();
        assert!(!is_luks(&path).unwrap());
        fs::write(&path, b"LUK").unwrap();
        assert!(is_luks(&path).is_err());
    }
}
