//! What runs on this device, and what a failed boot left behind. Needs root.

use crate::Paths;
use crate::health::HealthRecord;
use crate::image::running_release;
use crate::{secure_boot, storage};
use anyhow::{Context, Result};
use fleeti_core::id::Version;
use fleeti_core::update::RollbackReason;
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::TEXT_MAX;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Set by systemd-boot while it counts attempts of the entry that it booted (Boot Loader
/// Interface).
const BOOT_COUNT: &str =
    "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const PCR_11: &str = "/sys/class/tpm/tpm0/pcr-sha256/11";
const PSTORE: &str = "/sys/fs/pstore";

/// What runs.
///
/// # Errors
/// If the image is not one of Fleeti's.
pub fn summary(paths: &Paths) -> Result<BootSummary> {
    Ok(BootSummary {
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        running: running_release(paths)?,
        slot: slot().unwrap_or(Slot::A),
        verity: verity(),
        secure_boot: secure_boot::is_on(paths),
        pcr11: fs::read_to_string(PCR_11).ok().map(|v| v.trim().to_ascii_lowercase()),
        firmware: secure_boot::firmware_keys(paths).unwrap_or_else(|e| {
            tracing::warn!("{e:#}");
            None
        }),
        sealed_data: Some(storage::is_sealed()),
        secrets: vec![],
    })
}

/// The slot, by the root partition: number 2 is the root of slot A, number 4 that of slot B (the
/// order in which the disk is made).
fn slot() -> Option<Slot> {
    let mapping = fs::read_dir("/sys/block").ok()?.flatten().find(|e| {
        fs::read_to_string(e.path().join("dm/name")).is_ok_and(|name| name.trim() == "root")
    })?;
    let numbers = fs::read_dir(mapping.path().join("slaves")).ok()?.flatten();
    let lowest = numbers
        .filter_map(|s| {
            fs::read_to_string(s.path().join("partition")).ok()?.trim().parse::<u32>().ok()
        })
        .min()?;
    Some(if lowest <= 3 { Slot::A } else { Slot::B })
}

/// The state of the root's mapping, as the kernel reports it.
fn verity() -> Verity {
    let output =
        Command::new("/usr/sbin/dmsetup").args(["status", "--target", "verity", "root"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    match text.split_whitespace().last() {
        Some("V") => Verity::Verified,
        Some("C") => Verity::Corrupted,
        _ => Verity::Absent,
    }
}

/// Whether the boot loader counts attempts of this boot: it is not yet known to be good.
#[must_use]
pub fn is_counted() -> bool {
    Path::new(BOOT_COUNT).exists()
}

/// Whether the entry of `version` has no counter: the boot was kept.
#[must_use]
pub fn is_blessed(paths: &Paths, line: &str, version: &Version) -> bool {
    paths.esp.join("EFI/Linux").join(format!("{line}_{version}.efi")).exists()
}

/// Whether the entry of the running version has no counter.
#[must_use]
pub fn is_kept(paths: &Paths) -> bool {
    running_release(paths).is_ok_and(|r| is_blessed(paths, r.line.as_str(), &r.version))
}

/// The console line about this boot.
#[must_use]
pub fn console_line(s: &BootSummary) -> String {
    let slot = match s.slot {
        Slot::A => "A",
        Slot::B => "B",
    };
    let verity = match s.verity {
        Verity::Verified => "verified",
        Verity::Corrupted => "corrupted",
        Verity::Absent => "absent",
    };
    format!(
        "fleeti: boot image={} version={} slot={slot} verity={verity} secure-boot={} data={} pcr11={}",
        s.running.line,
        s.running.version,
        if s.secure_boot { "enabled" } else { "disabled" },
        if s.sealed_data == Some(true) { "sealed" } else { "plain" },
        s.pcr11.as_deref().unwrap_or("none"),
    )
}

/// Why `version` does not run; `None` if it was staged and never armed. The reason is in its health
/// record, in the kernel's last messages, or in the boot entry that the boot loader gave up on.
///
/// # Errors
/// If the ESP cannot be read.
pub fn why_failed(paths: &Paths, line: &str, version: &Version) -> Result<Option<RollbackReason>> {
    if paths.esp.join("EFI/Linux").join(format!("{line}_{version}.staged")).exists() {
        return Ok(None);
    }
    armed_and_failed(paths, line, version).map(Some)
}

fn armed_and_failed(paths: &Paths, line: &str, version: &Version) -> Result<RollbackReason> {
    if let Some(record) = HealthRecord::read(paths, version).filter(|r| !r.healthy) {
        if record.is_unreachable {
            return Ok(RollbackReason::ServerUnreachable { evidence: shortened(&record.detail) });
        }
        return Ok(RollbackReason::Health { evidence: shortened(&record.detail) });
    }
    if let Some(evidence) = verity_panic(Path::new(PSTORE)) {
        return Ok(RollbackReason::Verity { evidence: shortened(&evidence) });
    }
    let folder = paths.esp.join("EFI/Linux");
    let prefix = format!("{line}_{version}");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let names: Vec<_> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let entry = names
        .iter()
        .find(|n| n.strip_prefix(&prefix).is_some_and(|r| r.starts_with('+') || r == ".efi"));
    Ok(RollbackReason::BootRefused {
        evidence: match entry {
            Some(name) => format!("boot entry {name} never reached user space"),
            None => format!("there is no boot entry for {version}"),
        },
    })
}

/// Deletes the kernel's last messages, because firmware has little space for them.
pub fn clear_pstore() {
    for entry in fs::read_dir(PSTORE).into_iter().flatten().flatten() {
        fs::remove_file(entry.path()).ok();
    }
}

/// The line in which dm-verity failed, from what the panic left in the firmware's store.
fn verity_panic(pstore: &Path) -> Option<String> {
    let mut files: Vec<_> = fs::read_dir(pstore).ok()?.flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().find_map(|file| {
        let text = fs::read(file).ok()?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|l| l.contains("verity") && l.contains("corrupted"));
        line.map(|l| l.trim().to_owned())
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX / 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path) -> Paths {
        let paths = Paths {
            state: dir.join("s"),
            helper_state: dir.join("h"),
            run: dir.join("r"),
            lib: dir.join("l"),
            esp: dir.join("e"),
            ..Paths::device()
        };
        fs::create_dir_all(dir.join("e/EFI/Linux")).unwrap();
        fs::create_dir_all(dir.join("h")).unwrap();
        paths
    }

    #[test]
    fn an_entry_without_tries_and_no_other_trace_means_that_the_boot_was_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        fs::write(dir.path().join("e/EFI/Linux/kiosk_2+0-3.efi"), "").unwrap();
        let reason = why_failed(&paths, "kiosk", &"2".parse().unwrap()).unwrap().unwrap();
        assert!(
            matches!(reason, RollbackReason::BootRefused { evidence } if evidence.contains("kiosk_2+0-3.efi"))
        );
    }

    #[test]
    fn what_was_staged_and_never_armed_has_not_failed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        fs::write(dir.path().join("e/EFI/Linux/kiosk_2.staged"), "").unwrap();
        assert_eq!(why_failed(&paths, "kiosk", &"2".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn a_health_record_of_another_version_is_not_taken_for_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let record = HealthRecord {
            version: "2".parse().unwrap(),
            boot_id: "b".into(),
            healthy: false,
            detail: "check x".into(),
            is_unreachable: false,
        };
        record.write(&paths).unwrap();
        // The version that the device rolled back to runs its own checks before it reports.
        HealthRecord { version: "1".parse().unwrap(), healthy: true, ..record.clone() }
            .write(&paths)
            .unwrap();
        let of = |v: &str| why_failed(&paths, "kiosk", &v.parse().unwrap()).unwrap().unwrap();
        assert_eq!(of("2"), RollbackReason::Health { evidence: "check x".into() });
        assert!(matches!(of("3"), RollbackReason::BootRefused { .. }));
        let unreachable = HealthRecord {
            version: "4".parse().unwrap(),
            healthy: false,
            is_unreachable: true,
            ..record.clone()
        };
        unreachable.write(&paths).unwrap();
        assert_eq!(of("4"), RollbackReason::ServerUnreachable { evidence: "check x".into() });
    }

    #[test]
    fn the_kernels_last_words_are_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dmesg-efi_pstore-1"), "Panic#1\n<6>[ 2.9] device-mapper: verity: sha256 using shash\n<3>[ 3.1] device-mapper: verity: 254:4: data block 0 is corrupted\n")
            .unwrap();
        assert!(verity_panic(dir.path()).unwrap().contains("data block 0 is corrupted"));
    }
}
