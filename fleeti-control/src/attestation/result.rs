//! Attestation results: verifies the evidence of a device, and appraises it.

use super::facts::Releases;
use super::parse::{attestation_key, decoded, invalid};
use super::reference::digest;
use crate::error::Error;
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Claim, Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::AttestationResult;
use fleeti_pki::attestation::Challenge;
use fleeti_pki::attestation::appraisal::{Appraisal, FirmwareCode, Known, appraise};
use fleeti_pki::attestation::evidence::{self, Before, VerifiedEvidence};
use fleeti_pki::measured::log::Pcrs;
use fleeti_pki::tpm::attest::Clock;
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_store::attestations::{
    Accepted, AttestationRow, FirmwareCodeRow, SentEvidence, Subject, TpmClock,
};
use std::collections::{BTreeMap, HashSet};

/// Source of a claim about evidence that did not verify.
const SENT: &str = "evidence from the device";

/// Evidence of a device, and what it is compared with.
pub(super) struct Case {
    pub(super) device: DeviceId,
    /// What the server knows of the device.
    pub(super) subject: Subject,
    /// The challenge that the evidence answers.
    pub(super) nonce: [u8; 32],
    pub(super) sent: SentEvidence,
    /// The firmware event log that the evidence names.
    pub(super) log: Vec<u8>,
    /// Which firmware the policy of the fleet accepts.
    pub(super) firmware: Firmware,
}

/// What all evidence of a batch is compared with.
pub(super) struct Grounds {
    pub(super) releases: Releases,
    /// Whether a software TPM of a trusted manufacturer counts as much as a chip.
    pub(super) trusts_hypervisor: bool,
    /// Unix seconds.
    pub(super) now_s: u64,
}

/// The evidence and the attestation result of a device, to be stored.
pub(super) struct Outcome {
    pub(super) device: DeviceId,
    /// What the server knew of the device before.
    pub(super) subject: Subject,
    pub(super) row: AttestationRow,
}

/// Whether stored evidence has verified.
pub(super) fn has_verified(row: &AttestationRow) -> bool {
    row.accepted.is_some() && !row.result.claims.iter().any(|claim| claim.source == SENT)
}

/// Verifies and appraises evidence. Failed verification is a result as well.
pub(super) fn of(case: Case, grounds: &Grounds) -> Result<Outcome, Error> {
    let quote = decoded("quote", &case.sent.quote)?;
    let signature = decoded("signature", &case.sent.signature)?;
    let pcrs = read_pcrs(&case.sent.pcrs)?;
    let key = attestation_key(&case.subject.attestation_key)?;
    let before = case.subject.accepted.as_ref().map(last_accepted).transpose()?;
    let raw = evidence::Evidence {
        quote: &quote,
        signature: &signature,
        pcrs: &pcrs,
        firmware_log: &case.log,
        phases_log: case.sent.phases_log.as_bytes(),
    };
    let challenge = Challenge { nonce: case.nonce, device: case.device.clone() };
    let judged = match evidence::verify(&raw, &challenge, &key, before.as_ref()) {
        Ok(verified) => verified_result(&case, grounds, &verified)?,
        Err(refused) => refused_result(&case, &refused),
    };
    let result = AttestationResult {
        level: judged.appraisal.level,
        claims: judged.appraisal.claims,
        release: judged.appraisal.release,
        appraised_s: grounds.now_s,
        evidence: sha256_hex(&quote),
    };
    let row = AttestationRow {
        nonce: const_hex::encode(case.nonce),
        evidence: case.sent,
        accepted: judged.accepted,
        firmware_code: judged.firmware_code,
        result,
    };
    Ok(Outcome { device: case.device, subject: case.subject, row })
}

/// An appraisal, and what the next one is compared with.
struct Judged {
    appraisal: Appraisal,
    accepted: Option<Accepted>,
    firmware_code: Option<FirmwareCodeRow>,
}

