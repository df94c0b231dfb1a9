//! What verified evidence means: claims, each with whose word it is and what would raise it, and
//! the level that they allow.

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
use fleeti_core::wire::device::FirmwareKeys;

/// What a release measures when it starts (RFC 9334: Reference Values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Which.
    pub release: ReleaseName,
    /// Authenticode digest of its kernel image.
    pub kernel_image: [u8; 32],
    /// Register 9, the command line and the initrd; `None` where it is not known.
    pub register_9: Option<[u8; 32]>,
    /// Register 11 once it is up.
    pub register_11: [u8; 32],
    /// It should run nowhere any more.
    pub is_revoked: bool,
}

/// What is known of a device, by others than itself.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Who made its TPM; `None` where nobody says so.
    pub maker: Option<Kind>,
    /// Whether a TPM in software counts as one of hardware: whoever runs the host is then believed.
    pub trusts_hypervisor: bool,
    /// What its Secure Boot variables hold; `None` where no keys were made for it.
    pub firmware_keys: Option<FirmwareKeys>,
    /// Releases that it may run.
    pub references: Vec<Reference>,
    /// What it says that it runs, where that is none of them, and the boot loader that came with
    /// it.
    pub not_given: Option<(Reference, Option<[u8; 32]>)>,
    /// The one that it should run; `None` leaves it as it is.
    pub wanted: Option<ReleaseName>,
    /// Authenticode digests of boot loaders that it may have.
    pub boot_loaders: Vec<[u8; 32]>,
    /// Registers of the firmware's code (0 and 2) as an operator has accepted them, or as they were
    /// at first.
    pub firmware_code: Option<FirmwareCode>,
    /// Which firmware is the right one.
    pub firmware: Firmware,
}

/// The firmware's own code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareCode {
    /// Registers 0 and 2.
    pub registers: [[u8; 32]; 2],
    /// What it started or measured into register 4 before it looked for what to boot, in its order.
    pub programs: Vec<[u8; 32]>,
    /// Whether an operator has accepted it; else it is only what was seen at first.
    pub is_accepted: bool,
}

impl FirmwareCode {
    /// Of firmware without programs of its own: what was quoted, not yet accepted.
    #[must_use]
    pub fn seen(registers: &Registers) -> Self {
        let registers = [0, 2].map(|r| registers.get(&r).copied().unwrap_or_default());
        Self { registers, programs: Vec::new(), is_accepted: false }
    }

    /// The same, of what a device proved.
    #[must_use]
    pub fn of(evidence: &VerifiedEvidence) -> Self {
        let (boot, _) = MeasuredBoot::read(evidence.firmware_log());
        Self { programs: digests(&boot.firmware_programs), ..Self::seen(evidence.registers()) }
    }
}

/// What evidence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// The level.
    pub level: Level,
    /// What it stands on.
    pub claims: Vec<Claim>,
    /// The release that was measured; `None` when it is none that is known.
    pub release: Option<ReleaseName>,
}

/// The code of the claim that Secure Boot was off.
const SECURE_BOOT_OFF: &str = "secure-boot-off";
/// Most programs of a firmware that a claim names.
const PROGRAMS_SHOWN_MAX: usize = 16;

/// A claim before its texts are owned: aspect, tier, code, finding, source, what would raise it.
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

/// Says what evidence means. Where nothing is expected of a device, nothing is affirmed.
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
    // One that is not the device's is named in words alone: nobody is to take it for what the
    // device may run.
    let release = found.filter(|_| started.code != RELEASE_NOT_GIVEN).map(|r| r.release.clone());
    claims.push(started);
    claims.push(file_system(found));
    Appraisal { level: level(&claims), claims, release }
}

