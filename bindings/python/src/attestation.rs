//! Evidence of TPMs.

use crate::errors;
use fleeti_core::attestation::{Claim, Level};
use fleeti_core::id::ReleaseName;
use fleeti_pki::attestation::Challenge;
use fleeti_pki::attestation::appraisal::{self, Known};
use fleeti_pki::attestation::evidence;
use fleeti_pki::measured::log::Pcrs;
use fleeti_pki::tpm::public::{AttestationKey, Public};
use pyo3::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// Evidence that one TPM produced for one challenge. Only `fleeti.attestation.verify` makes it.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct VerifiedEvidence(evidence::VerifiedEvidence);

#[pymethods]
impl VerifiedEvidence {
    /// The quoted PCRs, SHA-256.
    #[getter]
    fn pcrs(&self) -> BTreeMap<u8, Vec<u8>> {
        self.0.pcrs().iter().map(|(pcr, value)| (*pcr, value.to_vec())).collect()
    }
}

/// Quote, signature, PCR values, and the logs of firmware and user space.
type Sent = (Vec<u8>, Vec<u8>, BTreeMap<u8, Vec<u8>>, Vec<u8>, Vec<u8>);
/// Name, UKI, PCR 9, PCR 11, and whether the release is revoked.
type Reference = (String, Vec<u8>, Option<Vec<u8>>, Vec<u8>, bool);

fn digest(python: Python<'_>, what: &str, bytes: &[u8]) -> PyResult<[u8; 32]> {
    let wrong = || errors::invalid(python, format!("{what}: {} bytes, expected 32", bytes.len()));
    bytes.try_into().map_err(|_| wrong())
}

/// Verifies evidence as the answer of the TPM with this key to a challenge.
#[pyfunction]
pub fn verify_evidence(
    python: Python<'_>,
    evidence: Sent,
    device: &str,
    nonce: &[u8],
    attestation_key: &[u8],
) -> PyResult<VerifiedEvidence> {
    let (quote, signature, values, firmware_log, phases_log) = evidence;
    let pcrs: Pcrs = values
        .iter()
        .map(|(pcr, value)| Ok((*pcr, digest(python, &format!("PCR {pcr}"), value)?)))
        .collect::<PyResult<_>>()?;
    let challenge = Challenge {
        nonce: digest(python, "nonce", nonce)?,
        device: device.parse().map_err(|e| errors::invalid(python, e))?,
    };
    let public = Public::parse(attestation_key).map_err(|e| errors::invalid(python, e))?;
    let key = AttestationKey::new(public).map_err(|e| errors::untrusted(python, e))?;
    let verified = python.detach(|| {
        let sent = evidence::Evidence {
            quote: &quote,
            signature: &signature,
            pcrs: &pcrs,
            firmware_log: &firmware_log,
            phases_log: &phases_log,
        };
        evidence::verify(&sent, &challenge, &key, None)
    });
    verified.map(VerifiedEvidence).map_err(|e| errors::untrusted(python, e))
}

/// What evidence proves.
#[derive(Serialize)]
struct Appraisal {
    level: Level,
    claims: Vec<Claim>,
    release: Option<ReleaseName>,
}

/// Appraises evidence, and returns JSON.
#[pyfunction]
pub fn appraise(
    python: Python<'_>,
    evidence: &VerifiedEvidence,
    references: Vec<Reference>,
    boot_loaders: Vec<Vec<u8>>,
) -> PyResult<Vec<u8>> {
    let references = references
        .into_iter()
        .map(|(release, kernel_image, pcr_9, pcr_11, is_revoked)| {
            Ok(appraisal::Reference {
                release: release.parse().map_err(|e| errors::invalid(python, e))?,
                kernel_image: digest(python, "kernel_image", &kernel_image)?,
                pcr_9: pcr_9.map(|value| digest(python, "pcr_9", &value)).transpose()?,
                pcr_11: digest(python, "pcr_11", &pcr_11)?,
                is_revoked,
            })
        })
        .collect::<PyResult<_>>()?;
    let boot_loaders = boot_loaders
        .iter()
        .map(|value| digest(python, "boot_loaders", value))
        .collect::<PyResult<_>>()?;
    let known = Known { references, boot_loaders, ..Known::default() };
    let found = python.detach(|| appraisal::appraise(&evidence.0, &known));
    let appraisal::Appraisal { level, claims, release } = found;
    serde_json::to_vec(&Appraisal { level, claims, release }).map_err(errors::of_json)
}
