//! Secure Boot of this device: which EFI binaries its firmware would start, and changes of its
//! variables. Needs root.
//!
//! No version is armed and no variable is written before it is certain that the firmware will start
//! the running version and the next one.

use crate::image::running_release;
use crate::{Paths, kept};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::boot::{
    BootChange, BootSignatures, BootVariable, FirmwareKeys, VariableWrite,
};
use fleeti_pki::uefi::{self, AuthenticatedWrite};
use fleeti_pki::{authenticode, certificate};
use rustix::fs::{IFlags, Mode, OFlags};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use x509_cert::Certificate;

/// The boot loader's path in a release, and its copies on the ESP.
const LOADER: &str = "raw/systemd-boot.efi";
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
/// Keys of db whose epoch has ended.
const ENDED: &str = "ended-keys.json";
/// Length of the attributes in front of a variable's value (efivarfs).
const ATTRIBUTES: usize = 4;

/// What the firmware trusts.
#[derive(Clone)]
pub struct Trusted {
    /// Certificates in db. Unreadable ones are skipped: they verify nothing of Fleeti.
    pub db: Vec<Certificate>,
    /// Digests in dbx.
    pub dbx: Vec<[u8; 32]>,
}

impl Trusted {
    /// Whether the firmware would start this EFI binary.
    ///
    /// # Errors
    /// If it is not an EFI binary.
    pub fn starts(&self, binary: &[u8]) -> Result<bool> {
        let digest = authenticode::digest(binary)?;
        if self.dbx.contains(&digest) {
            return Ok(false);
        }
        let signatures = authenticode::signatures(binary)?;
        Ok(signatures
            .iter()
            .any(|s| self.db.iter().any(|c| authenticode::verify(s, &digest, c).is_ok())))
    }

    /// The EFI binary as the firmware starts it: unchanged, or with this device's signature.
    ///
    /// # Errors
    /// If the firmware would start it neither way.
    pub fn signed(&self, binary: Vec<u8>, signature: Option<&str>) -> Result<Vec<u8>> {
        if self.starts(&binary)? {
            return Ok(binary);
        }
        let signature = signature.context("the firmware would not start it: no key in db signed it, and there is no device signature")?;
        let signed = authenticode::attach(
            &binary,
            &STANDARD.decode(signature).context("the signature is not base64")?,
        )?;
        ensure!(
            self.starts(&signed)?,
            "the firmware would not start it: no key in db made its signature, or dbx forbids it"
        );
        Ok(signed)
    }
}

/// An EFI binary with the signature of the newest key, without signatures of keys that are in db
/// neither now nor after the change.
fn signed_anew(binary: &[u8], signature: &str, now: &Trusted, after: &Trusted) -> Result<Vec<u8>> {
    let (signature, digest) = (
        STANDARD.decode(signature).context("the signature is not base64")?,
        authenticode::digest(binary)?,
    );
    let by_one_of = |s: &[u8], db: &[Certificate]| {
        db.iter().any(|c| authenticode::verify(s, &digest, c).is_ok())
    };
    let mut kept = authenticode::signatures(binary)?;
    let before = kept.len();
    kept.retain(|s| by_one_of(s, &now.db) || by_one_of(s, &after.db));
    if by_one_of(&signature, &after.db) && !kept.contains(&signature) {
        kept.push(signature);
    } else if kept.len() == before {
        return Ok(binary.to_vec());
    }
    kept.iter().try_fold(authenticode::stripped(binary)?, |binary, s| {
        Ok(authenticode::attach(&binary, s)?)
    })
}

fn value(paths: &Paths, file_name: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(paths.efivars.join(file_name)).ok()?;
    bytes.get(ATTRIBUTES..).map(<[u8]>::to_vec)
}

/// Whether the firmware verifies signatures.
#[must_use]
pub fn is_on(paths: &Paths) -> bool {
    value(paths, &uefi::global_file_name("SecureBoot")).is_some_and(|v| v == [1])
}

fn is_setup(paths: &Paths) -> bool {
    value(paths, &uefi::global_file_name("SetupMode")).is_some_and(|v| v == [1])
}

fn certificates(paths: &Paths, variable: BootVariable) -> Result<Vec<Vec<u8>>> {
    let bytes = value(paths, &uefi::file_name(variable)).unwrap_or_default();
    uefi::certificates(&bytes).with_context(|| format!("the variable {}", uefi::name(variable)))
}