/// A claim, or what is odd about the log that it was read from, where that lets less be claimed.
fn lowered(claim: Claim, findings: &[&Finding]) -> Claim {
    // What would be compared with the keys of this device is not there: that is no sign of other
    // keys.
    let is_blind = |f: &&&Finding| matches!(f, Finding::NotMeasured(names) if names.iter().any(|n| ["SecureBoot", "PK", "KEK"].contains(n)));
    match (findings.iter().find(is_blind), findings.first()) {
        (Some(finding), _)
            if claim.code != SECURE_BOOT_OFF
                || matches!(finding, Finding::NotMeasured(n) if n.contains(&"SecureBoot")) =>
        {
            odd(claim.aspect, finding)
        }
        (_, Some(first)) if claim.tier < Tier::Warning => {
            // What firmware says of its own weakness is not hidden behind an event that is only
            // unknown.
            let worst =
                findings.iter().find(|f| matches!(f, Finding::Weakened(_))).unwrap_or(first);
            odd(claim.aspect, worst)
        }
        _ => claim,
    }
}

/// What is odd about a log, as a claim.
fn odd(aspect: Aspect, finding: &Finding) -> Claim {
    const SOURCE: &str = "firmware's log, replayed to the quote";
    match finding.is_contradiction() {
        true if finding.shows_other_bytes() => claim(
            aspect,
            Tier::Contraindicated,
            finding.code(),
            format!("firmware's log contradicts itself: {finding}"),
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

/// Programs of the firmware's own, for people: where each lay and its digest.
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
        "the attestation key that was enrolled answered a challenge that was asked once",
        "TPM quote",
        None,
    )
}

fn hardware(known: &Known) -> Claim {
    const SOURCE: &str = "endorsement certificate, checked at enrollment";
    let of = |tier, code, finding: &str, raise| {
        claim(Aspect::Hardware, tier, code, finding, SOURCE, raise)
    };
    match known.maker {
        Some(Kind::Processor) => of(
            Tier::Affirming,
            "maker-processor",
            "the TPM is in a processor whose maker is believed",
            None,
        ),
        Some(Kind::Hardware) => {
            of(Tier::Affirming, "maker-known", "the TPM is of a maker that is believed", None)
        }
        Some(Kind::Virtual) if known.trusts_hypervisor => of(
            Tier::Affirming,
            "maker-virtual-trusted",
            "the TPM is software, and whoever runs its host is believed by policy",
            None,
        ),
        Some(Kind::Virtual) => of(
            Tier::Warning,
            "maker-virtual",
            "the TPM is software: whoever runs its host has its keys",
            Some("a policy that believes whoever runs the host"),
        ),
        None => of(
            Tier::None,
            "maker-unknown",
            "nobody that is believed vouches for the TPM; its keys are pinned to this device",
            Some(
                "the certificate of its maker, in the list of makers that are believed, and enrolling it anew",
            ),
        ),
    }
}

/// A chip can be reset without its processor, and told then whatever it should hold: what it says
/// of what came before the boot loader is no proof against somebody who opens the machine.
fn firmware_code(evidence: &VerifiedEvidence, boot: &MeasuredBoot, known: &Known) -> Claim {
    let mut claim = firmware_registers(evidence, boot, known);
    if !boot.firmware_programs.is_empty() {
        claim.finding = format!(
            "{}; programs of its own that it starts first: {}",
            claim.finding,
            programs_in_words(&boot.firmware_programs)
        );
    }
    if known.maker != Some(Kind::Hardware) || claim.tier != Tier::Affirming {
        return claim;
    }
    let finding = format!(
        "{}; the TPM is a chip on a bus, which somebody with the machine can reset and tell that",
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
    const SOURCE: &str = "TPM quote, registers 0, 2 and the beginning of 4";
    const ACCEPT: Option<&str> = Some("an operator's word that this firmware is the right one");
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
                    "the firmware's code is one that the fleet's policy names, and it starts programs of its own that nobody accepted",
                    Some(
                        "their digests in the policy, or an operator's word that this firmware is the right one",
                    ),
                )
            }
            true => of(
                Tier::Affirming,
                "firmware-known",
                "the firmware's code is one that the fleet's policy names",
                None,
            ),
            false => of(
                Tier::Warning,
                "firmware-unknown",
                "the firmware's code is none that the fleet's policy names",
                Some("its registers 0 and 2 in the policy, if it is the right one"),
            ),
        };
    }
    match &known.firmware_code {
        Some(code) if code.registers != found.registers || code.programs != found.programs => of(
            Tier::Warning,
            "firmware-changed",
            "the firmware's code is another one than was seen before: it was updated, or replaced",
            ACCEPT,
        ),
        Some(code) if code.is_accepted => of(
            Tier::Affirming,
            "firmware-accepted",
            "the firmware's code is one that an operator accepted",
            None,
        ),
        Some(_) => of(
            Tier::None,
            "firmware-pinned",
            "the firmware's code is the one that was seen first",
            ACCEPT,
        ),
        None => {
            of(Tier::None, "firmware-new", "the firmware's code is seen for the first time", ACCEPT)
        }
    }
}

