//! Interprets the firmware log, where its events are what their digests say: the Secure Boot policy
//! in force, the keys that verified what was started, and the EFI binaries that were started (TCG
//! "PC Client Platform Firmware Profile", 1.06, 3.3.4).
//!
//! An event's type is not measured, so a log with other types replays as well. Therefore the PCRs
//! that decide are read strictly: every event there is of a kind that belongs there, in its order,
//! and contains the bytes that its digest covers. Anything else is a [`Finding`] and is never
//! skipped. An event that this server does not know allows fewer claims. An event that shows other
//! bytes than were measured is a contradiction.

pub use super::finding::{BINARIES_PCR, Finding, POLICY_PCR};

use super::device_path;
use super::log::{Event, EventKind, FirmwareLog, sha_256};
use crate::tpm::{Reader, Unreadable};
use crate::uefi::{GLOBAL, Guid, SECURITY_DATABASE as SECURITY};
use std::collections::BTreeMap;

/// The variables of the Secure Boot policy, in the order in which they are measured.
const POLICY: [(&str, Guid); 5] =
    [("SecureBoot", GLOBAL), ("PK", GLOBAL), ("KEK", GLOBAL), ("db", SECURITY), ("dbx", SECURITY)];
/// PCRs of the firmware, each with one separator.
const SEPARATED: std::ops::RangeInclusive<u8> = 0..=7;
/// Variables that some firmware measures in addition, if it has them.
const POLICY_MORE: [(&str, Guid); 2] = [("dbt", SECURITY), ("dbr", SECURITY)];
/// Modes of Secure Boot (UEFI, 32.3) that firmware may measure, and what it means that one is on.
const MODES: [(&str, Option<&str>); 3] = [
    ("SetupMode", Some("it is in setup mode, in which anyone can change its keys")),
    (
        "AuditMode",
        Some("it is in audit mode, in which it starts EFI binaries that no key verifies"),
    ),
    ("DeployedMode", None),
];
/// Maximum number of findings of one log.
const FINDINGS_MAX: usize = 16;
/// Separators that say that nothing failed (10.4.1).
const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
/// The actions that firmware may report in the PCR of EFI binaries. No other event is skipped: an
/// event may show what its digest covers, and is no action because of that.
const ACTIONS: [&[u8]; 2] = [
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
];
const OMITTED: &[u8] = b"BOOT ATTEMPTS OMITTED";
/// What a log means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeasuredBoot {
    /// Whether firmware refused EFI binaries that no key verifies.
    pub secure_boot: bool,
    variables: BTreeMap<&'static str, Vec<u8>>,
    /// What verified the started EFI binaries: EFI_SIGNATURE_DATA without its owner, so a
    /// certificate (DER).
    pub authorities: Vec<Vec<u8>>,
    /// What firmware itself started or measured before it selected a boot option.
    pub firmware_binaries: Vec<FirmwareBinary>,
    /// Authenticode digests (SHA-256) of the EFI binaries that were started after that, in order.
    pub binaries: Vec<[u8; 32]>,
}

/// An EFI binary that firmware itself starts, or something else that it measures there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareBinary {
    /// What was measured: for an EFI binary its Authenticode digest.
    pub digest: [u8; 32],
    /// Its path, as the log states it (not measured).
    pub path: String,
}

/// UEFI_VARIABLE_DATA (10.2.6).
struct Variable<'a> {
    vendor: Guid,
    name: String,
    value: &'a [u8],
}

impl<'a> Variable<'a> {
    fn read(data: &'a [u8]) -> Result<Self, Unreadable> {
        const WHAT: &str = "UEFI_VARIABLE_DATA";
        const NAME_MAX: u64 = 64;
        let mut r = Reader::new(WHAT, data);
        let vendor = Guid(r.array()?);
        let (name, value) = (r.u64_le()?, r.u64_le()?);
        if name > NAME_MAX {
            return Err(Unreadable::TooLong {
                what: WHAT,
                length: data.len(),
                max: NAME_MAX as usize,
            });
        }
        let units = (0..name).map(|_| r.u16_le()).collect::<Result<Vec<_>, _>>()?;
        let name = String::from_utf16(&units).map_err(|_| Unreadable::Wrong {
            what: WHAT,
            detail: "its name is not valid UTF-16",
        })?;
        let value =
            r.take(usize::try_from(value).map_err(|_| Unreadable::Truncated { what: WHAT })?)?;
        r.end()?;
        Ok(Self { vendor, name, value })
    }
}

