//! Claims about the firmware: its code and its Secure Boot variables.

use super::{About, FirmwareCode, Known, SECURE_BOOT_OFF, binaries_in_words, digests};
use crate::attestation::evidence::VerifiedEvidence;
use crate::measured::boot::MeasuredBoot;
use crate::tpm::endorsement::Kind;
use crate::uefi::{self, SignatureList};
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Claim, Tier};
use fleeti_core::canonical::sha256_hex;
use std::collections::HashSet;

/// A discrete TPM can be reset without its processor and then extended with any values, so its PCRs
/// of the firmware prove nothing against an attacker who opens the machine.
pub(super) fn firmware_code(
    evidence: &VerifiedEvidence,
    boot: &MeasuredBoot,
    known: &Known,
) -> Claim {
    let mut claim = firmware_pcrs(evidence, boot, known);
    if !boot.firmware_binaries.is_empty() {
        claim.finding = format!(
            "{}; firmware itself started or measured: {}",
            claim.finding,
            binaries_in_words(&boot.firmware_binaries)
        );
    }
    if known.manufacturer != Some(Kind::Hardware) || claim.tier != Tier::Affirming {
        return claim;
    }
    let finding = format!(
        "{}; the TPM is a discrete chip, which an attacker with physical access can reset and extend with these values",
        claim.finding
    );
    Claim {
        tier: Tier::Warning,
        code: "firmware-chip".into(),
        finding,
        raise: Some("a TPM in the processor".into()),
        ..claim
    }
}

fn firmware_pcrs(evidence: &VerifiedEvidence, boot: &MeasuredBoot, known: &Known) -> Claim {
    const ABOUT: About = About {
        aspect: Aspect::Firmware,
        source: "TPM quote, PCR 0, PCR 2 and the start of PCR 4",
    };
    const ACCEPT: Option<&str> = Some("acceptance of this firmware by an operator");
    let of = |tier, code, finding: &str, raise| ABOUT.claim(tier, code, finding, raise);
    let found = FirmwareCode {
        binaries: digests(&boot.firmware_binaries),
        ..FirmwareCode::seen(evidence.pcrs())
    };
    if let Firmware::Known { pcrs, .. } = &known.firmware {
        let is_accepted = |code: &FirmwareCode| code.is_accepted && code.binaries == found.binaries;
        let hex = found.pcrs.map(const_hex::encode);
        return match pcrs.contains(&hex) {
            true if !are_named(&found.binaries, known)
                && !known.firmware_code.as_ref().is_some_and(is_accepted) =>
            {
                of(
                    Tier::Warning,
                    "firmware-binaries",
                    "the fleet's appraisal policy lists PCR 0 and 2, but not the EFI binaries that the firmware itself starts, and no operator accepted them",
                    Some(
                        "their digests in the appraisal policy, or acceptance of this firmware by an operator",
                    ),
                )
            }
            true => of(
                Tier::Affirming,
                "firmware-known",
                "the fleet's appraisal policy lists the firmware (PCR 0 and 2)",
                None,
            ),
            false => of(
                Tier::Warning,
                "firmware-unknown",
                "the fleet's appraisal policy does not list the firmware (PCR 0 and 2)",
                Some(
                    "these values of PCR 0 and 2 in the appraisal policy, if the firmware is genuine",
                ),
            ),
        };
    }
    match &known.firmware_code {
        Some(code) if code.pcrs != found.pcrs || code.binaries != found.binaries => of(
            Tier::Warning,
            "firmware-changed",
            "the firmware differs from the one seen before: it was updated or replaced",
            ACCEPT,
        ),
        Some(code) if code.is_accepted => {
            of(Tier::Affirming, "firmware-accepted", "an operator accepted this firmware", None)
        }
        Some(_) => of(
            Tier::None,
            "firmware-pinned",
            "the firmware is the one seen first; no operator accepted it",
            ACCEPT,
        ),
        None => of(Tier::None, "firmware-new", "the firmware is seen for the first time", ACCEPT),
    }
}

/// Whether the fleet's appraisal policy lists each of these EFI binaries of the firmware.
pub(super) fn are_named(binaries: &[[u8; 32]], known: &Known) -> bool {
    match &known.firmware {
        Firmware::Known { binaries: named, .. } => {
            binaries.iter().all(|binary| named.contains(&const_hex::encode(binary)))
        }
        Firmware::Pinned => binaries.is_empty(),
    }
}

pub(super) fn configuration(boot: &MeasuredBoot, known: &Known) -> Claim {
    const ABOUT: About = About {
        aspect: Aspect::Configuration,
        source: "TPM quote, PCR 7, and the variables in the firmware log",
    };
    let of = |tier, code, finding: &str, raise| ABOUT.claim(tier, code, finding, raise);
    let Some(expected) = &known.firmware_keys else {
        let raise = Some("Secure Boot keys of its own (fleeti device provision)");
        return of(Tier::None, "keys-none", "no Secure Boot keys were made for this device", raise);
    };
    if !boot.secure_boot {
        return of(Tier::Contraindicated, SECURE_BOOT_OFF, "Secure Boot was off at boot", None);
    }
    let (Some(pk), Some(kek), Some(db)) =
        (certificates(boot, "PK"), certificates(boot, "KEK"), certificates(boot, "db"))
    else {
        return of(
            Tier::Contraindicated,
            "keys-unusual",
            "PK, KEK or db contain something other than certificates",
            None,
        );
    };
    if !pk.iter().eq(&expected.pk) || kek != expected.kek {
        return of(
            Tier::Contraindicated,
            "keys-foreign",
            "PK or KEK are not the keys made for this device",
            None,
        );
    }
    // The log shows db as it was at boot: a later change of keys shows after the next boot.
    if db != expected.db {
        let finding = "db at boot is not the expected one";
        return of(
            Tier::Warning,
            "db-other",
            finding,
            Some("a reboot after the pending change of keys"),
        );
    }
    // Real firmware has several hundred.
    let found = uefi::digests(boot.variable("dbx")).unwrap_or_default();
    let found: HashSet<String> = found.iter().map(const_hex::encode).collect();
    if !expected.dbx.iter().all(|d| found.contains(d)) {
        return of(
            Tier::Warning,
            "dbx-old",
            "dbx at boot lacks digests that it should forbid",
            Some("the pending change of keys, and a reboot"),
        );
    }
    let authorities: Vec<String> = boot.authorities.iter().map(|der| sha256_hex(der)).collect();
    if authorities.is_empty() || !authorities.iter().all(|v| expected.db.contains(v)) {
        return of(
            Tier::Contraindicated,
            "authority-foreign",
            "an EFI binary was started that no db key of this device verifies",
            None,
        );
    }
    of(
        Tier::Affirming,
        "keys-own",
        "Secure Boot was on, with only the keys made for this device",
        None,
    )
}

/// Digests of the certificates in a variable; `None` if it contains anything else.
fn certificates(boot: &MeasuredBoot, name: &str) -> Option<Vec<String>> {
    let lists = uefi::parse(boot.variable(name)).ok()?;
    let digest = |list: &SignatureList| match list {
        SignatureList::Certificate(der) => Some(sha256_hex(der)),
        SignatureList::Digests(_) | SignatureList::Other(_) => None,
    };
    lists.iter().map(digest).collect()
}