/// Whether the fleet's policy names each of these programs of a firmware.
fn are_named(programs: &[[u8; 32]], known: &Known) -> bool {
    match &known.firmware {
        Firmware::Known { programs: named, .. } => {
            programs.iter().all(|program| named.contains(&hex::encode(program)))
        }
        Firmware::Pinned => programs.is_empty(),
    }
}

fn configuration(boot: &MeasuredBoot, known: &Known) -> Claim {
    const SOURCE: &str = "TPM quote, register 7, and the variables in firmware's log";
    let of = |tier, code, finding: &str, raise| {
        claim(Aspect::Configuration, tier, code, finding, SOURCE, raise)
    };
    let Some(expected) = &known.firmware_keys else {
        let raise = Some("Secure Boot keys of its own: fleeti device provision");
        return of(Tier::None, "keys-none", "no Secure Boot keys were made for this device", raise);
    };
    if !boot.secure_boot {
        return of(
            Tier::Contraindicated,
            SECURE_BOOT_OFF,
            "Secure Boot was off when it started",
            None,
        );
    }
    let (Some(pk), Some(kek), Some(db)) =
        (certificates(boot, "PK"), certificates(boot, "KEK"), certificates(boot, "db"))
    else {
        return of(
            Tier::Contraindicated,
            "keys-unusual",
            "PK, KEK or db hold something else than certificates",
            None,
        );
    };
    if !pk.iter().eq(&expected.pk) || kek != expected.kek {
        return of(
            Tier::Contraindicated,
            "keys-foreign",
            "PK or KEK are not those that were made for this device",
            None,
        );
    }
    // The log tells of db as it was at the start: a change of keys since is seen at the next one.
    if db != expected.db {
        let finding = "db held other keys at the start than it should hold by now";
        return of(
            Tier::Warning,
            "db-other",
            finding,
            Some("a restart after the change of its keys"),
        );
    }
    let digests: Vec<String> =
        uefi::digests(boot.variable("dbx")).unwrap_or_default().iter().map(hex::encode).collect();
    if !expected.dbx.iter().all(|d| digests.contains(d)) {
        return of(
            Tier::Warning,
            "dbx-old",
            "dbx does not forbid all that it should by now",
            Some("the pending change of keys, and a restart"),
        );
    }
    let vouchers: Vec<String> = boot.authorities.iter().map(|der| sha256_hex(der)).collect();
    if vouchers.is_empty() || !vouchers.iter().all(|v| expected.db.contains(v)) {
        return of(
            Tier::Contraindicated,
            "voucher-foreign",
            "what was started was vouched for by a key that was not made for this device",
            None,
        );
    }
    of(
        Tier::Affirming,
        "keys-own",
        "Secure Boot was on, with the keys that were made for this device alone",
        None,
    )
}

