//! Appraises verified evidence (RFC 9334): claims, each with its source and what would raise it,
//! and the level that they allow.

mod executables;
mod firmware;

use super::evidence::VerifiedEvidence;
use crate::measured::boot::{Finding, FirmwareBinary, MeasuredBoot};
use crate::measured::log::Pcrs;
use crate::tpm::endorsement::Kind;
use executables::{executables, file_system};
use firmware::{configuration, firmware_code};
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Claim, Level, RELEASE_NOT_GIVEN, Tier, level};
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::boot::FirmwareKeys;

/// What a release measures when it boots (RFC 9334: Reference Values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The release.
    pub release: ReleaseName,
    /// Authenticode digest of its UKI.
    pub kernel_image: [u8; 32],
    /// PCR 9 (command line and initrd); `None` if not known.
    pub pcr_9: Option<[u8; 32]>,
    /// PCR 11 after the last boot phase.
    pub pcr_11: [u8; 32],
    /// Whether the release is revoked.
    pub is_revoked: bool,
}

/// What the verifier knows about a device from sources other than the device.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What kind of TPM its manufacturer makes; `None` if no trusted manufacturer endorses it.
    pub manufacturer: Option<Kind>,
    /// Whether a TPM in software counts as much as one in hardware, which means to trust its host.
    pub trusts_hypervisor: bool,
    /// Expected contents of its Secure Boot variables; `None` if no keys were made for it.
    pub firmware_keys: Option<FirmwareKeys>,
    /// Reference values of the releases that it may run.
    pub references: Vec<Reference>,
    /// The release that the device reports and that is none of these, with the boot loader of that
    /// release.
    pub not_given: Option<(Reference, Option<[u8; 32]>)>,
    /// The release that it should run; `None` if no change is requested.
    pub wanted: Option<ReleaseName>,
    /// Authenticode digests of the boot loaders that it may have.
    pub boot_loaders: Vec<[u8; 32]>,
    /// The firmware as an operator accepted it, or as first seen.
    pub firmware_code: Option<FirmwareCode>,
    /// Which firmware the appraisal policy allows.
    pub firmware: Firmware,
}

/// Measurements of the firmware's own code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareCode {
    /// PCR 0 and PCR 2.
    pub pcrs: [[u8; 32]; 2],
    /// Digests of what firmware started or measured into PCR 4 before it selected a boot option, in
    /// order.
    pub binaries: Vec<[u8; 32]>,
    /// Whether an operator accepted it; otherwise it is only what was seen first.
    pub is_accepted: bool,
}

impl FirmwareCode {
    /// The quoted PCRs of firmware that starts no EFI binaries of its own; not accepted.
    #[must_use]
    pub fn seen(pcrs: &Pcrs) -> Self {
        let pcrs = [0, 2].map(|r| pcrs.get(&r).copied().unwrap_or_default());
        Self { pcrs, binaries: Vec::new(), is_accepted: false }
    }

    /// The firmware that evidence proves; not accepted.
    #[must_use]
    pub fn of(evidence: &VerifiedEvidence) -> Self {
        let (boot, _) = MeasuredBoot::read(evidence.firmware_log());
        Self { binaries: digests(&boot.firmware_binaries), ..Self::seen(evidence.pcrs()) }
    }
}

/// An attestation result: what evidence proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// The level that the claims allow.
    pub level: Level,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The release that was measured; `None` if it is no known one.
    pub release: Option<ReleaseName>,
}

/// The code of the claim that Secure Boot was off.
const SECURE_BOOT_OFF: &str = "secure-boot-off";
/// Maximum number of EFI binaries of the firmware in one claim.
const BINARIES_SHOWN_MAX: usize = 16;

/// What claims are about, and where they come from.
#[derive(Clone, Copy)]
struct About {
    aspect: Aspect,
    source: &'static str,
}

impl About {
    /// A claim; the arguments are in the order of its fields.
    fn claim(
        self,
        tier: Tier,
        code: &str,
        finding: impl Into<String>,
        raise: Option<&str>,
    ) -> Claim {
        Claim {
            aspect: self.aspect,
            tier,
            code: code.into(),
            finding: finding.into(),
            source: self.source.into(),
            raise: raise.map(str::to_owned),
        }
    }
}

