//! What a release measures when it boots, computed from its artifacts (RFC 9334: Reference Values).

use super::log::{extended, sha_256};
use crate::pe::section;
use crate::uefi::{GLOBAL, Guid, SECURITY_DATABASE};
use crate::{Error, OrMalformed};
use object::read::pe::PeFile64;
use sha2_010::{Digest, Sha256};

/// Sections that systemd-stub measures into PCR 11, in order (systemd, `uki.c`,
/// `unified_sections`), with the first systemd version that knows them: all but the signature over
/// the PCR itself.
const SECTIONS: [(&str, u16); 14] = [
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 257),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 253),
    (".sbat", 253),
    (".pcrpkey", 252),
    (".profile", 257),
    (".dtbauto", 257),
    (".hwids", 257),
    (".efifw", 258),
];

/// PCR 11 after the stub of `systemd` (as in 257) has started `uki` and the boot has passed
/// `phases`, as in `enter-initrd:leave-initrd`. A UKI with profiles has one value for each profile
/// and is refused.
///
/// # Errors
/// [`Error::Malformed`] for anything but a UKI with each of its sections once.
pub fn pcr_11(uki: &[u8], systemd: u16, phases: &str) -> Result<[u8; 32], Error> {
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    if section(&file, ".profile")?.is_some() {
        let detail = "it has profiles, each with its own value of PCR 11".into();
        return Err(Error::Malformed { what: "UKI", detail });
    }
    let mut pcr = [0; 32];
    for (name, _) in SECTIONS.iter().filter(|(_, since)| *since <= systemd) {
        if let Some(data) = section(&file, name)? {
            pcr = extended(&pcr, &sha_256(&[name.as_bytes(), &[0]]));
            pcr = extended(&pcr, &sha_256(&[data]));
        }
    }
    Ok(after_phases(pcr, phases))
}

/// A PCR after the phases of a boot, as in `enter-initrd:leave-initrd:sysinit:ready`
/// (systemd-pcrphase.service(8)).
#[must_use]
pub fn after_phases(pcr: [u8; 32], phases: &str) -> [u8; 32] {
    phases
        .split(':')
        .filter(|p| !p.is_empty())
        .fold(pcr, |pcr, phase| extended(&pcr, &sha_256(&[phase.as_bytes()])))
}

/// The systemd version of the stub whose initrd is computed here; other versions add other files.
const INITRD_OF: u16 = 257;
/// Files that the stub passes to user space (systemd, `stub.c`, `generate_embedded_initrds`), in
/// order: section and file.
const EXTRA: [(&str, &str); 3] = [
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
];
/// Their folder (systemd-stub(7)).
const EXTRA_FOLDER: &str = ".extra";
/// From the cpio format (cpio(5), "New ASCII Format"): magic, an entry without name and content,
/// and the end of an archive as the stub writes it.
const CPIO_MAGIC: &str = "070701";
const CPIO_END: &[u8] =
    b"07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0";

/// PCR 9 after the stub of `systemd` (as in 257) has started the kernel of a UKI: the command line
/// and the initrd, in this order, as the kernel's own stub measures them. `None` for a version
/// whose initrd is not known here.
///
/// The UKI must be that of a release: the signature in `.pcrsig` is in the initrd.
///
/// # Errors
/// [`Error::Malformed`] for anything but a UKI.
pub fn pcr_9(uki: &[u8], systemd: u16) -> Result<Option<[u8; 32]>, Error> {
    if systemd != INITRD_OF {
        return Ok(None);
    }
    let file = PeFile64::parse(uki).or_malformed("UKI")?;
    let command_line = section(&file, ".cmdline")?.unwrap_or_default();
    let command_line =
        std::str::from_utf8(command_line).or_malformed("command line")?.trim_end_matches('\0');
    let options: Vec<u8> =
        command_line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut initrd = Sha256::new();
    let first = section(&file, ".initrd")?.unwrap_or_default();
    initrd.update(first);
    initrd.update(&[0; 3][..padding(first.len())]);
    for (name, file_name) in EXTRA {
        if let Some(content) = section(&file, name)? {
            initrd.update(archive(file_name, content)?);
        }
    }
    let pcr = extended(&[0; 32], &sha_256(&[&options]));
    Ok(Some(extended(&pcr, &initrd.finalize().into())))
}

/// PCR 12 if nothing is passed to the kernel from outside the UKI: nothing is measured into it.
pub const PCR_12: [u8; 32] = [0; 32];

/// Contents of the Secure Boot variables of a machine at boot: EFI_SIGNATURE_LISTs, empty for a
/// missing variable.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy<'a> {
    /// PK.
    pub pk: &'a [u8],
    /// KEK.
    pub kek: &'a [u8],
    /// db.
    pub db: &'a [u8],
    /// dbx.
    pub dbx: &'a [u8],
}

/// PCR 7 of a machine with this policy in force. `authorities` are the keys that verified what was
/// started: each an EFI_SIGNATURE_DATA of db (owner and certificate), in the order of first use
/// (TCG "PC Client Platform Firmware Profile", 1.06, 3.3.4.8). Firmware that measures more than
/// required, such as dbt or an action, has another value.
#[must_use]
pub fn pcr_7(policy: &Policy<'_>, authorities: &[&[u8]]) -> [u8; 32] {
    let variables = [
        variable_data(GLOBAL, "SecureBoot", &[1]),
        variable_data(GLOBAL, "PK", policy.pk),
        variable_data(GLOBAL, "KEK", policy.kek),
        variable_data(SECURITY_DATABASE, "db", policy.db),
        variable_data(SECURITY_DATABASE, "dbx", policy.dbx),
    ];
    let authorities =
        authorities.iter().map(|authority| variable_data(SECURITY_DATABASE, "db", authority));
    let events = variables.into_iter().chain([SEPARATOR.to_vec()]).chain(authorities);
    events.fold([0; 32], |pcr, event| extended(&pcr, &sha_256(&[&event])))
}

/// The separator before the system starts (EV_SEPARATOR, 10.4.1).
const SEPARATOR: [u8; 4] = [0; 4];

/// UEFI_VARIABLE_DATA (10.2.6).
fn variable_data(vendor: Guid, name: &str, value: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = |n: usize| (n as u64).to_le_bytes();
    [&vendor.0[..], &length(name.len() / 2), &length(value.len()), &name, value].concat()
}

/// Zeros to the next multiple of 4.
const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// An archive with one file in [`EXTRA_FOLDER`], as the stub writes it.
fn archive(name: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(content.len()).or_malformed("UKI")?;
    let mut out = Vec::new();
    for (inode, mode, length, path) in [
        (1, 0o40555, 0, EXTRA_FOLDER.to_owned()),
        (2, 0o100_444, length, format!("{EXTRA_FOLDER}/{name}")),
    ] {
        let name_length = u32::try_from(path.len() + 1).or_malformed("UKI")?;
        out.extend_from_slice(CPIO_MAGIC.as_bytes());
        for word in [inode, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0] {
            out.extend_from_slice(format!("{word:08x}").as_bytes());
        }
        out.extend_from_slice(path.as_bytes());
        out.push(0);
        out.resize(out.len() + padding(out.len()), 0);
    }
    out.extend_from_slice(content);
    out.resize(out.len() + padding(out.len()), 0);
    out.extend_from_slice(CPIO_END);
    Ok(out)
}