/// Contents of the variables; `None` if there are none.
///
/// # Errors
/// If a variable cannot be parsed.
pub fn firmware_keys(paths: &Paths) -> Result<Option<FirmwareKeys>> {
    if value(paths, &uefi::global_file_name("SetupMode")).is_none() {
        return Ok(None);
    }
    let digests = |variable| {
        anyhow::Ok(
            certificates(paths, variable)?.iter().map(|der| sha256_hex(der)).collect::<Vec<_>>(),
        )
    };
    Ok(Some(FirmwareKeys {
        setup_mode: is_setup(paths),
        pk: digests(BootVariable::Pk)?.pop(),
        kek: digests(BootVariable::Kek)?,
        db: digests(BootVariable::Db)?,
        dbx: forbidden(paths)?.iter().map(hex::encode).collect(),
        change: last_change(paths),
        refused: None,
    }))
}

fn forbidden(paths: &Paths) -> Result<Vec<[u8; 32]>> {
    uefi::digests(&value(paths, &uefi::file_name(BootVariable::Dbx)).unwrap_or_default())
        .context("the variable dbx")
}

/// What the firmware trusts now; `None` if it verifies no signatures.
///
/// # Errors
/// If a variable cannot be parsed.
pub fn trusted(paths: &Paths) -> Result<Option<Trusted>> {
    if !is_on(paths) {
        return Ok(None);
    }
    let db = readable(&certificates(paths, BootVariable::Db)?);
    Ok(Some(Trusted { db, dbx: forbidden(paths)? }))
}

fn readable(ders: &[Vec<u8>]) -> Vec<Certificate> {
    ders.iter().filter_map(|der| certificate::from_der(der).ok()).collect()
}

fn last_change(paths: &Paths) -> u64 {
    fs::read_to_string(paths.helper_state.join("boot-change"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Digests of the certificates of db whose epoch has ended. An unreadable file raises an alarm, and
/// does not block changes.
fn ended(paths: &Paths) -> BTreeSet<String> {
    kept::read(&paths.helper_state.join(ENDED), kept::json).unwrap_or_default()
}

fn names(trusted: &Trusted) -> Result<BTreeSet<String>> {
    trusted.db.iter().map(|c| Ok(certificate::fingerprint(c)?)).collect()
}

/// A parsed write: its bytes, and the variables after it.
struct Planned<'a> {
    write: &'a VariableWrite,
    auth: Vec<u8>,
    is_done: bool,
}

/// Applies a change: signatures first, then the variables, so that the device boots at every moment
/// in between.
///
/// # Errors
/// Why the device would not boot after the change, or what failed. The next attempt finds what is
/// already done.
pub fn change(paths: &Paths, change: &BootChange) -> Result<()> {
    if last_change(paths) >= change.number {
        return Ok(());
    }
    let now = trusted(paths)?.context("Secure Boot is off: its variables are not changed")?;
    ensure!(!is_setup(paths), "the firmware is in setup mode: its variables are not changed");
    let kek = readable(&certificates(paths, BootVariable::Kek)?);
    // Only the final contents of db are checked, so there may be one write of db.
    let of_db = change.writes.iter().filter(|w| w.variable == BootVariable::Db).count();
    ensure!(of_db <= 1, "{of_db} writes of db in one change");
    let mut after = now.clone();
    let mut planned = Vec::new();
    for write in &change.writes {
        planned.push(plan(write, &kek, &mut after)?);
    }
    // After an old key has leaked, an attacker who controls the server could restore it from a
    // backup and request its return.
    let (mut ended, trusted_now, trusted_after) = (ended(paths), names(&now)?, names(&after)?);
    ensure!(
        ended.is_disjoint(&trusted_after),
        "a key of db whose epoch has ended would be trusted again"
    );
    let (running, others) = binaries(paths, &now)?;
    // Everything is checked before anything is written.
    let mut to_replace = Vec::new();
    for (path, name) in &running {
        let binary = read(path)?;
        let signed = match change.signatures.binaries.get(name) {
            Some(signature) => signed_anew(&binary, signature, &now, &after)?,
            None => binary.clone(),
        };
        for (trusted, when) in [(&now, "before"), (&after, "after")] {
            ensure!(
                trusted.starts(&signed)?,
                "the firmware would not start {} {when} the change",
                path.display()
            );
        }
        if signed != binary {
            to_replace.push((path, signed));
        }
    }
    for path in others {
        let binary = read(&path)?;
        // A file that is not an EFI binary starts neither way.
        let ends = now.starts(&binary).unwrap_or(false) && !after.starts(&binary).unwrap_or(false);
        ensure!(
            !ends || change.may_end_fallback,
            "{} would no longer boot, but the policy keeps the fallback",
            path.display()
        );
    }
    for (path, signed) in to_replace {
        replace(path, &signed)?;
    }
    ended.extend(trusted_now.difference(&trusted_after).cloned());
    crate::write_durably(&paths.helper_state.join(ENDED), &serde_json::to_vec(&ended)?)?;
    for p in planned.iter().filter(|p| !p.is_done) {
        write_variable(paths, p)?;
    }
    let found = trusted(paths)?.context("Secure Boot is off after the change")?;
    let same = |a: &Trusted, b: &Trusted| a.db == b.db && b.dbx.iter().all(|d| a.dbx.contains(d));
    ensure!(same(&found, &after), "the variables differ from what was written");
    Ok(crate::write_durably(
        &paths.helper_state.join("boot-change"),
        change.number.to_string().as_bytes(),
    )?)
}

/// Parses a write and computes the variables after it. Only writes of db and dbx that KEK signed
/// are accepted.
fn plan<'a>(
    write: &'a VariableWrite,
    kek: &[Certificate],
    after: &mut Trusted,
) -> Result<Planned<'a>> {
    let auth = STANDARD.decode(&write.auth).context("the write is not base64")?;
    let name = uefi::name(write.variable);
    let read = kek
        .iter()
        .find_map(|by| AuthenticatedWrite::verify(&auth, write.variable, write.append, by).ok());
    let value = read
        .with_context(|| format!("the write of {name} is not signed by this device's KEK"))?
        .value
        .to_vec();
    let is_done = match (write.variable, write.append) {
        (BootVariable::Db, false) => {
            let db = readable(&uefi::certificates(&value)?);
            let is_done = db == after.db;
            after.db = db;
            is_done
        }
        (BootVariable::Dbx, true) => {
            let new: Vec<_> =
                uefi::digests(&value)?.into_iter().filter(|d| !after.dbx.contains(d)).collect();
            let is_done = new.is_empty();
            after.dbx.extend(new);
            is_done
        }
        _ => bail!("{name} cannot be changed in the field"),
    };
    Ok(Planned { write, auth, is_done })
}

