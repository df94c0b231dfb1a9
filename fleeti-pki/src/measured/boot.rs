//! What firmware's log means, where its events are what their digests say: the Secure Boot policy that was in force, who
//! vouched for what was started, and which programs were (TCG "PC Client Platform Firmware Profile", 1.06, 3.3.4).
//!
//! An event's type is nobody's word: it is not what is measured, so a log with other types replays as well. Therefore the
//! registers that decide are read strictly: every event there is of a kind that belongs there, in its order, and of the
//! bytes that its digest says. What does not fit is an error, and never skipped.

use super::log::{Event, EventKind, FirmwareLog, sha_256};
use crate::tpm::{Reader, Unreadable};
use crate::uefi::{GLOBAL, Guid, SECURITY_DATABASE as SECURITY};
use std::collections::BTreeMap;

/// Which variables make the policy, in the order in which they are measured.
const POLICY: [(&str, Guid); 5] = [("SecureBoot", GLOBAL), ("PK", GLOBAL), ("KEK", GLOBAL), ("db", SECURITY), ("dbx", SECURITY)];
/// Firmware's registers, each with one separator.
const SEPARATED: std::ops::RangeInclusive<u8> = 0..=7;
/// Variables that some firmware measures behind them, where it has them.
const POLICY_MORE: [(&str, Guid); 2] = [("dbt", SECURITY), ("dbr", SECURITY)];
/// Separators that say that nothing failed (10.4.1).
const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
/// All that firmware says of itself in the register of programs. Nothing else is skipped: what a digest is of may be
/// shown, and is no action for that.
const ACTIONS: [&[u8]; 2] = [b"Calling EFI Application from Boot Option", b"Returning from EFI Application from Boot Option"];
const OMITTED: &[u8] = b"BOOT ATTEMPTS OMITTED";
/// The register of the Secure Boot policy.
pub const POLICY_REGISTER: u8 = 7;
/// The register of the programs that were started.
pub const PROGRAMS_REGISTER: u8 = 4;

/// What a log means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredBoot {
    /// Whether firmware refused what nobody vouched for.
    pub secure_boot: bool,
    variables: BTreeMap<&'static str, Vec<u8>>,
    /// What vouched for what was started: EFI_SIGNATURE_DATA without its owner, so a certificate (DER).
    pub authorities: Vec<Vec<u8>>,
    /// Authenticode digests (SHA-256) of the programs that were started, in their order.
    pub programs: Vec<[u8; 32]>,
}

/// Why a log has no meaning that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Meaningless {
    /// A register has no separator, two, or one that says that something failed.
    #[error("register {0} has no one separator that says that all went well")]
    Separator(u8),
    /// An event's digest is of other bytes than the event shows.
    #[error("event {1} of register {0} shows other bytes than were measured")]
    Digest(u8, usize),
    /// An event of a kind that has no place there.
    #[error("event {1} of register {0} is of a kind that has no place there")]
    Kind(u8, usize),
    /// The variables of the policy are not each there once, in their order, before anything was started.
    #[error("the Secure Boot variables are not each measured once, in their order (at event {0})")]
    Policy(usize),
    /// Firmware says that something holds that takes away what Secure Boot promises.
    #[error("firmware says: {0}")]
    Weakened(&'static str),
    /// An event cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Meaningless {
    /// A stable name of the check that failed.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Separator(_) => "log-separator",
            Self::Digest(..) => "log-digest",
            Self::Kind(..) => "log-kind",
            Self::Policy(_) => "log-policy",
            Self::Weakened(_) => "log-weakened",
            Self::Unreadable(_) => "log-event",
        }
    }
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
            return Err(Unreadable::TooLong { what: WHAT, length: data.len(), max: NAME_MAX as usize });
        }
        let units = (0..name).map(|_| r.u16_le()).collect::<Result<Vec<_>, _>>()?;
        let name = String::from_utf16(&units).map_err(|_| Unreadable::Wrong { what: WHAT, detail: "its name is no text" })?;
        let value = r.take(usize::try_from(value).map_err(|_| Unreadable::Truncated { what: WHAT })?)?;
        r.end()?;
        Ok(Self { vendor, name, value })
    }
}

fn is_of_its_data(event: &Event) -> bool {
    event.digest == sha_256(&[&event.data])
}

