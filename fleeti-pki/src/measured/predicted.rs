//! What will be measured when a release starts, computed of its parts (RFC 9334: Reference Values).

use super::log::{extended, sha_256};
use crate::pe::section;
use crate::{Error, OrMalformed};
use object::read::pe::PeFile64;

/// Sections that systemd-stub measures into register 11, in its order (systemd, `uki.c`, `unified_sections`): all but the
/// signature over the register itself. A version measures those that it knows.
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

/// Register 11 once the stub of `systemd` (as in 257) has started the kernel image `uki`, and `phases` have passed, as in
/// `enter-initrd:leave-initrd`. An image with profiles has one value for each and is refused.
///
/// # Errors
/// [`Error::Malformed`] for anything but a kernel image with each of its sections once.
pub fn register_11(uki: &[u8], systemd: u16, phases: &str) -> Result<[u8; 32], Error> {
    let file = PeFile64::parse(uki).or_malformed("kernel image")?;
    if section(&file, ".profile")?.is_some() {
        let detail = "it has profiles: each of them has a register of its own".into();
        return Err(Error::Malformed { what: "kernel image", detail });
    }
    let mut register = [0; 32];
    for (name, _) in SECTIONS.iter().filter(|(_, since)| *since <= systemd) {
        if let Some(data) = section(&file, name)? {
            register = extended(&register, &sha_256(&[name.as_bytes(), &[0]]));
            register = extended(&register, &sha_256(&[data]));
        }
    }
    Ok(after_phases(register, phases))
}

/// A register after the phases of a boot, as in `enter-initrd:leave-initrd:sysinit:ready` (systemd-pcrphase.service(8)).
#[must_use]
pub fn after_phases(register: [u8; 32], phases: &str) -> [u8; 32] {
    phases.split(':').filter(|p| !p.is_empty()).fold(register, |register, phase| extended(&register, &sha_256(&[phase.as_bytes()])))
}
