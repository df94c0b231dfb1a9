//! The attestation card on the page of a device.

use crate::pages::display::{Badge, instant};
use fleeti_core::attestation::{Claim, Level, Tier};
use fleeti_core::wire::attestation::{Attestation, MeasuredPcr};

/// The display text of one claim.
pub struct ClaimRow {
    pub tier: Badge,
    pub finding: String,
    pub source: String,
    pub raise: Option<String>,
}

/// What the card shows.
pub struct AttestationCard {
    pub level: Badge,
    pub note: String,
    pub tpm: Option<String>,
    pub claims: Vec<ClaimRow>,
    pub pcrs: Vec<MeasuredPcr>,
    pub has_evidence: bool,
    pub may_request: bool,
    pub may_accept: bool,
}

/// What each source of evidence proves on x86, and what it does not.
/// More in docs/reference/attestation-levels.md.
pub const LIMITS: &[(&str, &str)] = &[
    (
        "TPM quote",
        "Proves which EFI binaries the firmware started, and in which order, at the last boot. Does not prove what happened since: a system that an attacker took over while it runs still shows how it booted.",
    ),
    (
        "Endorsement certificate",
        "Proves that a TPM manufacturer made this chip. Does not prove that the bus between chip and processor is free of an attacker: with physical access an attacker can replay a boot to a discrete TPM. A software TPM is as trustworthy as its host.",
    ),
    (
        "Firmware, PCR 0 and PCR 2",
        "Proves that the firmware measured itself as before. Compromised firmware can measure anything; management engines and cards with memory access measure nothing.",
    ),
    (
        "Secure Boot, PCR 7",
        "Proves that only EFI binaries signed by this device's own keys could start, as long as the firmware works correctly.",
    ),
    (
        "Root hash",
        "Proves that every block read from the root file system belongs to the release. Does not cover the data partition, or what programs do with it.",
    ),
    (
        "The device's own report",
        "Proves nothing. The page shows it beside the evidence. It decides nothing for which the fleet's policy requires proof.",
    ),
];

impl AttestationCard {
    pub fn of(found: Attestation, online: bool) -> Self {
        let note = match (&found.result, &found.tpm) {
            (None, None) => "The device has not shown a TPM.".to_owned(),
            (None, Some(_)) => "The device has not sent evidence yet.".into(),
            (Some(result), _) => {
                let release = result
                    .release
                    .as_ref()
                    .map_or_else(|| "unknown release".to_owned(), ToString::to_string);
                let silence = if found.is_fresh { "" } else { "; no evidence since" };
                format!("Measured: {release}, {}{silence}.", instant(result.appraised_s))
            }
        };
        let tpm = found.tpm.as_ref().map(|t| {
            format!(
                "{}, {}",
                t.manufacturer.as_deref().unwrap_or("manufacturer not verified"),
                t.description
            )
        });
        let has_evidence = found.result.is_some();
        let accepted = |c: &Claim| c.code == "firmware-accepted";
        let claims = found.result.map(|r| r.claims).unwrap_or_default();
        Self {
            level: level(found.level),
            note,
            has_evidence,
            may_request: online && found.tpm.is_some(),
            may_accept: found.is_fresh
                && found.level >= Level::UnverifiedTpm
                && !claims.iter().any(accepted),
            tpm,
            claims: claims.into_iter().map(ClaimRow::from).collect(),
            pcrs: found.pcrs,
        }
    }
}

impl From<Claim> for ClaimRow {
    fn from(claim: Claim) -> Self {
        let tier = match claim.tier {
            Tier::Affirming => Badge::new("good", "affirming"),
            Tier::Warning => Badge::new("warn", "warning"),
            Tier::Contraindicated => Badge::new("bad", "contraindicated"),
            Tier::None => Badge::new("", "none"),
        };
        Self { tier, finding: claim.finding, source: claim.source, raise: claim.raise }
    }
}

fn level(level: Level) -> Badge {
    let tone = match level {
        Level::SelfReported => "bad",
        Level::Token | Level::UnverifiedTpm | Level::ObservedBoot => "warn",
        Level::VerifiedBoot | Level::VerifiedFirmware => "good",
    };
    Badge::new(tone, format!("{} {}", level.code(), level.title()))
}
