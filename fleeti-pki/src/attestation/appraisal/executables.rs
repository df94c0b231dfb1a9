//! Claims about what was started: the boot loader and UKI of a release, and its root file
//! system.

use super::firmware::are_named;
use super::{About, FirmwareCode, Known, Reference, binaries_in_words, digests};
use crate::attestation::evidence::VerifiedEvidence;
use crate::measured::boot::{FirmwareBinary, MeasuredBoot};
use fleeti_core::attestation::{Aspect, Claim, RELEASE_NOT_GIVEN, RELEASE_REVOKED, Tier};

const ABOUT: About = About {
    aspect: Aspect::Executables,
    source: "TPM quote, PCR 4, 9, 11 and 12, and the EFI binaries in the firmware log",
};

fn of(tier: Tier, code: &str, finding: String, raise: Option<&str>) -> Claim {
    ABOUT.claim(tier, code, finding, raise)
}

fn wrong(code: &str, finding: String) -> Claim {
    of(Tier::Contraindicated, code, finding, None)
}

pub(super) fn executables<'k>(
    evidence: &VerifiedEvidence,
    boot: &MeasuredBoot,
    known: &'k Known,
) -> (Option<&'k Reference>, Claim) {
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
    let (reference, is_given) = match started(boot, known) {
        Ok(started) => started,
        Err(claim) => return (None, claim),
    };
    if let Some(claim) = other_pcrs(evidence, reference) {
        return (None, claim);
    }
    (Some(reference), allowed(boot, known, reference, is_given))
}

/// The release whose boot loader and UKI were started, and whether the device may run it.
fn started<'k>(boot: &MeasuredBoot, known: &'k Known) -> Result<(&'k Reference, bool), Claim> {
    let is_of_release = |p: &&FirmwareBinary| {
        known.boot_loaders.contains(&p.digest)
            || known.references.iter().any(|r| r.kernel_image == p.digest)
    };
    if let Some(binary) = boot.firmware_binaries.iter().find(is_of_release) {
        let digest = hex::encode(binary.digest);
        return Err(wrong(
            "binaries",
            format!(
                "an EFI binary of a release was started before firmware selected a boot option: {digest}"
            ),
        ));
    }
    let [boot_loader, kernel_image] = boot.binaries.as_slice() else {
        return Err(wrong(
            "binaries",
            format!(
                "{} EFI binaries were started instead of two: a boot loader and a UKI",
                boot.binaries.len()
            ),
        ));
    };
    let given = known.references.iter().find(|r| r.kernel_image == *kernel_image);
    let not_given = known
        .not_given
        .as_ref()
        .filter(|(r, _)| given.is_none() && r.kernel_image == *kernel_image);
    if !known.boot_loaders.contains(boot_loader)
        && not_given.is_none_or(|(_, loader)| loader.as_ref() != Some(boot_loader))
    {
        return Err(wrong(
            "boot-loader-foreign",
            format!("the boot loader {} belongs to no release", hex::encode(boot_loader)),
        ));
    }
    let Some(reference) = given.or(not_given.map(|(r, _)| r)) else {
        return Err(wrong(
            "kernel-image-foreign",
            format!(
                "the UKI {} belongs to no release that this device may run",
                hex::encode(kernel_image)
            ),
        ));
    };
    Ok((reference, not_given.is_none()))
}

/// The first PCR that does not match the release.
fn other_pcrs(evidence: &VerifiedEvidence, reference: &Reference) -> Option<Claim> {
    let pcr = |n| evidence.pcrs().get(&n).copied().unwrap_or_default();
    if pcr(11) != reference.pcr_11 {
        let last =
            evidence.phases().iter().rev().find(|m| m.pcr == 11).and_then(|m| m.words.clone());
        let last = last.unwrap_or_else(|| "text that the log does not show".into());
        return Some(wrong(
            "pcr-11",
            format!(
                "PCR 11 does not match the UKI and boot phases of {}; measured last: {last}",
                reference.release
            ),
        ));
    }
    if reference.pcr_9.is_some_and(|expected| pcr(9) != expected) {
        return Some(wrong(
            "pcr-9",
            format!(
                "PCR 9 does not match the command line and the initrd of {}",
                reference.release
            ),
        ));
    }
    for (n, code, what) in [
        (12, "pcr-12", "a command line, credential or addon"),
        (13, "pcr-13", "a system extension"),
        (14, "pcr-14", "a machine owner key (of shim)"),
    ] {
        if pcr(n) != [0; 32] {
            return Some(wrong(code, format!("{what} from outside the release was loaded")));
        }
    }
    None
}

/// What starting this release says about the device.
fn allowed(boot: &MeasuredBoot, known: &Known, reference: &Reference, is_given: bool) -> Claim {
    // Only the device names this release. A release of another fleet would get in this way.
    if !is_given {
        let finding = format!(
            "{} was started, but the device did not come with it and no rollout offered it",
            reference.release
        );
        return of(
            Tier::Warning,
            RELEASE_NOT_GIVEN,
            finding,
            Some("a rollout of a release to this device"),
        );
    }
    if reference.is_revoked {
        let finding = format!("{} was started, but it is revoked", reference.release);
        return of(
            Tier::Warning,
            RELEASE_REVOKED,
            finding,
            Some("an update to a release that is not revoked"),
        );
    }
    // An attacker who can write firmware variables can make firmware start an EFI binary first, so
    // an operator has to accept new ones.
    let is_new = |code: &FirmwareCode| code.binaries != digests(&boot.firmware_binaries);
    if !are_named(&digests(&boot.firmware_binaries), known)
        && known.firmware_code.as_ref().is_some_and(is_new)
    {
        let binaries = binaries_in_words(&boot.firmware_binaries);
        let finding = format!(
            "{} was started after EFI binaries of the firmware that were not seen before: {binaries}",
            reference.release
        );
        let raise = Some("acceptance of this firmware by an operator");
        return of(Tier::Warning, "firmware-binaries-changed", finding, raise);
    }
    // An update is pending, or the device rolled back: the release is allowed. Callers that wait
    // for another release compare it themselves.
    if let Some(wanted) = known.wanted.as_ref().filter(|w| **w != reference.release) {
        let finding = format!(
            "{} was started, and nothing else; the desired release is {wanted}",
            reference.release
        );
        return of(Tier::Affirming, "release-other", finding, None);
    }
    let finding = format!(
        "an allowed boot loader and the UKI of {} were started, and nothing else",
        reference.release
    );
    of(Tier::Affirming, "release", finding, None)
}

pub(super) fn file_system(found: Option<&Reference>) -> Claim {
    const ABOUT: About = About {
        aspect: Aspect::FileSystem,
        source: "root hash in the UKI's command line; TPM quote, PCR 11",
    };
    match found {
        Some(Reference { release, .. }) => {
            let finding = format!(
                "the root file system is that of {release}, verified block by block (dm-verity)"
            );
            ABOUT.claim(Tier::Affirming, "root-hash", finding, None)
        }
        None => {
            let (finding, raise) =
                ("the root file system is not known", "a UKI of a known release");
            ABOUT.claim(Tier::None, "root-hash-unknown", finding, Some(raise))
        }
    }
}