impl MeasuredBoot {
    /// Reads what a log means.
    ///
    /// # Errors
    /// [`Meaningless`].
    pub fn of(log: &FirmwareLog) -> Result<Self, Meaningless> {
        for register in SEPARATED {
            separator(log, register)?;
        }
        let mut boot = Self { secure_boot: false, variables: BTreeMap::new(), authorities: Vec::new(), programs: Vec::new() };
        boot.read_policy(log)?;
        boot.read_programs(log)?;
        Ok(boot)
    }

    /// What a variable of the policy held when the system started; EFI_SIGNATURE_LISTs.
    #[must_use]
    pub fn variable(&self, name: &str) -> &[u8] {
        self.variables.get(name).map_or(&[], Vec::as_slice)
    }

    fn read_policy(&mut self, log: &FirmwareLog) -> Result<(), Meaningless> {
        let (mut wanted, mut more) = (POLICY.iter(), POLICY_MORE.iter());
        let mut is_started = false;
        for (at, event) in log.of(POLICY_REGISTER).enumerate() {
            if !is_of_its_data(event) {
                return Err(Meaningless::Digest(POLICY_REGISTER, at));
            }
            match event.kind {
                EventKind::VariableDriverConfig if !is_started => {
                    let variable = Variable::read(&event.data)?;
                    let Some((name, vendor)) = wanted.next().or_else(|| more.find(|(name, _)| *name == variable.name)) else {
                        return Err(Meaningless::Policy(at));
                    };
                    if variable.name != *name || variable.vendor != *vendor {
                        return Err(Meaningless::Policy(at));
                    }
                    self.variables.insert(name, variable.value.to_vec());
                }
                EventKind::VariableDriverConfig => return Err(Meaningless::Policy(at)),
                EventKind::Separator => is_started = true,
                EventKind::VariableAuthority if is_started => {
                    let variable = Variable::read(&event.data)?;
                    let certificate = variable.value.get(16..).filter(|_| variable.vendor == SECURITY && variable.name == "db");
                    self.authorities.push(certificate.ok_or(Meaningless::Policy(at))?.to_vec());
                }
                EventKind::Action => return Err(weakened(event, at)),
                _ => return Err(Meaningless::Kind(POLICY_REGISTER, at)),
            }
        }
        if wanted.next().is_some() {
            return Err(Meaningless::Policy(log.of(POLICY_REGISTER).count()));
        }
        self.secure_boot = match self.variable("SecureBoot") {
            [1] => true,
            [0] | [] => false,
            _ => return Err(Meaningless::Policy(0)),
        };
        Ok(())
    }

    fn read_programs(&mut self, log: &FirmwareLog) -> Result<(), Meaningless> {
        for (at, event) in log.of(PROGRAMS_REGISTER).enumerate() {
            match event.kind {
                // Of the program: its data says where it lay, and is no part of what was measured.
                EventKind::Application => self.programs.push(event.digest),
                EventKind::Action | EventKind::Separator | EventKind::OmitBootDevice if !is_of_its_data(event) => {
                    return Err(Meaningless::Digest(PROGRAMS_REGISTER, at));
                }
                EventKind::Separator => {}
                EventKind::Action if ACTIONS.contains(&event.data.as_slice()) => {}
                EventKind::OmitBootDevice if event.data == OMITTED => {}
                _ => return Err(Meaningless::Kind(PROGRAMS_REGISTER, at)),
            }
        }
        Ok(())
    }
}

fn separator(log: &FirmwareLog, register: u8) -> Result<(), Meaningless> {
    let mut found = log.of(register).filter(|e| e.kind == EventKind::Separator);
    let is_right = found.next().is_some_and(|e| SEPARATORS.iter().any(|s| e.data == s) && is_of_its_data(e)) && found.next().is_none();
    if is_right { Ok(()) } else { Err(Meaningless::Separator(register)) }
}

fn weakened(event: &Event, at: usize) -> Meaningless {
    // Texts of 10.4.4, table 17.
    match event.data.as_slice() {
        b"UEFI Debug Mode" => Meaningless::Weakened("a debugger may be attached"),
        b"DMA Protection Disabled" => Meaningless::Weakened("devices may write all memory while it starts"),
        _ => Meaningless::Kind(POLICY_REGISTER, at),
    }
}
