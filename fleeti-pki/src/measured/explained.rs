//! PCRs and events as text for operators. Nothing depends on it.

use super::device_path::{self, TEXT_MAX, shown};
use super::log::{Event, EventKind, FirmwareLog};
use super::phases::Measurement;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Maximum number of events shown for each PCR.
const EVENTS_MAX: usize = 64;

/// What is measured into a PCR (TCG "PC Client Platform Firmware Profile", 3.3.4; UAPI "Linux TPM
/// PCR Registry").
#[must_use]
pub const fn title(pcr: u8) -> &'static str {
    match pcr {
        0 => "firmware code",
        1 => "firmware settings",
        2 => "code of option ROMs and other devices",
        3 => "settings of option ROMs and other devices",
        4 => "boot loader and UKI",
        5 => "partition table and boot loader settings",
        6 => "defined by the machine's manufacturer",
        7 => "Secure Boot: on or off, keys, and the keys that verified EFI binaries",
        9 => "command line and initrd, as the kernel got them",
        11 => "sections of the UKI, and boot phases",
        12 => "command lines, credentials and addons from outside the UKI",
        13 => "system extensions",
        14 => "keys of a shim",
        15 => "system identity: machine id, volumes",
        _ => "not used",
    }
}

/// The events of a PCR, in order. `binaries` maps digests of EFI binaries to names.
#[must_use]
pub fn events(
    pcr: u8,
    log: Option<&FirmwareLog>,
    phases: &[Measurement],
    binaries: &BTreeMap<[u8; 32], String>,
) -> Vec<String> {
    let firmware =
        log.into_iter().flat_map(|log| log.of(pcr)).map(|event| event_in_words(event, binaries));
    let user_space = phases.iter().filter(|m| m.pcr == pcr).map(|m| match &m.words {
        Some(words) => format!("user space: {}", shown(words.as_bytes())),
        None => format!("user space: {}", short(&m.digest)),
    });
    firmware.chain(user_space).take(EVENTS_MAX).collect()
}

fn event_in_words(event: &Event, binaries: &BTreeMap<[u8; 32], String>) -> String {
    let words = event_named(event, binaries);
    let says = matches!(
        event.kind,
        EventKind::Action
            | EventKind::VariableDriverConfig
            | EventKind::VariableBoot
            | EventKind::VariableAuthority
            | EventKind::Ipl
            | EventKind::Tag
    );
    // The quote covers the digest only. Where the digest is not that of the data, the author of the
    // log could have written anything.
    match says && <[u8; 32]>::from(Sha256::digest(&*event.data)) != event.digest {
        true => format!("{words} (unverified text; digest {})", short(&event.digest)),
        false => words,
    }
}

fn event_named(event: &Event, binaries: &BTreeMap<[u8; 32], String>) -> String {
    match event.kind {
        EventKind::Application | EventKind::Driver => match binaries.get(&event.digest) {
            Some(name) => name.clone(),
            None => match device_path::of_image(&event.data)
                .map(device_path::in_words)
                .filter(|path| !path.is_empty())
            {
                Some(path) => {
                    format!("an EFI binary of no release: {}, at {path}", short(&event.digest))
                }
                None => format!("an EFI binary of no release: {}", short(&event.digest)),
            },
        },
        EventKind::Separator => "separator".into(),
        EventKind::Action => format!("firmware: {}", shown(&event.data)),
        EventKind::Hcrtm => {
            format!("H-CRTM, measured before the processor started: {}", short(&event.digest))
        }
        EventKind::DevicePolicy => {
            format!("device authentication policy (SPDM): {}", short(&event.digest))
        }
        EventKind::VariableDriverConfig
        | EventKind::VariableBoot
        | EventKind::VariableAuthority => {
            let (name, length) = variable(&event.data);
            match (event.kind, name.as_str(), event.data.last()) {
                (EventKind::VariableDriverConfig, "SecureBoot", Some(1)) => {
                    "Secure Boot is on".into()
                }
                (EventKind::VariableDriverConfig, "SecureBoot", _) => "Secure Boot is off".into(),
                (EventKind::VariableAuthority, ..) => {
                    format!("a key of {name} verified an EFI binary")
                }
                _ => format!("variable {name}, {length} bytes"),
            }
        }
        EventKind::Ipl => format!("boot loader: {}", shown(&event.data)),
        // After an identifier and a length (10.4.5.5).
        EventKind::Tag => format!("kernel: {}", shown(event.data.get(8..).unwrap_or_default())),
        EventKind::NoAction | EventKind::OmitBootDevice | EventKind::Other(_) => {
            format!("{}, of {} bytes", short(&event.digest), event.data.len())
        }
    }
}

/// Name of a variable and length of its value; an unreadable variable has no name.
fn variable(data: &[u8]) -> (String, usize) {
    let number = |at: usize| {
        data.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let length = usize::try_from(number(16)).unwrap_or(0).min(TEXT_MAX);
    let name = data.get(32..32 + 2 * length).unwrap_or_default();
    (shown(name), usize::try_from(number(24)).unwrap_or(0))
}

fn short(digest: &[u8; 32]) -> String {
    hex::encode(&digest[..8])
}
