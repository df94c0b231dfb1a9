//! Appraises verified evidence (RFC 9334): claims, each with its source and what would raise it,
//! and the level that they allow.

use super::evidence::VerifiedEvidence;
use crate::measured::boot::{Finding, FirmwareProgram, MeasuredBoot};
use crate::measured::log::Registers;
use crate::tpm::endorsement::Kind;
use crate::uefi::{self, SignatureList};
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{
    Aspect, Claim, Level, RELEASE_NOT_GIVEN, RELEASE_REVOKED, Tier, level,
};
use fleeti_core::canonical::sha256_hex;
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
    pub register_9: Option<[u8; 32]>,
    /// PCR 11 after the last boot phase.
    pub register_11: [u8; 32],
    /// Whether the release is revoked.
    pub is_revoked: bool,
}

/// What the verifier knows about a device from sources other than the device.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What kind of TPM its manufacturer makes; `None` if no trusted manufacturer endorses it.
    pub maker: Option<Kind>,
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
    pub registers: [[u8; 32]; 2],
    /// Digests of what firmware started or measured into PCR 4 before it selected a boot option, in
    /// order.
    pub programs: Vec<[u8; 32]>,
    /// Whether an operator accepted it; otherwise it is only what was seen first.
    pub is_accepted: bool,
}

impl FirmwareCode {
    /// The quoted PCRs of firmware that starts no EFI binaries of its own; not accepted.
    #[must_use]
    pub fn seen(registers: &Registers) -> Self {
        let registers = [0, 2].map(|r| registers.get(&r).copied().unwrap_or_default());
        Self { registers, programs: Vec::new(), is_accepted: false }
    }