fn is_of_its_data(event: &Event) -> bool {
    event.digest == sha_256(&[&event.data])
}

impl MeasuredBoot {
    /// Interprets a log that has no findings.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn of(log: &FirmwareLog) -> Result<Self, Finding> {
        let (boot, findings) = Self::read(log);
        findings.into_iter().next().map_or(Ok(boot), Err)
    }

    /// Interprets a log, and returns its findings.
    #[must_use]
    pub fn read(log: &FirmwareLog) -> (Self, Vec<Finding>) {
        let mut boot = Self::default();
        let mut findings: Vec<Finding> =
            SEPARATED.filter_map(|pcr| separator(log, pcr).err()).collect();
        boot.read_policy(log, &mut findings);
        boot.read_binaries(log, &mut findings);
        findings.truncate(FINDINGS_MAX);
        (boot, findings)
    }

    /// What a variable of the policy contained at boot: EFI_SIGNATURE_LISTs.
    #[must_use]
    pub fn variable(&self, name: &str) -> &[u8] {
        self.variables.get(name).map_or(&[], Vec::as_slice)
    }

    fn read_policy(&mut self, log: &FirmwareLog, findings: &mut Vec<Finding>) {
        let mut is_started = false;
        for (at, event) in log.of(POLICY_PCR).enumerate() {
            is_started |= event.kind == EventKind::Separator;
            if let Err(finding) = self.policy_event(at, event, is_started) {
                findings.push(finding);
            }
        }
        let missing: Vec<_> = POLICY
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !self.variables.contains_key(name))
            .collect();
        if !missing.is_empty() {
            findings.push(Finding::NotMeasured(missing));
        }
        match self.variable("SecureBoot") {
            [1] => self.secure_boot = true,
            [0] | [] => {}
            _ => findings.push(Finding::Policy(0)),
        }
    }

    fn policy_event(&mut self, at: usize, event: &Event, is_started: bool) -> Result<(), Finding> {
        let is_known = matches!(
            event.kind,
            EventKind::VariableDriverConfig
                | EventKind::VariableAuthority
                | EventKind::Separator
                | EventKind::Action
        );
        if !is_of_its_data(event) {
            return Err(if is_known {
                Finding::Digest(POLICY_PCR, at)
            } else {
                Finding::Unknown(POLICY_PCR, at)
            });
        }
        match event.kind {
            EventKind::VariableDriverConfig => {
                self.policy_variable(at, &Variable::read(&event.data)?, is_started)
            }
            // Also before the separator: for option ROMs, and for what firmware itself starts.
            EventKind::VariableAuthority => {
                let variable = Variable::read(&event.data)?;
                let certificate = variable
                    .value
                    .get(16..)
                    .filter(|_| variable.vendor == SECURITY && variable.name == "db");
                self.authorities
                    .push(certificate.ok_or(Finding::Authority(at, variable.name))?.to_vec());
                Ok(())
            }
            EventKind::Separator | EventKind::DevicePolicy => Ok(()),
            EventKind::Action => Err(action(event, at)),
            // An event of another type that contains a variable that decides.
            _ if is_of_policy(&event.data) => Err(Finding::Kind(POLICY_PCR, at)),
            _ => Err(Finding::Unknown(POLICY_PCR, at)),
        }
    }

    fn policy_variable(
        &mut self,
        at: usize,
        variable: &Variable<'_>,
        is_started: bool,
    ) -> Result<(), Finding> {
        let is_this =
            |(name, vendor): &(&str, Guid)| *name == variable.name && *vendor == variable.vendor;
        let mode =
            MODES.iter().find(|(name, _)| *name == variable.name && variable.vendor == GLOBAL);
        if let Some((_, meaning)) = mode {
            let weakened = meaning.filter(|_| variable.value != [0]);
            return weakened.map_or(Ok(()), |meaning| Err(Finding::Weakened(meaning)));
        }
        let Some((name, _)) = POLICY.iter().chain(&POLICY_MORE).find(|v| is_this(v)) else {
            return Err(Finding::Variable(at, variable.name.clone()));
        };
        if is_started {
            return Err(Finding::Policy(at));
        }
        match self.variables.get(name) {
            Some(value) if value == variable.value => return Err(Finding::Repeated(at)),
            Some(_) => return Err(Finding::Policy(at)),
            None => self.variables.insert(name, variable.value.to_vec()),
        };
        let place = |name: &str| POLICY.iter().position(|(other, _)| *other == name);
        let is_late = place(name).is_some_and(|own| {
            self.variables.keys().filter_map(|other| place(other)).any(|other| other > own)
        });
        if is_late { Err(Finding::Order(at)) } else { Ok(()) }
    }

    fn read_binaries(&mut self, log: &FirmwareLog, findings: &mut Vec<Finding>) {
        let is_separator = |e: &Event| e.kind == EventKind::Separator;
        let separated = log.of(BINARIES_PCR).position(is_separator);
        for (at, event) in log.of(BINARIES_PCR).enumerate() {
            let is_firmwares = separated.is_some_and(|separator| at < separator);
            match event.kind {
                // Their data states where an EFI binary was, and is not part of what was measured.
                EventKind::Application | EventKind::Driver if !is_firmwares => {
                    self.binaries.push(event.digest)
                }
                EventKind::Action | EventKind::Separator | EventKind::OmitBootDevice
                    if !is_of_its_data(event) =>
                {
                    findings.push(Finding::Digest(BINARIES_PCR, at));
                }
                EventKind::Separator => {}
                EventKind::Action if ACTIONS.contains(&&*event.data) => {}
                EventKind::OmitBootDevice if *event.data == *OMITTED => {}
                _ if is_firmwares => self
                    .firmware_binaries
                    .push(FirmwareBinary { digest: event.digest, path: path(event) }),
                _ if device_path::of_image(&event.data).is_some() => {
                    findings.push(Finding::Kind(BINARIES_PCR, at))
                }
                _ => findings.push(Finding::Unknown(BINARIES_PCR, at)),
            }
        }
    }
}

