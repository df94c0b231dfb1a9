//! The log that firmware keeps of what it measured (TCG "PC Client Platform Firmware Profile",
//! 1.06, 10.2: crypto-agile).
//!
//! The log is not authenticated: it proves nothing until it is [replayed](FirmwareLog::replay) to
//! PCRs that a TPM quoted, and then only its *digests* count. What an event says of itself counts
//! only if its digest is checked to cover exactly that.

use crate::tpm::{Hash, Reader, Unreadable};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

const WHAT: &str = "firmware's event log";
/// Maximum size of a log in bytes.
pub const BYTES_MAX: usize = 512 * 1024;
/// Maximum number of events.
const EVENTS_MAX: usize = 4096;
/// Starts a crypto-agile log.
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// Marks an event of locality (10.4.5.3).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// PCRs of a PC Client TPM. Those from 16 on can be reset while a system runs; they are neither
/// quoted nor replayed.
const PCRS: u32 = 24;
const REPLAYED: u8 = 16;
/// Maximum number of banks of a log, and of digests of an event.
const BANKS_MAX: u32 = 8;
/// Maximum length of a digest.
const DIGEST_MAX: usize = 64;
/// Minimum number of zero bytes that are free space left by firmware: no event starts with them.
/// Bytes of `ff` are always free space.
const ROOM_MIN: usize = 5;
/// Initial value of PCR 0 if the TPM was started after an H-CRTM (Part 1, 34.3; "PC Client Platform
/// Firmware Profile", 1.06, 3.3.4.1).
const AFTER_HCRTM: u8 = 4;
/// Localities from which a TPM can be started.
const LOCALITIES: [u8; 3] = [0, 3, AFTER_HCRTM];

/// The type of an event (10.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Not measured.
    NoAction,
    /// Separates what firmware did from what follows.
    Separator,
    /// An action of the firmware.
    Action,
    /// A measurement made before the processor started (an H-CRTM).
    Hcrtm,
    /// Measured by a boot loader or stub.
    Ipl,
    /// Tagged by the loader of an operating system.
    Tag,
    /// A variable of the Secure Boot policy.
    VariableDriverConfig,
    /// A variable that selects what to boot.
    VariableBoot,
    /// The key that verified an EFI binary.
    VariableAuthority,
    /// An EFI binary was started.
    Application,
    /// A driver was loaded.
    Driver,
    /// The devices that authenticate themselves (SPDM), and their keys.
    DevicePolicy,
    /// Firmware skipped a device when it looked for boot options.
    OmitBootDevice,
    /// Any other type.
    Other(u32),
}

impl EventKind {
    const fn of(value: u32) -> Self {
        match value {
            0x0000_0003 => Self::NoAction,
            0x0000_0004 => Self::Separator,
            0x0000_0006 => Self::Tag,
            0x0000_000d => Self::Ipl,
            0x0000_0012 => Self::OmitBootDevice,
            0x8000_0001 => Self::VariableDriverConfig,
            0x8000_0002 | 0x8000_000c => Self::VariableBoot,
            0x8000_0003 => Self::Application,
            0x8000_0004 | 0x8000_0005 => Self::Driver,
            0x8000_0007 => Self::Action,
            0x8000_0010 => Self::Hcrtm,
            0x8000_00e0 => Self::VariableAuthority,
            0x8000_00e3 | 0x8000_00e4 => Self::DevicePolicy,
            other => Self::Other(other),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The PCR.
    pub pcr: u8,
    /// The type, as the log states it.
    pub kind: EventKind,
    /// The SHA-256 digest by which the PCR was extended.
    pub digest: [u8; 32],
    /// What the event says of itself.
    pub data: Data,
}

/// A part of a log. All events share one copy of its bytes.
#[derive(Clone)]
pub struct Data {
    log: Arc<[u8]>,
    range: Range<usize>,
}

impl Deref for Data {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.log.get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Data {}

/// A parsed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareLog {
    events: Vec<Event>,
    /// The locality of TPM2_Startup, if the log states it: the initial value of PCR 0.
    locality: Option<u8>,
}

/// PCR values by number.
pub type Pcrs = BTreeMap<u8, [u8; 32]>;

/// A PCR, extended by a digest (Part 1, 17.2).
#[must_use]
pub fn extended(pcr: &[u8; 32], digest: &[u8; 32]) -> [u8; 32] {
    sha_256(&[pcr, digest])
}

pub(super) fn sha_256(parts: &[&[u8]]) -> [u8; 32] {
    // Without a context of C: most inputs are as short as a PCR.
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().into()
}

impl FirmwareLog {
    /// Parses a log.
    ///
    /// # Errors
    /// [`Unreadable`] if the log is incomplete or has no SHA-256 bank.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::TooLong { what: WHAT, length: bytes.len(), max: BYTES_MAX });
        }
        let shared: Arc<[u8]> = bytes.into();
        let mut r = Reader::new(WHAT, bytes);
        let banks = header(&mut r)?;
        let mut log = Self { events: Vec::new(), locality: None };
        while !r.is_empty() && !is_room(r.left()) {
            if log.events.len() == EVENTS_MAX {
                return Err(Unreadable::TooLong {
                    what: WHAT,
                    length: EVENTS_MAX + 1,
                    max: EVENTS_MAX,
                });
            }
            match event(&mut r, &banks, &shared)? {
                event if event.kind == EventKind::NoAction => log.no_action(&event)?,
                event => log.events.push(event),
            }
        }
        Ok(log)
    }