fn verified_result(
    case: &Case,
    grounds: &Grounds,
    verified: &VerifiedEvidence,
) -> Result<Judged, Error> {
    let known = known(case, grounds)?;
    // The first firmware is accepted (trust on first use). An operator must accept later changes.
    let code = known.firmware_code.clone().unwrap_or_else(|| FirmwareCode::of(verified));
    let firmware_code = FirmwareCodeRow {
        pcrs: code.pcrs.map(const_hex::encode),
        binaries: code.binaries.iter().map(const_hex::encode).collect(),
        is_accepted: code.is_accepted,
    };
    Ok(Judged {
        appraisal: appraise(verified, &known),
        accepted: Some(accepted_now(verified)),
        firmware_code: Some(firmware_code),
    })
}

fn refused_result(case: &Case, refused: &evidence::Refused) -> Judged {
    let raise = "evidence that verifies; the server requests it again within 15 minutes";
    let claim = Claim {
        aspect: Aspect::InstanceIdentity,
        tier: Tier::Contraindicated,
        code: refused.code().to_owned(),
        finding: refused.to_string(),
        source: SENT.into(),
        raise: Some(raise.into()),
    };
    Judged {
        appraisal: Appraisal { level: Level::SelfReported, claims: vec![claim], release: None },
        accepted: case.subject.accepted.clone(),
        firmware_code: case.subject.firmware_code.clone(),
    }
}

/// What the server knows of a device. The report of the device only selects the release that its
/// evidence is compared with, among those that it was provisioned with or that were rolled out to
/// it.
fn known(case: &Case, grounds: &Grounds) -> Result<Known, Error> {
    let (subject, releases) = (&case.subject, &grounds.releases);
    // During an update the device may still run the previous release.
    let compared: HashSet<_> =
        [&subject.wanted, &subject.running, &subject.last.release].into_iter().flatten().collect();
    let compared: Vec<_> = compared.into_iter().filter_map(|name| releases.get(name)).collect();
    // The boot loader on the ESP stays that of the release that the device was provisioned with.
    let first = subject.loader_release.as_ref().and_then(|name| releases.get(name));
    Ok(Known {
        manufacturer: Kind::ALL
            .into_iter()
            .find(|kind| subject.manufacturer.as_deref() == Some(kind.as_str())),
        trusts_hypervisor: grounds.trusts_hypervisor,
        firmware_keys: subject.firmware_keys.clone(),
        references: compared.iter().filter_map(|facts| facts.reference.clone()).collect(),
        not_given: subject.not_given.as_ref().and_then(|name| {
            let facts = releases.get(name)?;
            Some((facts.reference.clone()?, facts.boot_loader))
        }),
        wanted: subject.wanted.clone(),
        boot_loaders: compared
            .into_iter()
            .chain(first)
            .filter_map(|facts| facts.boot_loader)
            .collect(),
        firmware_code: subject.firmware_code.as_ref().map(firmware_code).transpose()?,
        firmware: case.firmware.clone(),
    })
}

fn pcr(text: &str) -> Result<[u8; 32], Error> {
    digest(text).ok_or_else(|| invalid("pcrs", format!("{text:?} is not a PCR value")))
}

fn read_pcrs(texts: &BTreeMap<u8, String>) -> Result<Pcrs, Error> {
    texts.iter().map(|(number, text)| Ok((*number, pcr(text)?))).collect()
}

fn last_accepted(accepted: &Accepted) -> Result<Before, Error> {
    let TpmClock { milliseconds, resets, restarts, safe } = accepted.clock;
    Ok(Before {
        clock: Clock { milliseconds, resets, restarts, safe },
        pcrs: read_pcrs(&accepted.pcrs)?,
    })
}

fn accepted_now(verified: &VerifiedEvidence) -> Accepted {
    let Clock { milliseconds, resets, restarts, safe } = verified.clock();
    Accepted {
        clock: TpmClock { milliseconds, resets, restarts, safe },
        pcrs: verified
            .pcrs()
            .range(evidence::STILL)
            .map(|(pcr, value)| (*pcr, const_hex::encode(value)))
            .collect(),
    }
}

fn firmware_code(row: &FirmwareCodeRow) -> Result<FirmwareCode, Error> {
    let binaries = row.binaries.iter().map(|binary| pcr(binary)).collect::<Result<_, _>>()?;
    Ok(FirmwareCode {
        pcrs: [pcr(&row.pcrs[0])?, pcr(&row.pcrs[1])?],
        binaries,
        is_accepted: row.is_accepted,
    })
}
