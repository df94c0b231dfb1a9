//! TPM operations of the helper. Their set is fixed, so that the daemon never has access to the
//! TPM. The helper makes everything that the attestation key signs; the device key signs what the
//! daemon's TLS passes in, like a key in a file.

use super::{Measured, Occasion};
use crate::Paths;
use crate::tpm::{KeySeed, Tpm};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::{KeyProof, Secret, TpmIdentity};
use fleeti_pki::attestation::Challenge;
use fleeti_pki::attestation::key::Purpose;
use fleeti_pki::measured::{log, phases};
use fleeti_pki::tpm::public::Public;
use std::fs;
use std::path::Path;

fn tpm(paths: &Paths) -> Result<Tpm> {
    Tpm::open(paths)?.context("this device has no TPM")
}

/// The keys that identify the TPM; `None` without one.
pub fn identity(paths: &Paths) -> Result<Option<TpmIdentity>> {
    let Some(mut tpm) = Tpm::open(paths)? else { return Ok(None) };
    let identity = tpm.identity()?;
    Ok(Some(TpmIdentity {
        endorsement_key: STANDARD.encode(identity.endorsement_key),
        certificates: identity.certificates.iter().map(|c| STANDARD.encode(c)).collect(),
        attestation_key: STANDARD.encode(identity.attestation_key),
    }))
}

/// Decrypts the secret that was made for this TPM.
pub fn activate(paths: &Paths, blob: &str, secret: &str) -> Result<Secret> {
    let given = tpm(paths)?.activate(&STANDARD.decode(blob)?, &STANDARD.decode(secret)?)?;
    Ok(Secret::new(STANDARD.encode(given)))
}

fn bytes<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).context(what)?;
    Ok(bytes)
}

/// The device key of a seed: TPMT_PUBLIC, base64.
pub fn device_key(paths: &Paths, seed: &str) -> Result<String> {
    let seed: KeySeed = bytes("the seed", seed)?;
    Ok(STANDARD.encode(tpm(paths)?.device_key(&seed)?))
}

/// Signs a digest with the device key of a seed: TPMT_SIGNATURE, base64.
pub fn sign(paths: &Paths, seed: &str, digest: &str) -> Result<String> {
    let (seed, digest): (KeySeed, [u8; 32]) =
        (bytes("the seed", seed)?, bytes("the digest", digest)?);
    Ok(STANDARD.encode(tpm(paths)?.sign(&seed, &digest)?))
}

/// Certifies the device key of a seed, for one purpose over one connection.
pub fn certify(paths: &Paths, seed: &str, occasion: &Occasion, channel: &str) -> Result<KeyProof> {
    let (seed, channel): (KeySeed, _) =
        (bytes("the seed", seed)?, bytes("the connection", channel)?);
    let purpose = match occasion {
        Occasion::Enrollment(token_sha256) => Purpose::enrollment(token_sha256, channel),
        Occasion::Renewal(device) => Purpose::renewal(device, channel),
    };
    let said = tpm(paths)?
        .certify(&seed, |key| Ok(purpose.qualifying_data(&Public::parse(key)?.to_spki_der()?)))?;
    Ok(KeyProof {
        key: STANDARD.encode(said.key),
        certification: STANDARD.encode(said.certification),
        signature: STANDARD.encode(said.signature),
    })
}

/// Evidence, signed by the TPM. The nonce is the server's; the signed data is made here, so that
/// the daemon cannot have the TPM sign anything else.
pub fn evidence(paths: &Paths, nonce: &str, device: &DeviceId) -> Result<Measured> {
    let challenge = Challenge { nonce: bytes("the nonce", nonce)?, device: device.clone() };
    let firmware_log = read(&paths.firmware_log, log::BYTES_MAX)?;
    let phases_log = String::from_utf8(read(&paths.phases_log, phases::BYTES_MAX)?)
        .context("the user-space log")?;
    let said =
        tpm(paths)?.quote(&challenge.qualifying_data(&firmware_log, phases_log.as_bytes()))?;
    Ok(Measured {
        quote: STANDARD.encode(said.quote),
        signature: STANDARD.encode(said.signature),
        pcrs: said.pcrs.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect(),
        firmware_log,
        phases_log,
    })
}

/// A log; empty if there is none, which the server detects.
fn read(path: &Path, max: usize) -> Result<Vec<u8>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| path.display().to_string())?,
    };
    ensure!(
        bytes.len() <= max,
        "{} has {} bytes, at most {max} are allowed",
        path.display(),
        bytes.len()
    );
    Ok(bytes)
}