    /// Reads the locality of TPM2_Startup, the only event of this type that counts.
    fn no_action(&mut self, event: &Event) -> Result<(), Unreadable> {
        let Some(locality) = event.data.strip_prefix(STARTUP_LOCALITY) else { return Ok(()) };
        let is_first = !self.events.iter().any(|e| e.pcr == 0);
        match locality {
            [locality] if is_first && event.pcr == 0 && LOCALITIES.contains(locality) => {
                self.locality = Some(*locality)
            }
            _ => {
                return Err(Unreadable::Wrong {
                    what: WHAT,
                    detail: "StartupLocality is not 0, 3 or 4, or follows an event of PCR 0",
                });
            }
        }
        Ok(())
    }

    /// All measurements, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The measurements of one PCR.
    pub fn of(&self, pcr: u8) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| e.pcr == pcr)
    }

    /// The values of PCR 0 to 15 after all events. PCRs without an event are left out.
    #[must_use]
    pub fn replay(&self) -> Pcrs {
        self.replay_from(self.startup())
    }

    /// Like [`Self::replay`], but uses another locality of TPM2_Startup if that leads to
    /// `pcr_0`: the locality is not measured, some firmware leaves it out, and only these
    /// localities are possible.
    #[must_use]
    pub fn replay_to(&self, pcr_0: &[u8; 32]) -> Pcrs {
        let starts = [self.startup()].into_iter().chain(LOCALITIES);
        let mut replayed = starts.map(|locality| self.replay_from(locality));
        replayed.find(|pcrs| pcrs.get(&0) == Some(pcr_0)).unwrap_or_else(|| self.replay())
    }

    /// The locality of TPM2_Startup.
    fn startup(&self) -> u8 {
        let is_hcrtm = |e: &Event| e.kind == EventKind::Hcrtm;
        self.locality.unwrap_or(if self.of(0).any(is_hcrtm) { AFTER_HCRTM } else { 0 })
    }

    fn replay_from(&self, locality: u8) -> Pcrs {
        let mut pcrs = Pcrs::new();
        for event in self.events.iter().filter(|e| e.pcr < REPLAYED) {
            let mut start = [0; 32];
            if event.pcr == 0 {
                start[31] = locality;
            }
            let pcr = pcrs.entry(event.pcr).or_insert(start);
            *pcr = extended(pcr, &event.digest);
        }
        pcrs
    }
}

/// Whether the rest of a log is free space.
fn is_room(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0xff)
        || (rest.len() >= ROOM_MIN && rest.iter().all(|byte| *byte == 0))
}