/// Appraises evidence. Without expectations for a device, no claim is affirmed.
#[must_use]
pub fn appraise(evidence: &VerifiedEvidence, known: &Known) -> Appraisal {
    let (boot, findings) = MeasuredBoot::read(evidence.firmware_log());
    let mut claims = vec![identity(), hardware(known), firmware_code(evidence, &boot, known)];
    if let Some(attestation_failure) = findings.iter().find(|f| f.is_attestation_failure()) {
        claims.push(odd(Aspect::Configuration, attestation_failure));
        return Appraisal { level: level(&claims), claims, release: None };
    }
    let (of_binaries, of_policy): (Vec<_>, Vec<_>) =
        findings.iter().partition(|f| f.is_about_binaries());
    claims.push(lowered(configuration(&boot, known), &of_policy));
    let (found, started) = executables(evidence, &boot, known);
    let started = lowered(started, &of_binaries);
    // A release that is not the device's appears in the claim's text only, so that no caller takes
    // it for one that the device may run.
    let release = found.filter(|_| started.code != RELEASE_NOT_GIVEN).map(|r| r.release.clone());
    claims.push(started);
    claims.push(file_system(found));
    Appraisal { level: level(&claims), claims, release }
}

/// Replaces a claim by a finding about the log that it was read from, where the finding allows
/// less.
fn lowered(claim: Claim, findings: &[&Finding]) -> Claim {
    // Without these variables there is nothing to compare with the device's keys, which does not
    // mean that the keys are wrong.
    let is_blind = |f: &&&Finding| matches!(f, Finding::NotMeasured(names) if names.iter().any(|n| ["SecureBoot", "PK", "KEK"].contains(n)));
    match (findings.iter().find(is_blind), findings.first()) {
        (Some(finding), _)
            if claim.code != SECURE_BOOT_OFF
                || matches!(finding, Finding::NotMeasured(n) if n.contains(&"SecureBoot")) =>
        {
            odd(claim.aspect, finding)
        }
        (_, Some(first)) if claim.tier < Tier::Warning => {
            // A weakness that firmware reports takes precedence over an unknown event.
            let worst =
                findings.iter().find(|f| matches!(f, Finding::Weakened(_))).unwrap_or(first);
            odd(claim.aspect, worst)
        }
        _ => claim,
    }
}

/// A finding about the log, as a claim.
fn odd(aspect: Aspect, finding: &Finding) -> Claim {
    let about = About { aspect, source: "firmware log, replayed to the quoted PCRs" };
    let (code, words) = (finding.code(), finding.to_string());
    match finding.is_attestation_failure() {
        true if finding.shows_other_bytes() => {
            let words = format!("the firmware log contradicts itself: {words}");
            about.claim(Tier::Contraindicated, code, words, None)
        }
        true => about.claim(Tier::Contraindicated, code, words, None),
        false => about.claim(Tier::Warning, code, words, Some(finding.raise())),
    }
}

fn digests(binaries: &[FirmwareBinary]) -> Vec<[u8; 32]> {
    binaries.iter().map(|p| p.digest).collect()
}

/// EFI binaries of the firmware as text: path and digest of each.
fn binaries_in_words(binaries: &[FirmwareBinary]) -> String {
    let shown = binaries
        .iter()
        .take(BINARIES_SHOWN_MAX)
        .map(|p| format!("{} ({})", p.path, hex::encode(p.digest)));
    let more = binaries.len().saturating_sub(BINARIES_SHOWN_MAX);
    shown.chain((more > 0).then(|| format!("{more} more"))).collect::<Vec<_>>().join(", ")
}

fn identity() -> Claim {
    let about = About { aspect: Aspect::InstanceIdentity, source: "TPM quote" };
    let finding = "the enrolled attestation key signed a fresh challenge";
    about.claim(Tier::Affirming, "identity", finding, None)
}

fn hardware(known: &Known) -> Claim {
    const ABOUT: About = About {
        aspect: Aspect::Hardware,
        source: "endorsement certificate, verified at enrollment",
    };
    let of = |tier, code, finding: &str, raise| ABOUT.claim(tier, code, finding, raise);
    match known.manufacturer {
        Some(Kind::Processor) => of(
            Tier::Affirming,
            "manufacturer-processor",
            "the TPM is part of the processor, and its manufacturer is trusted",
            None,
        ),
        Some(Kind::Hardware) => {
            of(Tier::Affirming, "manufacturer-known", "the TPM manufacturer is trusted", None)
        }
        Some(Kind::Virtual) if known.trusts_hypervisor => of(
            Tier::Affirming,
            "manufacturer-virtual-trusted",
            "the TPM is software, and this server trusts its host",
            None,
        ),
        Some(Kind::Virtual) => of(
            Tier::Warning,
            "manufacturer-virtual",
            "the TPM is software: an attacker who controls its host has its keys",
            Some("a server that trusts the host of software TPMs"),
        ),
        None => of(
            Tier::None,
            "manufacturer-unknown",
            "no trusted manufacturer endorses the TPM; its keys are pinned to this device",
            Some(
                "an endorsement certificate of a trusted TPM manufacturer, and a new enrollment of the device",
            ),
        ),
    }
}
