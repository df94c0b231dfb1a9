//! That a quote is the answer of one TPM to one challenge, and that the logs lead to the registers
//! that it quotes.

use super::{Challenge, REGISTERS};
use crate::measured::log::{FirmwareLog, Registers};
use crate::measured::phases::{self, Measurement};
use crate::tpm::Unreadable;
use crate::tpm::attest::{self, Attest, Clock, Statement};
use crate::tpm::public::AttestationKey;
use crate::tpm::signature::NotSigned;

/// What a device sent.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// TPMS_ATTEST.
    pub quote: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
    /// Values of the registers.
    pub registers: &'a Registers,
    /// Firmware's log.
    pub firmware_log: &'a [u8],
    /// The log of user space.
    pub phases_log: &'a [u8],
}

/// What was accepted of the same TPM before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The clock.
    pub clock: Clock,
    /// The registers that are [`STILL`] where they were.
    pub registers: Registers,
}

/// Evidence that one TPM gave now. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedEvidence {
    clock: Clock,
    registers: Registers,
    firmware_log: FirmwareLog,
    phases: Vec<Measurement>,
}

impl VerifiedEvidence {
    /// When, by the TPM.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }
    /// What was quoted.
    #[must_use]
    pub const fn registers(&self) -> &Registers {
        &self.registers
    }
    /// What leads to it: firmware.
    #[must_use]
    pub const fn firmware_log(&self) -> &FirmwareLog {
        &self.firmware_log
    }
    /// What leads to it: user space.
    #[must_use]
    pub fn phases(&self) -> &[Measurement] {
        &self.phases
    }
}

/// Why evidence is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The quote is not the key's.
    #[error("the quote is not this TPM's: {0}")]
    Quote(#[from] attest::Refused),
    /// It answers something else.
    #[error("the quote answers another challenge, is another device's, or belongs to other logs")]
    Challenge,
    /// It is about other registers.
    #[error("the quote is not about the registers that were asked for, in the SHA-256 bank alone")]
    Selection,
    /// Values of other registers were sent.
    #[error("the values are not those of the registers that were asked for")]
    Values,
    /// The values are not those that were quoted.
    #[error("the values of the registers are not those that the TPM quoted")]
    Digest,
    /// From before a reset or resume that was seen already.
    #[error(
        "the quote is from before a restart that was seen already: {resets} resets and {restarts} resumes"
    )]
    Past {
        /// Resets it tells of.
        resets: u32,
        /// Resumes it tells of.
        restarts: u32,
    },
    /// The clock did not go on.
    #[error("the TPM's clock did not go on since the last quote")]
    Clock,
    /// A register went where it cannot go without a reset.
    #[error("register {0} changed since the last quote without a restart")]
    Moved(u8),
    /// Firmware's log cannot be read.
    #[error("firmware's log: {0}")]
    FirmwareLog(Unreadable),
    /// The log of user space cannot be read.
    #[error("the log of user space: {0}")]
    PhasesLog(Unreadable),
    /// The logs do not lead to a register.
    #[error("the logs do not lead to what register {0} holds")]
    Replay(u8),
}

impl Refused {
    /// A stable name of the check that failed.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Quote(attest::Refused::Magic) => "quote-magic",
            Self::Quote(attest::Refused::Kind(_)) => "quote-kind",
            Self::Quote(attest::Refused::Signature(NotSigned::Hash)) => "quote-signature-hash",
            Self::Quote(attest::Refused::Signature(NotSigned::Wrong)) => "quote-signature",
            Self::Quote(attest::Refused::Unreadable(_)) => "quote-unreadable",
            Self::Challenge => "quote-challenge",
            Self::Selection => "quote-selection",
            Self::Values => "registers-selection",
            Self::Digest => "registers-digest",
            Self::Past { .. } => "clock-past",
            Self::Clock => "clock-still",
            Self::Moved(_) => "registers-moved",
            Self::FirmwareLog(_) => "log-unreadable",
            Self::PhasesLog(_) => "phases-unreadable",
            Self::Replay(_) => "log-replay",
        }
    }
}

/// Registers that only firmware and boot loader extend, so that they stand still while a system
/// runs.
pub const STILL: std::ops::RangeInclusive<u8> = 0..=7;

/// Takes evidence as the answer of the TPM with `key` to `challenge`, given what was accepted
/// `before`. Whoever calls this has found the challenge among those that were asked, in time, and
/// taken it from them.
///
/// # Errors
/// [`Refused`], by the first check that does not hold.
pub fn verify(
    evidence: &Evidence<'_>,
    challenge: &Challenge,
    key: &AttestationKey,
    before: Option<&Before>,
) -> Result<VerifiedEvidence, Refused> {
    let quote = Attest::quote(evidence.quote, evidence.signature, key)?;
    if quote.extra_data != challenge.qualifying_data(evidence.firmware_log, evidence.phases_log) {
        return Err(Refused::Challenge);
    }
    let Statement::Quote { selections, digest } = &quote.statement else {
        return Err(Refused::Selection);
    };
    if *selections != [Challenge::selection()] {
        return Err(Refused::Selection);
    }
    if !evidence.registers.keys().eq(&REGISTERS) {
        return Err(Refused::Values);
    }
    let values: Vec<&[u8]> = evidence.registers.values().map(|v| &v[..]).collect();
    // By the hash of the key's scheme, not that of the bank (Part 3, 18.4.1).
    if *digest != key.curve().hash().digest(&values) {
        return Err(Refused::Digest);
    }
    if let Some(before) = before {
        goes_on(&quote.clock, evidence.registers, before)?;
    }
    let firmware_log = FirmwareLog::parse(evidence.firmware_log).map_err(Refused::FirmwareLog)?;
    let phases = phases::parse(evidence.phases_log).map_err(Refused::PhasesLog)?;
    let mut replayed = firmware_log.replay_to(evidence.registers.get(&0).unwrap_or(&[0; 32]));
    phases::replay(&mut replayed, &phases);
    let differs = evidence
        .registers
        .iter()
        .find(|(register, value)| replayed.get(register).unwrap_or(&[0; 32]) != *value);
    if let Some((register, _)) = differs {
        return Err(Refused::Replay(*register));
    }
    Ok(VerifiedEvidence {
        clock: quote.clock,
        registers: evidence.registers.clone(),
        firmware_log,
        phases,
    })
}

/// That a quote was made after another one. `safe` says nothing here: it is false after every power
/// cut.
fn goes_on(clock: &Clock, registers: &Registers, before: &Before) -> Result<(), Refused> {
    let (now, then) =
        ((clock.resets, clock.restarts), (before.clock.resets, before.clock.restarts));
    if now < then {
        return Err(Refused::Past { resets: clock.resets, restarts: clock.restarts });
    }
    if now == then && clock.milliseconds <= before.clock.milliseconds {
        return Err(Refused::Clock);
    }
    let moved = |register: &u8| registers.get(register) != before.registers.get(register);
    // A resume may be a start too (TPM Restart; Part 1, 12.2.3.2), so it is the same one only where
    // both numbers are the same.
    match STILL.into_iter().find(moved) {
        Some(register) if now == then => Err(Refused::Moved(register)),
        _ => Ok(()),
    }
}
