//! Moves the data partition to a new key that signs PCR 11 (`pcr.key`). What is sealed opens only
//! with UKIs of that key. So before a UKI of another key becomes bootable, the partition is sealed
//! to that key as well: in a boot of the running image, early enough that the TPM still opens it.
//! That takes an additional reboot, and no visit.
//!
//! The old slot stays until no UKI on the ESP needs its key, because a version on trial may be
//! rolled back.

use crate::luks::{Header, Sealed};
use crate::storage::{self, NOTHING_PASSED};
use crate::{Paths, console, kept, write_durably};
use anyhow::{Context, Result, bail};
use fleeti_core::id::Version;
use fleeti_pki::pcr_policy::{key_of, public_key_der};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What a later boot has to do.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The version that needs it.
    version: Version,
    /// The boot in which it was requested.
    boot_id: String,
    /// The next key, PEM.
    public_pem: String,
    /// Why it failed.
    failed: Option<String>,
}

/// What has to be done before a version is armed.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the data partition opens with its UKI.
    Arm,
    /// Boot the running version again, which seals the partition to the next key.
    Reboot,
}

fn note(paths: &Paths) -> PathBuf {
    paths.helper_state.join("next-pcr-key.json")
}

fn read(paths: &Paths) -> Option<Note> {
    kept::read(&note(paths), kept::json)
}

fn keep(paths: &Paths, it: &Note) -> Result<()> {
    Ok(write_durably(&note(paths), &serde_json::to_vec(it)?)?)
}

fn boot_id() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What has to be done before the version of this UKI is armed. The UKI was verified.
///
/// # Errors
/// If the UKI would not open the data partition even after the boot that should have prepared it.
pub fn before_arming(paths: &Paths, version: &Version, kernel_image: &[u8]) -> Result<Next> {
    if !storage::is_sealed() {
        return Ok(Next::Arm);
    }
    let device = storage::partition()?.context("there is no data partition")?;
    decide(paths, &Header::read(&device)?.sealed(), version, kernel_image, &boot_id()?)
}

fn decide(
    paths: &Paths,
    sealed: &[Sealed],
    version: &Version,
    kernel_image: &[u8],
    boot_id: &str,
) -> Result<Next> {
    if sealed.is_empty() {
        return Ok(Next::Arm);
    }
    let Some(public_pem) = key_of(kernel_image)? else {
        bail!("the data partition is sealed, but the UKI has no key that opens it")
    };
    if is_among(sealed, &public_key_der(public_pem.as_bytes())?) {
        return Ok(Next::Arm);
    }
    // One boot for each version: if that fails, the next one would fail as well.
    if let Some(before) = read(paths).filter(|n| n.version == *version && n.boot_id != boot_id) {
        let why = before.failed.as_deref().unwrap_or("no boot has attempted it");
        bail!("the data partition could not be sealed to the next key of PCR 11: {why}");
    }
    keep(
        paths,
        &Note { version: version.clone(), boot_id: boot_id.to_owned(), public_pem, failed: None },
    )?;
    Ok(Next::Reboot)
}

fn is_among(sealed: &[Sealed], key: &[u8]) -> bool {
    sealed.iter().any(|s| s.key.as_deref() == Some(key))
}

/// Seals the data partition to the next key as well, if one is waiting. The TPM opens it early in a
/// boot only.
///
/// # Errors
/// If the TPM does not open it, or the waiting key cannot be read. The reason is stored for the
/// next attempt to arm.
pub fn enroll(paths: &Paths) -> Result<()> {
    let Some(mut waiting) = read(paths).filter(|_| storage::is_sealed()) else { return Ok(()) };
    let device = storage::partition()?.context("there is no data partition")?;
    let enrolled = enroll_in(paths, &device, &waiting.public_pem);
    if let Err(e) = &enrolled {
        console::say(&format!(
            "fleeti: the data partition is not sealed to the next key of PCR 11: {e:#}"
        ));
        waiting.failed = Some(format!("{e:#}"));
        keep(paths, &waiting)?;
    }
    enrolled
}

fn enroll_in(paths: &Paths, device: &Path, public_pem: &str) -> Result<()> {
    let key = public_key_der(public_pem.as_bytes())?;
    if is_among(&Header::read(device)?.sealed(), &key) {
        return Ok(());
    }
    let file = paths.helper_state.join("next-pcr-key.pem");
    write_durably(&file, public_pem.as_bytes())?;
    let (pcrs, file) =
        (format!("--tpm2-pcrs={NOTHING_PASSED}"), format!("--tpm2-public-key={}", file.display()));
    let options = [
        "--unlock-tpm2-device=auto",
        "--tpm2-device=auto",
        &file,
        "--tpm2-public-key-pcrs=11",
        &pcrs,
    ];
    storage::cryptenroll(device, &options)?;
    anyhow::ensure!(
        is_among(&Header::read(device)?.sealed(), &key),
        "systemd-cryptenroll added no slot"
    );
    console::say("fleeti: the data partition is sealed to the next key of PCR 11 as well");
    Ok(())
}

/// Removes the slots of keys that no UKI on the ESP needs, once the running version is kept, so
/// that a leaked key does not open the partition forever.
///
/// # Errors
/// If the keys in use are not known for certain, or a slot cannot be removed.
pub fn end_unused(paths: &Paths) -> Result<()> {
    if !storage::is_sealed() {
        return Ok(());
    }
    let device = storage::partition()?.context("there is no data partition")?;
    let sealed = Header::read(&device)?.sealed();
    if sealed.len() < 2 {
        return Ok(());
    }
    let running = public_key_der(&fs::read(storage::PUBLIC_KEY)?)?;
    let slots = unused(&sealed, &running, &in_use(paths)?);
    if slots.is_empty() {
        return Ok(());
    }
    let list = slots.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    storage::cryptenroll(&device, &[&format!("--wipe-slot={list}")])?;
    console::say("fleeti: the previous key of PCR 11 no longer opens the data partition");
    Ok(())
}

