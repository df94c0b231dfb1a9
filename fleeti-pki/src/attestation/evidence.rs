//! Verifies that a quote is the answer of one TPM to one challenge, and that the logs lead to the
//! PCRs that it quotes.

use super::{Challenge, PCRS};
use crate::measured::log::{FirmwareLog, Pcrs};
use crate::measured::phases::{self, Measurement};
use crate::tpm::Unreadable;
use crate::tpm::attest::{self, Attest, Clock, Statement};
use crate::tpm::public::AttestationKey;
use crate::tpm::signature::NotSigned;

/// What a device sends.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// TPMS_ATTEST.
    pub quote: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
    /// PCR values.
    pub pcrs: &'a Pcrs,
    /// The firmware log.
    pub firmware_log: &'a [u8],
    /// The log of user space.
    pub phases_log: &'a [u8],
}

/// What was accepted from the same TPM before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The clock.
    pub clock: Clock,
    /// The PCRs that are [`STILL`] while a system runs.
    pub pcrs: Pcrs,
}

/// Evidence that one TPM produced for one challenge. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedEvidence {
    clock: Clock,
    pcrs: Pcrs,
    firmware_log: FirmwareLog,
    phases: Vec<Measurement>,
}

impl VerifiedEvidence {
    /// The TPM's clock at the quote.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }
    /// The quoted PCRs.
    #[must_use]
    pub const fn pcrs(&self) -> &Pcrs {
        &self.pcrs
    }
    /// The firmware log that leads to them.
    #[must_use]
    pub const fn firmware_log(&self) -> &FirmwareLog {
        &self.firmware_log
    }
    /// The measurements of user space that lead to them.
    #[must_use]
    pub fn phases(&self) -> &[Measurement] {
        &self.phases
    }
}

/// Why evidence is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The key did not sign the quote.
    #[error("the quote is not signed by this TPM: {0}")]
    Quote(#[from] attest::Refused),
    /// The quote covers other data.
    #[error("the quote is for another challenge, another device or other logs")]
    Challenge,
    /// The quote is about other PCRs.
    #[error("the quote does not select exactly the requested PCRs of the SHA-256 bank")]
    Selection,
    /// The device sent values of other PCRs.
    #[error("the values are not those of the requested PCRs")]
    Values,
    /// The values are not the quoted ones.
    #[error("the PCR values are not those that the TPM quoted")]
    Digest,
    /// The quote was made before a reset or resume that is already known.
    #[error(
        "the quote is older than a restart that is already known: it states {resets} resets and {restarts} resumes"
    )]
    Past {
        /// Resets that the quote states.
        resets: u32,
        /// Resumes that the quote states.
        restarts: u32,
    },
    /// The clock did not advance.
    #[error("the TPM's clock did not advance since the last quote")]
    Clock,
    /// A PCR changed that cannot change without a reset.
    #[error("PCR {0} changed since the last quote without a restart")]
    Moved(u8),
    /// The firmware log cannot be parsed.
    #[error("firmware log: {0}")]
    FirmwareLog(Unreadable),
    /// The log of user space cannot be parsed.
    #[error("user-space log: {0}")]
    PhasesLog(Unreadable),
    /// The logs do not lead to a PCR.
    #[error("the logs do not lead to the value of PCR {0}")]
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
            Self::Values => "pcr-selection",
            Self::Digest => "pcr-digest",
            Self::Past { .. } => "clock-past",
            Self::Clock => "clock-still",
            Self::Moved(_) => "pcr-moved",
            Self::FirmwareLog(_) => "log-unreadable",
            Self::PhasesLog(_) => "phases-unreadable",
            Self::Replay(_) => "log-replay",
        }
    }
}

/// PCRs that only firmware and boot loader extend, so they do not change while a system runs.
pub const STILL: std::ops::RangeInclusive<u8> = 0..=7;

/// Verifies evidence as the answer of the TPM with `key` to `challenge`. `before` is what was
/// accepted from this TPM last. The caller has found the challenge among the pending ones, checked
/// its deadline, and removed it.
///
/// # Errors
/// [`Refused`] for the first check that fails.
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
    if !evidence.pcrs.keys().eq(&PCRS) {
        return Err(Refused::Values);
    }
    let values: Vec<&[u8]> = evidence.pcrs.values().map(|v| &v[..]).collect();
    // The hash is that of the key's scheme, not that of the bank (Part 3, 18.4.1).
    if *digest != key.curve().hash().digest(&values) {
        return Err(Refused::Digest);
    }
    if let Some(before) = before {
        goes_on(&quote.clock, evidence.pcrs, before)?;
    }
    let firmware_log = FirmwareLog::parse(evidence.firmware_log).map_err(Refused::FirmwareLog)?;
    let phases = phases::parse(evidence.phases_log).map_err(Refused::PhasesLog)?;
    let mut replayed = firmware_log.replay_to(evidence.pcrs.get(&0).unwrap_or(&[0; 32]));
    phases::replay(&mut replayed, &phases);
    let differs =
        evidence.pcrs.iter().find(|(pcr, value)| replayed.get(pcr).unwrap_or(&[0; 32]) != *value);
    if let Some((pcr, _)) = differs {
        return Err(Refused::Replay(*pcr));
    }
    Ok(VerifiedEvidence { clock: quote.clock, pcrs: evidence.pcrs.clone(), firmware_log, phases })
}

/// Checks that a quote was made after another one. Ignores `safe`, which is false after every power
/// cut.
fn goes_on(clock: &Clock, pcrs: &Pcrs, before: &Before) -> Result<(), Refused> {
    let (now, then) =
        ((clock.resets, clock.restarts), (before.clock.resets, before.clock.restarts));
    if now < then {
        return Err(Refused::Past { resets: clock.resets, restarts: clock.restarts });
    }
    if now == then && clock.milliseconds <= before.clock.milliseconds {
        return Err(Refused::Clock);
    }
    let moved = |pcr: &u8| pcrs.get(pcr) != before.pcrs.get(pcr);
    // A resume can be a start as well (TPM Restart; Part 1, 12.2.3.2), so the boot is the same only
    // if both numbers are.
    match STILL.into_iter().find(moved) {
        Some(pcr) if now == then => Err(Refused::Moved(pcr)),
        _ => Ok(()),
    }
}
