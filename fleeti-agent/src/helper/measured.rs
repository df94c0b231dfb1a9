//! What the helper says of the TPM: three fixed questions, so that the daemon never speaks to it.

use super::Measured;
use crate::Paths;
use crate::tpm::Tpm;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::TpmIdentity;
use fleeti_pki::attestation::Challenge;
use fleeti_pki::measured::{log, phases};
use std::fs;
use std::path::Path;

fn tpm(paths: &Paths) -> Result<Tpm> {
    Tpm::open(paths)?.context("this device has no TPM")
}

/// What the TPM is known by; nothing without one.
pub fn identity(paths: &Paths) -> Result<Option<TpmIdentity>> {
    let Some(mut tpm) = Tpm::open(paths)? else { return Ok(None) };
    let identity = tpm.identity()?;
    Ok(Some(TpmIdentity {
        endorsement_key: STANDARD.encode(identity.endorsement_key),
        certificates: identity.certificates.iter().map(|c| STANDARD.encode(c)).collect(),
        attestation_key: STANDARD.encode(identity.attestation_key),
    }))
}

/// The secret that was made for this TPM.
pub fn activate(paths: &Paths, blob: &str, secret: &str) -> Result<String> {
    let given = tpm(paths)?.activate(&STANDARD.decode(blob)?, &STANDARD.decode(secret)?)?;
    Ok(STANDARD.encode(given))
}

/// What was measured, signed by the TPM. The nonce is the server's; what is signed is made here, so that nobody has the TPM
/// sign an answer to something else.
pub fn evidence(paths: &Paths, nonce: &str, device: &DeviceId) -> Result<Measured> {
    let mut challenge = Challenge { nonce: [0; 32], device: device.clone() };
    hex::decode_to_slice(nonce, &mut challenge.nonce).context("the nonce")?;
    let firmware_log = read(&paths.firmware_log, log::BYTES_MAX)?;
    let phases_log = String::from_utf8(read(&paths.phases_log, phases::BYTES_MAX)?).context("the log of user space")?;
    let said = tpm(paths)?.quote(&challenge.qualifying_data(&firmware_log, phases_log.as_bytes()))?;
    Ok(Measured {
        quote: STANDARD.encode(said.quote),
        signature: STANDARD.encode(said.signature),
        registers: said.registers.iter().map(|(register, value)| (*register, hex::encode(value))).collect(),
        firmware_log,
        phases_log,
    })
}

/// A log; empty where there is none, which the server sees.
fn read(path: &Path, max: usize) -> Result<Vec<u8>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| path.display().to_string())?,
    };
    ensure!(bytes.len() <= max, "{} has {} bytes, {max} at the most", path.display(), bytes.len());
    Ok(bytes)
}