    /// The firmware that evidence proves; not accepted.
    #[must_use]
    pub fn of(evidence: &VerifiedEvidence) -> Self {
        let (boot, _) = MeasuredBoot::read(evidence.firmware_log());
        Self { programs: digests(&boot.firmware_programs), ..Self::seen(evidence.registers()) }
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
const PROGRAMS_SHOWN_MAX: usize = 16;

/// A claim; the arguments are in the order of its fields.
fn claim(
    aspect: Aspect,
    tier: Tier,
    code: &str,
    finding: impl Into<String>,
    source: &str,
    raise: Option<&str>,
) -> Claim {
    Claim {
        aspect,
        tier,
        code: code.into(),
        finding: finding.into(),
        source: source.into(),
        raise: raise.map(str::to_owned),
    }
}

/// Appraises evidence. Without expectations for a device, no claim is affirmed.
#[must_use]
pub fn appraise(evidence: &VerifiedEvidence, known: &Known) -> Appraisal {
    let (boot, findings) = MeasuredBoot::read(evidence.firmware_log());
    let mut claims = vec![identity(), hardware(known), firmware_code(evidence, &boot, known)];
    if let Some(contradiction) = findings.iter().find(|f| f.is_contradiction()) {
        claims.push(odd(Aspect::Configuration, contradiction));
        return Appraisal { level: level(&claims), claims, release: None };
    }
    let (of_programs, of_policy): (Vec<_>, Vec<_>) =
        findings.iter().partition(|f| f.is_about_programs());
    claims.push(lowered(configuration(&boot, known), &of_policy));
    let (found, started) = executables(evidence, &boot, known);
    let started = lowered(started, &of_programs);
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
    const SOURCE: &str = "firmware log, replayed to the quoted PCRs";
    match finding.is_contradiction() {
        true if finding.shows_other_bytes() => claim(
            aspect,
            Tier::Contraindicated,
            finding.code(),
            format!("the firmware log contradicts itself: {finding}"),
            SOURCE,
            None,
        ),
        true => {
            claim(aspect, Tier::Contraindicated, finding.code(), finding.to_string(), SOURCE, None)
        }
        false => claim(
            aspect,
            Tier::Warning,
            finding.code(),
            finding.to_string(),
            SOURCE,
            Some(finding.raise()),
        ),
    }
}

fn digests(programs: &[FirmwareProgram]) -> Vec<[u8; 32]> {
    programs.iter().map(|p| p.digest).collect()
}

/// EFI binaries of the firmware as text: path and digest of each.
fn programs_in_words(programs: &[FirmwareProgram]) -> String {
    let shown = programs
        .iter()
        .take(PROGRAMS_SHOWN_MAX)
        .map(|p| format!("{} ({})", p.path, hex::encode(p.digest)));
    let more = programs.len().saturating_sub(PROGRAMS_SHOWN_MAX);
    shown.chain((more > 0).then(|| format!("{more} more"))).collect::<Vec<_>>().join(", ")
}

fn identity() -> Claim {
    claim(
        Aspect::InstanceIdentity,
        Tier::Affirming,
        "identity",
        "the enrolled attestation key signed a fresh challenge",
        "TPM quote",
        None,
    )
}

fn hardware(known: &Known) -> Claim {
    const SOURCE: &str = "endorsement certificate, verified at enrollment";
    let of = |tier, code, finding: &str, raise| {
        claim(Aspect::Hardware, tier, code, finding, SOURCE, raise)
    };
    match known.maker {
        Some(Kind::Processor) => of(
            Tier::Affirming,
            "maker-processor",
            "the TPM is part of the processor, and its manufacturer is trusted",
            None,
        ),
        Some(Kind::Hardware) => {
            of(Tier::Affirming, "maker-known", "the TPM manufacturer is trusted", None)
        }
        Some(Kind::Virtual) if known.trusts_hypervisor => of(
            Tier::Affirming,
            "maker-virtual-trusted",
            "the TPM is software, and this server trusts its host",
            None,
        ),
        Some(Kind::Virtual) => of(
            Tier::Warning,
            "maker-virtual",
            "the TPM is software: an attacker who controls its host has its keys",
            Some("a server that trusts the host of software TPMs"),
        ),
        None => of(
            Tier::None,
            "maker-unknown",
            "no trusted manufacturer endorses the TPM; its keys are pinned to this device",
            Some(
                "an endorsement certificate of a trusted TPM manufacturer, and a new enrollment of the device",
            ),
        ),
    }
}

/// A discrete TPM can be reset without its processor and then extended with any values, so its PCRs
/// of the firmware prove nothing against an attacker who opens the machine.
fn firmware_code(evidence: &VerifiedEvidence, boot: &MeasuredBoot, known: &Known) -> Claim {
    let mut claim = firmware_registers(evidence, boot, known);
    if !boot.firmware_programs.is_empty() {
        claim.finding = format!(
            "{}; firmware itself started or measured: {}",
            claim.finding,
            programs_in_words(&boot.firmware_programs)
        );
    }
    if known.maker != Some(Kind::Hardware) || claim.tier != Tier::Affirming {
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

fn firmware_registers(evidence: &VerifiedEvidence, boot: &MeasuredBoot, known: &Known) -> Claim {
    const SOURCE: &str = "TPM quote, PCR 0, PCR 2 and the start of PCR 4";
    const ACCEPT: Option<&str> = Some("acceptance of this firmware by an operator");
    let of =
        |tier, code, finding, raise| claim(Aspect::Firmware, tier, code, finding, SOURCE, raise);
    let found = FirmwareCode {
        programs: digests(&boot.firmware_programs),
        ..FirmwareCode::seen(evidence.registers())
    };
    if let Firmware::Known { registers, .. } = &known.firmware {
        let is_accepted = |code: &FirmwareCode| code.is_accepted && code.programs == found.programs;
        let hex = found.registers.map(hex::encode);
        return match registers.contains(&hex) {
            true if !are_named(&found.programs, known)
                && !known.firmware_code.as_ref().is_some_and(is_accepted) =>
            {
                of(
                    Tier::Warning,
                    "firmware-programs",
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
        Some(code) if code.registers != found.registers || code.programs != found.programs => of(
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
fn are_named(programs: &[[u8; 32]], known: &Known) -> bool {
    match &known.firmware {
        Firmware::Known { programs: named, .. } => {
            programs.iter().all(|program| named.contains(&hex::encode(program)))
        }
        Firmware::Pinned => programs.is_empty(),
    }
}

fn configuration(boot: &MeasuredBoot, known: &Known) -> Claim {
    const SOURCE: &str = "TPM quote, PCR 7, and the variables in the firmware log";
    let of = |tier, code, finding: &str, raise| {
        claim(Aspect::Configuration, tier, code, finding, SOURCE, raise)
    };
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
    let digests: Vec<String> =
        uefi::digests(boot.variable("dbx")).unwrap_or_default().iter().map(hex::encode).collect();
    if !expected.dbx.iter().all(|d| digests.contains(d)) {
        return of(
            Tier::Warning,
            "dbx-old",
            "dbx at boot lacks digests that it should forbid",
            Some("the pending change of keys, and a reboot"),
        );
    }
    let vouchers: Vec<String> = boot.authorities.iter().map(|der| sha256_hex(der)).collect();
    if vouchers.is_empty() || !vouchers.iter().all(|v| expected.db.contains(v)) {
        return of(
            Tier::Contraindicated,
            "voucher-foreign",
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

fn executables<'k>(
    evidence: &VerifiedEvidence,
    boot: &MeasuredBoot,
    known: &'k Known,
) -> (Option<&'k Reference>, Claim) {
    const SOURCE: &str = "TPM quote, PCR 4, 9, 11 and 12, and the EFI binaries in the firmware log";
    let of = |tier, code: &str, finding: String, raise| {
        claim(Aspect::Executables, tier, code, finding, SOURCE, raise)
    };
    if known.references.is_empty() && known.not_given.is_none() {
        let raise = Some("a release for this device that the server knows");
        return (
            None,
            of(
                Tier::None,
                "release-unknown",
                "the server knows no release that this device may run".into(),
                raise,
            ),
        );
    }
    let wrong = |code, finding| (None, of(Tier::Contraindicated, code, finding, None));
    let is_of_release = |p: &&FirmwareProgram| {
        known.boot_loaders.contains(&p.digest)
            || known.references.iter().any(|r| r.kernel_image == p.digest)
    };
    if let Some(program) = boot.firmware_programs.iter().find(is_of_release) {
        let digest = hex::encode(program.digest);
        return wrong(
            "programs",
            format!(
                "an EFI binary of a release was started before firmware selected a boot option: {digest}"
            ),
        );
    }
    let [boot_loader, kernel_image] = boot.programs.as_slice() else {
        return wrong(
            "programs",
            format!(
                "{} EFI binaries were started instead of two: a boot loader and a UKI",
                boot.programs.len()
            ),
        );
    };
    let given = known.references.iter().find(|r| r.kernel_image == *kernel_image);
    let not_given = known
        .not_given
        .as_ref()
        .filter(|(r, _)| given.is_none() && r.kernel_image == *kernel_image);
    if !known.boot_loaders.contains(boot_loader)
        && not_given.is_none_or(|(_, loader)| loader.as_ref() != Some(boot_loader))
    {
        return wrong(
            "boot-loader-foreign",
            format!("the boot loader {} belongs to no release", hex::encode(boot_loader)),
        );
    }
    let Some(reference) = given.or(not_given.map(|(r, _)| r)) else {
        return wrong(
            "kernel-image-foreign",
            format!(
                "the UKI {} belongs to no release that this device may run",
                hex::encode(kernel_image)
            ),
        );
    };
    let register = |n| evidence.registers().get(&n).copied().unwrap_or_default();
    if register(11) != reference.register_11 {
        let last =
            evidence.phases().iter().rev().find(|m| m.register == 11).and_then(|m| m.words.clone());
        let last = last.unwrap_or_else(|| "text that the log does not show".into());
        return wrong(
            "register-11",
            format!(
                "PCR 11 does not match the UKI and boot phases of {}; measured last: {last}",
                reference.release
            ),
        );
    }
    if reference.register_9.is_some_and(|expected| register(9) != expected) {
        return wrong(
            "register-9",
            format!(
                "PCR 9 does not match the command line and the initrd of {}",
                reference.release
            ),
        );
    }
    for (n, code, what) in [
        (12, "register-12", "a command line, credential or addon"),
        (13, "register-13", "a system extension"),
        (14, "register-14", "a machine owner key (of shim)"),
    ] {
        if register(n) != [0; 32] {
            return wrong(code, format!("{what} from outside the release was loaded"));
        }
    }
    // Only the device names this release. A release of another fleet would get in this way.
    if not_given.is_some() {
        let finding = format!(
            "{} was started, but the device did not come with it and no rollout offered it",
            reference.release
        );
        return (
            Some(reference),
            of(
                Tier::Warning,
                RELEASE_NOT_GIVEN,
                finding,
                Some("a rollout of a release to this device"),
            ),
        );
    }
    if reference.is_revoked {
        let finding = format!("{} was started, but it is revoked", reference.release);
        return (
            Some(reference),
            of(
                Tier::Warning,
                RELEASE_REVOKED,
                finding,
                Some("an update to a release that is not revoked"),
            ),
        );
    }
    // An attacker who can write firmware variables can make firmware start an EFI binary first, so
    // an operator has to accept new ones.
    let is_new = |code: &FirmwareCode| code.programs != digests(&boot.firmware_programs);
    if !are_named(&digests(&boot.firmware_programs), known)
        && known.firmware_code.as_ref().is_some_and(is_new)
    {
        let programs = programs_in_words(&boot.firmware_programs);
        let finding = format!(
            "{} was started after EFI binaries of the firmware that were not seen before: {programs}",
            reference.release
        );
        let raise = Some("acceptance of this firmware by an operator");
        return (Some(reference), of(Tier::Warning, "firmware-programs-changed", finding, raise));
    }
    // An update is pending, or the device rolled back: the release is allowed. Callers that wait
    // for another release compare it themselves.
    if let Some(wanted) = known.wanted.as_ref().filter(|w| **w != reference.release) {
        let finding = format!(
            "{} was started, and nothing else; the desired release is {wanted}",
            reference.release
        );
        return (Some(reference), of(Tier::Affirming, "release-other", finding, None));
    }
    let finding = format!(
        "an allowed boot loader and the UKI of {} were started, and nothing else",
        reference.release
    );
    (Some(reference), of(Tier::Affirming, "release", finding, None))
}

fn file_system(found: Option<&Reference>) -> Claim {
    const SOURCE: &str = "root hash in the UKI's command line; TPM quote, PCR 11";
    match found {
        Some(reference) => claim(
            Aspect::FileSystem,
            Tier::Affirming,
            "root-hash",
            format!(
                "the root file system is that of {}, verified block by block (dm-verity)",
                reference.release
            ),
            SOURCE,
            None,
        ),
        None => claim(
            Aspect::FileSystem,
            Tier::None,
            "root-hash-unknown",
            "the root file system is not known",
            SOURCE,
            Some("a UKI of a known release"),
        ),
    }
}
