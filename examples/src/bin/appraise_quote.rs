//! Appraises a TPM quote: what it proves about the release that a device runs.
//!
//!     cargo xtask example appraise_quote
//!
//! The logs were recorded in QEMU; the TPM is a key in memory, so nobody endorses it. `--make DIR`
//! writes the evidence to files.

use anyhow::{Context, Result, ensure};
use fleeti_core::attestation::Level;
use fleeti_pki::attestation::appraisal::{Known, Reference, appraise};
use fleeti_pki::attestation::evidence::{Evidence, verify};
use fleeti_pki::attestation::{Challenge, PCRS};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{FirmwareLog, Pcrs};
use fleeti_pki::measured::phases;
use fleeti_pki::signer::Algorithm;
use fleeti_testkit::soft_tpm::SoftTpm;
use std::path::Path;

const FIRMWARE_LOG: &[u8] =
    include_bytes!("../../../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-257.log");
const PHASES_LOG: &[u8] =
    include_bytes!("../../../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-257.phases");

fn main() -> Result<()> {
    let tpm = SoftTpm::new(Algorithm::P256)?;
    let challenge = Challenge { nonce: [7; 32], device: "dev-1".parse()? };
    let (pcrs, quote, signature) = answer(&tpm, &challenge)?;
    let evidence = Evidence {
        quote: &quote,
        signature: &signature,
        pcrs: &pcrs,
        firmware_log: FIRMWARE_LOG,
        phases_log: PHASES_LOG,
    };
    if let [option, dir] = std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        ensure!(option == "--make", "usage: appraise_quote [--make DIR]");
        return write(Path::new(dir), &tpm, &evidence);
    }

    let verified = verify(&evidence, &challenge, &tpm.attestation_key()?, None)?;
    let references = vec![reference(&pcrs)?];
    let known = Known { references, boot_loaders: vec![boot_loader()?], ..Known::default() };
    let found = appraise(&verified, &known);
    for claim in &found.claims {
        println!("{:?}: {:?}: {}", claim.aspect, claim.tier, claim.finding);
    }
    println!("{}: {:?}", found.level.code(), found.release.map(|release| release.to_string()));
    ensure!(found.level >= Level::UnverifiedTpm, "the quote proves less than it should");

    let other = Challenge { nonce: [8; 32], ..challenge };
    let refused = verify(&evidence, &other, &tpm.attestation_key()?, None);
    println!("for another challenge: {}", refused.err().context("it was accepted")?);
    Ok(())
}

/// What a device answers: PCR values, quote and signature.
fn answer(tpm: &SoftTpm, challenge: &Challenge) -> Result<(Pcrs, Vec<u8>, Vec<u8>)> {
    let mut replayed = FirmwareLog::parse(FIRMWARE_LOG)?.replay();
    phases::replay(&mut replayed, &phases::parse(PHASES_LOG)?);
    let pcrs: Pcrs =
        PCRS.into_iter().map(|r| (r, replayed.get(&r).copied().unwrap_or_default())).collect();
    let asked = challenge.qualifying_data(FIRMWARE_LOG, PHASES_LOG);
    let quote = tpm.good_quote(&asked, Challenge::selection(), pcrs.values());
    let signature = tpm.sign(&quote)?;
    Ok((pcrs, quote, signature))
}

/// The values that the build of a release predicts.
fn reference(pcrs: &Pcrs) -> Result<Reference> {
    let boot = MeasuredBoot::of(&FirmwareLog::parse(FIRMWARE_LOG)?)?;
    Ok(Reference {
        release: "kiosk@1".parse()?,
        kernel_image: *boot.binaries.last().context("a kernel")?,
        pcr_9: None,
        pcr_11: *pcrs.get(&11).context("PCR 11")?,
        is_revoked: false,
    })
}

/// The boot loader that came with the release.
fn boot_loader() -> Result<[u8; 32]> {
    let boot = MeasuredBoot::of(&FirmwareLog::parse(FIRMWARE_LOG)?)?;
    boot.binaries.first().copied().context("a boot loader")
}

fn write(dir: &Path, tpm: &SoftTpm, evidence: &Evidence<'_>) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let kernel = reference(evidence.pcrs)?.kernel_image;
    for (name, bytes) in [
        ("quote", evidence.quote),
        ("signature", evidence.signature),
        ("firmware.log", evidence.firmware_log),
        ("phases.log", evidence.phases_log),
        ("attestation.key", &tpm.area.to_bytes()),
        ("kernel_image", &kernel),
        ("boot_loader", &boot_loader()?),
    ] {
        std::fs::write(dir.join(name), bytes)?;
    }
    for (pcr, value) in evidence.pcrs {
        std::fs::write(dir.join(format!("pcr-{pcr}")), value)?;
    }
    Ok(())
}