/// The path of an EFI binary of the firmware, or what the event says of itself.
fn path(event: &Event) -> String {
    let path = device_path::of_image(&event.data)
        .map(device_path::in_words)
        .filter(|words| !words.is_empty());
    path.unwrap_or_else(|| device_path::shown(&event.data))
}

fn is_of_policy(data: &[u8]) -> bool {
    let of = |variable: Variable<'_>| {
        let is_this =
            |(name, vendor): &&(&str, Guid)| *name == variable.name && *vendor == variable.vendor;
        POLICY.iter().chain(&POLICY_MORE).any(|v| is_this(&v))
            || MODES.iter().any(|(name, _)| *name == variable.name)
    };
    Variable::read(data).is_ok_and(of)
}

/// Checks that a PCR has one separator, which says that nothing failed.
fn separator(log: &FirmwareLog, pcr: u8) -> Result<(), Finding> {
    let is_called_otherwise = |e: &Event| {
        e.kind != EventKind::Separator && SEPARATORS.iter().any(|s| e.digest == sha_256(&[s]))
    };
    let mut found = log.of(pcr).filter(|e| e.kind == EventKind::Separator);
    let (first, second) = (found.next(), found.next());
    match first {
        None if log.of(pcr).any(is_called_otherwise) => Err(Finding::Separator(pcr)),
        None => Err(Finding::NoSeparator(pcr)),
        Some(event) if !is_of_its_data(event) => Err(Finding::Separator(pcr)),
        Some(_) if second.is_some() => Err(Finding::Separators(pcr)),
        Some(event) if SEPARATORS.iter().any(|s| *event.data == s[..]) => Ok(()),
        Some(_) => Err(Finding::Failed(pcr)),
    }
}

fn action(event: &Event, at: usize) -> Finding {
    // Texts of 10.4.4, table 17.
    match &*event.data {
        b"UEFI Debug Mode" => Finding::Weakened("a debugger may be attached"),
        b"DMA Protection Disabled" => Finding::Weakened("devices may write all memory during boot"),
        _ => Finding::Unknown(POLICY_PCR, at),
    }
}