/// An EFI binary on the ESP, and its path in its release.
type Binary = (PathBuf, String);

/// The EFI binaries that the running version needs to boot, and the other boot entries.
fn binaries(paths: &Paths, now: &Trusted) -> Result<(Vec<Binary>, Vec<PathBuf>)> {
    let release = running_release(paths)?;
    let prefix = format!("{}_{}", release.line, release.version);
    let mut running: Vec<Binary> = Vec::new();
    for loader in LOADERS {
        let path = paths.esp.join(loader);
        // A copy that the firmware does not start today does not count.
        if path.exists() && now.starts(&read(&path)?)? {
            running.push((path, LOADER.to_owned()));
        }
    }
    ensure!(!running.is_empty(), "the firmware starts no boot loader on the ESP");
    let mut others = Vec::new();
    let folder = paths.esp.join("EFI/Linux");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(".efi") else { continue };
        if stem == prefix || stem.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('+')) {
            running.push((path, format!("raw/{prefix}.efi")));
        } else {
            others.push(path);
        }
    }
    ensure!(
        running.len() > 1 && running.iter().any(|(_, name)| name != LOADER),
        "the UKI of {release} is not on the ESP"
    );
    Ok((running, others))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Replaces a file, so that the old or the new one exists after a power cut.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    fleeti_files::write_durably(path, bytes, fleeti_files::PUBLIC)
        .with_context(|| path.display().to_string())
}

fn write_variable(paths: &Paths, planned: &Planned<'_>) -> Result<()> {
    let Planned { write, auth, .. } = planned;
    let path = paths.efivars.join(uefi::file_name(write.variable));
    let as_written = AuthenticatedWrite {
        variable: write.variable,
        append: write.append,
        time_s: 0,
        value: &[],
    };
    // efivarfs makes variables immutable to protect them from `rm`, and takes attributes and value
    // in one write.
    if let Ok(file) = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE)
            .with_context(|| path.display().to_string())?;
    }
    let bytes = [&as_written.attributes().to_le_bytes()[..], auth].concat();
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true);
    let mut file = options.open(&path).with_context(|| path.display().to_string())?;
    let written = file.write(&bytes).with_context(|| {
        format!("the firmware refused the write of {}", uefi::name(write.variable))
    })?;
    ensure!(written == bytes.len(), "the write of {} was incomplete", uefi::name(write.variable));
    Ok(())
}

/// The signature for one EFI binary, from those stored with a staged version.
#[must_use]
pub fn signature_for<'a>(signatures: &'a BootSignatures, binary: &str) -> Option<&'a str> {
    signatures.binaries.get(binary).map(String::as_str)
}
