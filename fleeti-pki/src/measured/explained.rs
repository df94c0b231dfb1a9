//! Registers and events in words, for people. Nothing is decided by them.

use super::device_path::{self, TEXT_MAX, shown};
use super::log::{Event, EventKind, FirmwareLog};
use super::phases::Measurement;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Most events of a register that are told.
const EVENTS_MAX: usize = 64;

/// What belongs into a register (TCG "PC Client Platform Firmware Profile", 3.3.4; UAPI "Linux TPM
/// PCR Registry").
#[must_use]
pub const fn title(register: u8) -> &'static str {
    match register {
        0 => "the firmware's code",
        1 => "the firmware's settings",
        2 => "code of cards and other devices",
        3 => "settings of cards and other devices",
        4 => "boot loader and kernel image",
        5 => "partition table and boot loader's settings",
        6 => "the maker's own",
        7 => "Secure Boot: on or off, keys, and who vouched",
        9 => "command line and initrd, as the kernel got them",
        11 => "the kernel image's parts, and how far the system has started",
        12 => "command lines, credentials and addons from outside the kernel image",
        13 => "system extensions",
        14 => "keys of a shim",
        15 => "identity of the system: machine id, volumes",
        _ => "not used",
    }
}

/// What was measured into a register, in its order. `programs` are names of programs by their
/// digests.
#[must_use]
pub fn events(
    register: u8,
    log: Option<&FirmwareLog>,
    phases: &[Measurement],
    programs: &BTreeMap<[u8; 32], String>,
) -> Vec<String> {
    let firmware = log
        .into_iter()
        .flat_map(|log| log.of(register))
        .map(|event| event_in_words(event, programs));
    let user_space = phases.iter().filter(|m| m.register == register).map(|m| match &m.words {
        Some(words) => format!("user space: {}", shown(words.as_bytes())),
        None => format!("user space: {}", short(&m.digest)),
    });
    firmware.chain(user_space).take(EVENTS_MAX).collect()
}

fn event_in_words(event: &Event, programs: &BTreeMap<[u8; 32], String>) -> String {
    let words = event_named(event, programs);
    let says = matches!(
        event.kind,
        EventKind::Action
            | EventKind::VariableDriverConfig
            | EventKind::VariableBoot
            | EventKind::VariableAuthority
            | EventKind::Ipl
            | EventKind::Tag
    );
    // The quote answers for the digest. Where the data is not what has it, whoever wrote the log
    // could have written anything.
    match says && <[u8; 32]>::from(Sha256::digest(&event.data)) != event.digest {
        true => format!("{words} (by its own word: {})", short(&event.digest)),
        false => words,
    }
}

fn event_named(event: &Event, programs: &BTreeMap<[u8; 32], String>) -> String {
    match event.kind {
        EventKind::Application | EventKind::Driver => match programs.get(&event.digest) {
            Some(name) => name.clone(),
            None => match device_path::of_image(&event.data)
                .map(device_path::in_words)
                .filter(|path| !path.is_empty())
            {
                Some(path) => {
                    format!("a program that no release has: {}, at {path}", short(&event.digest))
                }
                None => format!("a program that no release has: {}", short(&event.digest)),
            },
        },
        EventKind::Separator => "firmware is done".into(),
        EventKind::Action => format!("firmware: {}", shown(&event.data)),
        EventKind::Hcrtm => {
            format!("measured before the processor started: {}", short(&event.digest))
        }
        EventKind::DevicePolicy => {
            format!("which devices authenticate themselves: {}", short(&event.digest))
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
                    format!("a key of {name} vouched for what was started")
                }
                _ => format!("variable {name}, {length} bytes"),
            }
        }
        EventKind::Ipl => format!("boot loader: {}", shown(&event.data)),
        // Behind an identifier and a length (10.4.5.5).
        EventKind::Tag => format!("kernel: {}", shown(event.data.get(8..).unwrap_or_default())),
        EventKind::NoAction | EventKind::OmitBootDevice | EventKind::Other(_) => {
            format!("{}, of {} bytes", short(&event.digest), event.data.len())
        }
    }
}

/// Name and length of a variable's value; what cannot be read has no name.
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