/// The banks of the log, in order, with the lengths of their digests.
fn header(r: &mut Reader<'_>) -> Result<Vec<(u16, usize)>, Unreadable> {
    let wrong = |detail| Err(Unreadable::Wrong { what: WHAT, detail });
    let (pcr, kind, digest) = (r.u32_le()?, r.u32_le()?, r.array::<20>()?);
    if pcr != 0 || kind != 3 || digest != [0; 20] {
        return wrong("it does not start with EV_NO_ACTION");
    }
    let length = r.u32_le()? as usize;
    let mut inner = Reader::new("the first event", r.take(length)?);
    if &inner.array::<16>()? != SIGNATURE {
        return wrong("it is not crypto-agile");
    }
    let _platform_class = inner.u32_le()?;
    let (_minor, major, _errata, _uintn) = (inner.u8()?, inner.u8()?, inner.u8()?, inner.u8()?);
    if major != 2 {
        return wrong("it is not for TPM 2.0");
    }
    let count = inner.u32_le()?;
    if !(1..=BANKS_MAX).contains(&count) {
        return wrong("it has no bank, or more than eight");
    }
    let banks = (0..count)
        .map(|_| Ok((inner.u16_le()?, usize::from(inner.u16_le()?))))
        .collect::<Result<Vec<_>, _>>()?;
    let vendor = inner.u8()?;
    inner.take(usize::from(vendor))?;
    inner.end()?;
    // Of banks other than SHA-256, only the length that the log states is used.
    let is_right = |(id, length): &(u16, usize)| {
        (*id != Hash::Sha256.id() || *length == Hash::Sha256.length()) && *length <= DIGEST_MAX
    };
    let is_twice = banks
        .iter()
        .enumerate()
        .any(|(i, (id, _))| banks[..i].iter().any(|(other, _)| other == id));
    if !banks.iter().all(is_right)
        || is_twice
        || !banks.iter().any(|(id, _)| *id == Hash::Sha256.id())
    {
        return wrong("it has no SHA-256 bank, one of a wrong length, or one twice");
    }
    Ok(banks)
}

fn event(r: &mut Reader<'_>, banks: &[(u16, usize)], log: &Arc<[u8]>) -> Result<Event, Unreadable> {
    let (pcr, kind, count) = (r.u32_le()?, EventKind::of(r.u32_le()?), r.u32_le()?);
    let is_measured = kind != EventKind::NoAction;
    if is_measured && pcr >= PCRS {
        return r.unknown("pcr", pcr);
    }
    if count > BANKS_MAX {
        return r.unknown("count of digests", count);
    }
    let mut sha_256 = None;
    for _ in 0..count {
        let id = r.u16_le()?;
        let Some(length) = banks
            .iter()
            .find(|(bank, _)| *bank == id)
            .map(|(_, length)| *length)
            .or_else(|| length_of(id))
        else {
            return r.unknown("algorithm of a digest", id.into());
        };
        let digest = r.take(length)?;
        if id == Hash::Sha256.id() && sha_256.replace(digest).is_some() {
            return Err(Unreadable::Wrong {
                what: WHAT,
                detail: "an event has two SHA-256 digests",
            });
        }
    }
    let length = r.u32_le()? as usize;
    r.take(length)?;
    let end = log.len() - r.left().len();
    let data = Data { log: Arc::clone(log), range: end - length..end };
    let digest = match sha_256 {
        Some(digest) => digest.try_into().map_err(|_| Unreadable::Truncated { what: WHAT })?,
        None if is_measured => {
            return Err(Unreadable::Wrong { what: WHAT, detail: "an event has no SHA-256 digest" });
        }
        None => [0; 32],
    };
    // INVARIANT: less than PCRS, if it is measured.
    Ok(Event { pcr: u8::try_from(pcr).unwrap_or(u8::MAX), kind, digest, data })
}

/// Length of a digest of an algorithm that is not among the banks of the log (TCG "Algorithm
/// Registry").
const fn length_of(id: u16) -> Option<usize> {
    match id {
        0x0004 => Some(20),
        // SHA-256, SM3 and SHA3-256; SHA-384 and SHA3-384; SHA-512 and SHA3-512.
        0x000b | 0x0012 | 0x0027 => Some(32),
        0x000c | 0x0028 => Some(48),
        0x000d | 0x0029 => Some(64),
        _ => None,
    }
}