/// Certificates of a variable by their digests; `None` where it holds anything else.
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
    const SOURCE: &str = "TPM quote, registers 4, 9, 11 and 12, and the programs in firmware's log";
    let of = |tier, code: &str, finding: String, raise| {
        claim(Aspect::Executables, tier, code, finding, SOURCE, raise)
    };
    if known.references.is_empty() && known.not_given.is_none() {
        let raise = Some("a release that this server knows");
        return (
            None,
            of(
                Tier::None,
                "release-unknown",
                "this server knows no release that it may run".into(),
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
                "a program of a release was started before firmware looked for what to boot: {digest}"
            ),
        );
    }
    let [boot_loader, kernel_image] = boot.programs.as_slice() else {
        return wrong(
            "programs",
            format!(
                "{} programs were started, not a boot loader and a kernel image",
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
            format!("the boot loader {} is of no release", hex::encode(boot_loader)),
        );
    }
    let Some(reference) = given.or(not_given.map(|(r, _)| r)) else {
        return wrong(
            "kernel-image-foreign",
            format!(
                "the kernel image {} is of no release that it may run",
                hex::encode(kernel_image)
            ),
        );
    };
    let register = |n| evidence.registers().get(&n).copied().unwrap_or_default();
    if register(11) != reference.register_11 {
        let last =
            evidence.phases().iter().rev().find(|m| m.register == 11).and_then(|m| m.words.clone());
        let last = last.unwrap_or_else(|| "words that the log does not show".into());
        return wrong(
            "register-11",
            format!(
                "the kernel image and phases of {} are not what register 11 holds; measured last: {last}",
                reference.release
            ),
        );
    }
    if reference.register_9.is_some_and(|expected| register(9) != expected) {
        return wrong(
            "register-9",
            format!(
                "the command line or the initrd that started are not those of {}",
                reference.release
            ),
        );
    }
    for (n, code, what) in [
        (12, "register-12", "a command line, credential or addon"),
        (13, "register-13", "a system extension"),
        (14, "register-14", "a key of the machine's owner, by a boot loader before ours,"),
    ] {
        if register(n) != [0; 32] {
            return wrong(code, format!("{what} from outside the release was loaded"));
        }
    }
    // Only the device names it, which is how a release of another fleet would get in.
    if not_given.is_some() {
        let finding = format!(
            "{} was started, which it did not come with and nobody rolled out to it",
            reference.release
        );
        return (
            Some(reference),
            of(Tier::Warning, RELEASE_NOT_GIVEN, finding, Some("a rollout of a release to it")),
        );
    }
    if reference.is_revoked {
        let finding = format!("{} was started, which is revoked", reference.release);
        return (
            Some(reference),
            of(Tier::Warning, RELEASE_REVOKED, finding, Some("an update to a release that is not")),
        );
    }
    // Whoever may write a firmware's variables may have it start a program first: one that is new
    // needs somebody's word.
    let is_new = |code: &FirmwareCode| code.programs != digests(&boot.firmware_programs);
    if !are_named(&digests(&boot.firmware_programs), known)
        && known.firmware_code.as_ref().is_some_and(is_new)
    {
        let programs = programs_in_words(&boot.firmware_programs);
        let finding = format!(
            "{} was started, after programs of the firmware's own that were not seen before: {programs}",
            reference.release
        );
        let raise = Some("an operator's word that this firmware is the right one");
        return (Some(reference), of(Tier::Warning, "firmware-programs-changed", finding, raise));
    }
    // On its way, or gone back: it is one that is allowed, and whoever waits for another one
    // compares.
    if let Some(wanted) = known.wanted.as_ref().filter(|w| **w != reference.release) {
        let finding = format!(
            "{} was started and nothing beside it; {wanted} is what it should run next",
            reference.release
        );
        return (Some(reference), of(Tier::Affirming, "release-other", finding, None));
    }
    let finding = format!(
        "a boot loader that it may have and the kernel image of {} were started, and nothing beside them",
        reference.release
    );
    (Some(reference), of(Tier::Affirming, "release", finding, None))
}

fn file_system(found: Option<&Reference>) -> Claim {
    const SOURCE: &str = "the root hash in the kernel image's command line, TPM quote, register 11";
    match found {
        Some(reference) => claim(
            Aspect::FileSystem,
            Tier::Affirming,
            "root-hash",
            format!(
                "the root file system is that of {}, block by block (dm-verity)",
                reference.release
            ),
            SOURCE,
            None,
        ),
        None => claim(
            Aspect::FileSystem,
            Tier::None,
            "root-hash-unknown",
            "which root file system it has is not known",
            SOURCE,
            Some("a kernel image that is known"),
        ),
    }
}