/// The keys of all UKIs on the ESP, and the waiting one.
fn in_use(paths: &Paths) -> Result<Vec<Vec<u8>>> {
    let mut keys: Vec<_> = read(paths)
        .map(|n| public_key_der(n.public_pem.as_bytes()))
        .transpose()?
        .into_iter()
        .collect();
    for entry in fs::read_dir(paths.esp.join("EFI/Linux"))? {
        let path = entry?.path();
        let key = key_of(&fs::read(&path)?).with_context(|| path.display().to_string())?;
        keys.extend(key.map(|pem| public_key_der(pem.as_bytes())).transpose()?);
    }
    Ok(keys)
}

/// Slots that none of these keys needs. Empty while the partition is not sealed to the running
/// image's own key.
fn unused(sealed: &[Sealed], running: &[u8], used: &[Vec<u8>]) -> Vec<u32> {
    if !is_among(sealed, running) {
        return vec![];
    }
    let is_unused =
        |s: &&Sealed| s.key.as_ref().is_some_and(|key| key != running && !used.contains(key));
    sealed.iter().filter(is_unused).flat_map(|s| s.slots.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luks::fake;
    use fleeti_pki::pe::with_section;

    fn device() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        fs::create_dir_all(&paths.helper_state).unwrap();
        fs::create_dir_all(paths.esp.join("EFI/Linux")).unwrap();
        (dir, paths)
    }

    fn sealed_to(dir: &tempfile::TempDir, keys: &[&str]) -> Vec<Sealed> {
        let path = dir.path().join("device");
        fake::device(&path, keys);
        Header::read(&path).unwrap().sealed()
    }

    const BINARY: &[u8] = include_bytes!("../../fleeti-pki/tests/fixtures/secure-boot/binary.efi");

    fn kernel_image(key: &str) -> Vec<u8> {
        with_section(BINARY, ".pcrpkey", key.as_bytes()).unwrap()
    }

    #[test]
    fn a_version_of_another_key_is_armed_after_one_boot_that_sealed_the_partition_to_it() {
        let (dir, paths) = device();
        let (old, new) = (fake::key(), fake::key());
        let two: Version = "2".parse().unwrap();
        let decide = |keys: &[&str], version: &Version, key: &str, boot: &str| {
            decide(&paths, &sealed_to(&dir, keys), version, &kernel_image(key), boot)
        };
        assert_eq!(decide(&[&old], &two, &old, "a").unwrap(), Next::Arm, "nothing changes");
        assert_eq!(decide(&[], &two, &new, "a").unwrap(), Next::Arm, "no TPM opens it anyway");
        assert!(read(&paths).is_none());
        assert_eq!(decide(&[&old], &two, &new, "a").unwrap(), Next::Reboot);
        assert_eq!(
            decide(&[&old], &two, &new, "a").unwrap(),
            Next::Reboot,
            "asked again before the reboot came"
        );
        assert_eq!(read(&paths).unwrap().public_pem, new);
        assert_eq!(decide(&[&old, &new], &two, &new, "b").unwrap(), Next::Arm);
    }

    #[test]
    fn a_boot_that_did_not_seal_the_partition_is_not_followed_by_another_for_the_same_version() {
        let (dir, paths) = device();
        let (old, new) = (fake::key(), fake::key());
        let (two, three): (Version, Version) = ("2".parse().unwrap(), "3".parse().unwrap());
        let sealed = sealed_to(&dir, &[&old]);
        let decide = |version: &Version, boot: &str| {
            decide(&paths, &sealed, version, &kernel_image(&new), boot)
        };
        assert_eq!(decide(&two, "a").unwrap(), Next::Reboot);
        let mut it = read(&paths).unwrap();
        it.failed = Some("the TPM is gone".into());
        keep(&paths, &it).unwrap();
        for boot in ["b", "c"] {
            assert!(decide(&two, boot).unwrap_err().to_string().contains("the TPM is gone"));
        }
        assert_eq!(
            decide(&three, "c").unwrap(),
            Next::Reboot,
            "the next version is tried once as well"
        );
        assert!(
            super::decide(&paths, &sealed, &three, BINARY, "c").is_err(),
            "it would open nothing"
        );
    }

    #[test]
    fn the_slot_of_a_key_ends_when_no_image_has_it_any_more() {
        let (dir, paths) = device();
        let (old, new, other) = (fake::key(), fake::key(), fake::key());
        let der = |pem: &str| public_key_der(pem.as_bytes()).unwrap();
        let sealed = sealed_to(&dir, &[&old, &new]);
        let entry = |name: &str, key: &str| {
            fs::write(paths.esp.join("EFI/Linux").join(name), kernel_image(key)).unwrap()
        };
        entry("kiosk_2.efi", &new);
        entry("kiosk_1.efi", &old);
        assert_eq!(
            unused(&sealed, &der(&new), &in_use(&paths).unwrap()),
            [] as [u32; 0],
            "it can be fallen back to"
        );
        entry("kiosk_1.efi", &new);
        assert_eq!(unused(&sealed, &der(&new), &in_use(&paths).unwrap()), [7]);
        assert_eq!(
            unused(&sealed, &der(&other), &in_use(&paths).unwrap()),
            [] as [u32; 0],
            "the running image would be left without"
        );
        fs::write(paths.esp.join("EFI/Linux/kiosk_1.efi"), "torn").unwrap();
        assert!(in_use(&paths).is_err(), "the key that it needs is unknown");
    }
}
