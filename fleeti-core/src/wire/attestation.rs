//! The messages between device and server about the device's TPM, and the attestation results that
//! the API returns. Bytes are base64 (RFC 4648, 4), digests and PCR values hexadecimal.

use crate::attestation::{Claim, Level};
use crate::id::ReleaseName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest number of certificates that a device sends for its endorsement key.
pub const CERTIFICATES_MAX: usize = 9;
/// Time in which a device must answer a challenge, seconds.
pub const CHALLENGE_S: u64 = 60;
/// Interval at which the server challenges a connected device, seconds. Each interval is shortened
/// at random by up to a fifth, so that devices do not answer together.
pub const INTERVAL_S: u64 = 900;
/// How long an attestation result counts, seconds. A device that is silent for longer falls back to
/// the level that it had before it proved anything.
pub const FRESH_S: u64 = 4 * INTERVAL_S;

/// Size limit of an uploaded file of certificates, bytes.
pub const MANUFACTURERS_FILE_MAX: usize = 512 * 1024;

/// What kind of TPM a manufacturer makes, as stated by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TpmKind {
    /// A TPM in the processor (fTPM, PTT).
    Processor,
    /// A chip beside the processor.
    Hardware,
    /// A TPM in software: the operator of its host has its keys.
    Virtual,
}

impl TpmKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Processor, Self::Hardware, Self::Virtual];

    /// The name on the wire, for example `hardware`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Hardware => "hardware",
            Self::Virtual => "virtual",
        }
    }
}

/// A text that is not a [`TpmKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of TPM: expected processor, hardware or virtual")]
pub struct NoTpmKind(String);

impl std::str::FromStr for TpmKind {
    type Err = NoTpmKind;
    fn from_str(text: &str) -> Result<Self, NoTpmKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| NoTpmKind(text.to_owned()))
    }
}

/// `POST /tpm-manufacturers`: adds trusted certificates of TPM manufacturers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTpmManufacturers {
    /// What kind of TPM the manufacturers make.
    pub kind: TpmKind,
    /// A file as the manufacturer publishes it (PEM, DER or PKCS#7), base64; at most 512 KiB before
    /// encoding.
    pub file: String,
}

/// A trusted certificate of a TPM manufacturer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TpmManufacturer {
    /// SHA-256 of the certificate (DER), hexadecimal.
    pub id: String,
    /// What kind of TPM the manufacturer makes.
    pub kind: TpmKind,
    /// Subject, for example `CN=Root CA 1, O=Example`.
    pub subject: String,
    /// Issuer; equal to the subject for a root.
    pub issuer: String,
    /// Subjects of the trusted certificates above this one, up to a root.
    pub chain: Vec<String>,
    /// Start of validity, Unix seconds.
    pub not_before_s: u64,
    /// End of validity, Unix seconds. The server trusts the certificate until its file is removed,
    /// also after this time.
    pub not_after_s: u64,
    /// Path of the file below `DATA/pki/tpm-manufacturers`.
    pub file: String,
}

/// A file that the server ignores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftOut {
    /// Path of the file below `DATA/pki/tpm-manufacturers`.
    pub file: String,
    /// Why the server ignores it.
    pub problem: String,
}

/// `GET /tpm-manufacturers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TpmManufacturers {
    /// Trusted certificates.
    pub manufacturers: Vec<TpmManufacturer>,
    /// Files that the server cannot read.
    pub left_out: Vec<LeftOut>,
}

/// A text that must not appear in a log: its debug output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
    /// The secret text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `POST /tpm`: a device identifies its TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmIdentity {
    /// TPMT_PUBLIC of the endorsement key.
    pub endorsement_key: String,
    /// The endorsement certificate, then its chain up to the TPM manufacturer's certificate, DER;
    /// at most [`CERTIFICATES_MAX`].
    pub certificates: Vec<String>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: String,
}

/// The response: an encrypted secret that only this TPM decrypts, and only if it also has this
/// attestation key (TPM2_ActivateCredential).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmSecret {
    /// Id of the secret.
    pub id: String,
    /// TPM2B_ID_OBJECT.
    pub blob: String,
    /// TPM2B_ENCRYPTED_SECRET.
    pub secret: String,
}

/// `POST /tpm/proved`: the decrypted secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmProof {
    /// [`TpmSecret::id`].
    pub id: String,
    /// The secret.
    pub secret: Secret,
}

/// `POST /enroll/tpm`: a device with a token identifies its TPM before it enrolls. Anonymous. The
/// response is a [`TpmSecret`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEnrollRequest {
    /// The one-time token.
    pub token: String,
    /// The TPM of the device.
    pub tpm: TpmIdentity,
}

/// Proof that a key is in the known TPM: the attestation key certified it (TPM2_Certify) for one
/// purpose and one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProof {
    /// TPMT_PUBLIC.
    pub key: String,
    /// TPMS_ATTEST. `fleeti_pki::attestation::key` defines its qualifying data.
    pub certification: String,
    /// TPMT_SIGNATURE over the certification.
    pub signature: String,
}

/// The part of an enrollment that only the identified TPM can produce.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEnrollment {
    /// The decrypted secret.
    pub proof: TpmProof,
    /// Proof that the key to certify is in this TPM.
    pub key: KeyProof,
}

/// `down/challenge`: random bytes that the next evidence must contain; valid once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Id of the challenge.
    pub id: String,
    /// 32 random bytes, hexadecimal.
    pub nonce: String,
    /// SHA-256 of the firmware's event log that the server has from this device. A device with
    /// another log uploads it first.
    #[serde(default)]
    pub firmware_log: Option<String>,
}

/// `up/evidence`: the response to a [`Challenge`]. The device uploads the firmware's event log
/// before (`PUT /logs/{sha256}`), once per boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`Challenge::id`].
    pub challenge: String,
    /// TPMS_ATTEST.
    pub quote: String,
    /// TPMT_SIGNATURE.
    pub signature: String,
    /// PCR values, by number.
    #[serde(deserialize_with = "crate::strict::unique")]
    pub pcrs: BTreeMap<u8, String>,
    /// SHA-256 of the firmware's event log.
    pub firmware_log: String,
    /// The event log of user space.
    pub phases_log: String,
}

/// What the verifier concluded from the last evidence of a device (RFC 9334: Attestation Result).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttestationResult {
    /// The level that the evidence reached.
    pub level: Level,
    /// The claims that the level is based on.
    pub claims: Vec<Claim>,
    /// The release that was measured; `null` if it is not a known one.
    pub release: Option<ReleaseName>,
    /// When the evidence was appraised, Unix seconds.
    pub appraised_s: u64,
    /// SHA-256 of the quote.
    pub evidence: String,
}

/// Whether a result from `appraised_s` (Unix seconds) still counts.
#[must_use]
pub const fn is_fresh(appraised_s: u64, now_s: u64) -> bool {
    now_s < appraised_s.saturating_add(FRESH_S)
}

/// The level that counts now: at most [`Level::Token`] for a device that has been silent for
/// [`FRESH_S`].
#[must_use]
pub fn aged(level: Level, appraised_s: u64, now_s: u64) -> Level {
    if is_fresh(appraised_s, now_s) { level } else { level.min(Level::Token) }
}

impl AttestationResult {
    /// The level that counts now: at most [`Level::Token`] for a device that has been silent for
    /// [`FRESH_S`].
    #[must_use]
    pub fn level_at(&self, now_s: u64) -> Level {
        aged(self.level, self.appraised_s, now_s)
    }

    /// Whether the result still counts.
    #[must_use]
    pub const fn is_fresh(&self, now_s: u64) -> bool {
        is_fresh(self.appraised_s, now_s)
    }
}

/// `GET /devices/{id}/attestation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attestation {
    /// The level that counts now.
    pub level: Level,
    /// Code of the level, for example `L4`.
    pub level_code: String,
    /// Whether the last result still counts.
    pub is_fresh: bool,
    /// The last result; `null` for a device that never sent evidence.
    pub result: Option<AttestationResult>,
    /// The TPM; `null` for a device that has not identified one.
    pub tpm: Option<Tpm>,
    /// Measurements by PCR.
    pub pcrs: Vec<MeasuredPcr>,
}

/// The response to `POST /fleets/{fleet}/attestation/challenge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AskedFleet {
    /// Number of connected devices that were challenged.
    pub asked: u64,
}

/// The TPM of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tpm {
    /// SHA-256 of its endorsement key (SubjectPublicKeyInfo), hexadecimal.
    pub ek_sha256: String,
    /// Kind of TPM by its manufacturer, for example `hardware` or `virtual`; `null` if no trusted
    /// manufacturer certified it.
    pub manufacturer: Option<String>,
    /// Manufacturer, model and version from the endorsement certificate, or why there is no valid
    /// one.
    pub description: String,
    /// When the TPM was bound to the device, Unix seconds.
    pub bound_s: u64,
}

/// A PCR and the events that were measured into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MeasuredPcr {
    /// Number of the PCR.
    pub pcr: u8,
    /// What is measured into this PCR.
    pub title: String,
    /// Value of the PCR, hexadecimal.
    pub value: String,
    /// The measured events in order, described in words.
    pub events: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_falls_silent_is_no_more_than_its_token() {
        let result = AttestationResult {
            level: Level::VerifiedBoot,
            claims: Vec::new(),
            release: None,
            appraised_s: 1_000,
            evidence: String::new(),
        };
        assert_eq!(result.level_at(1_000 + FRESH_S - 1), Level::VerifiedBoot);
        assert_eq!(result.level_at(1_000 + FRESH_S), Level::Token);
        let attestation_failed = AttestationResult { level: Level::SelfReported, ..result };
        assert_eq!(
            attestation_failed.level_at(1_000 + FRESH_S),
            Level::SelfReported,
            "silence raises nothing"
        );
    }

    #[test]
    fn a_secret_is_in_no_log() {
        let proof = TpmProof { id: "i".into(), secret: Secret::new("hush".into()) };
        assert!(!format!("{proof:?}").contains("hush"), "{proof:?}");
    }

    #[test]
    fn the_messages_are_the_protocol() {
        let claim = Claim {
            aspect: crate::attestation::Aspect::Executables,
            tier: crate::attestation::Tier::Affirming,
            code: "release".into(),
            finding: "f".into(),
            source: "s".into(),
            raise: Some("r".into()),
        };
        let result = AttestationResult {
            level: Level::VerifiedBoot,
            claims: vec![claim],
            release: Some("kiosk@1".parse().unwrap()),
            appraised_s: 1,
            evidence: "ab".into(),
        };
        insta::assert_json_snapshot!(serde_json::json!({
            "POST /tpm": TpmIdentity { endorsement_key: "e".into(), certificates: vec!["c".into()], attestation_key: "a".into() },
            "POST /tpm, answer": TpmSecret { id: "i".into(), blob: "b".into(), secret: "s".into() },
            "POST /tpm/proved": TpmProof { id: "i".into(), secret: Secret::new("s".into()) },
            "POST /enroll/tpm": TpmEnrollRequest {
                token: "t".into(),
                tpm: TpmIdentity { endorsement_key: "e".into(), certificates: vec![], attestation_key: "a".into() },
            },
            "POST /enroll, tpm": TpmEnrollment {
                proof: TpmProof { id: "i".into(), secret: Secret::new("s".into()) },
                key: KeyProof { key: "k".into(), certification: "c".into(), signature: "s".into() },
            },
            "down/challenge": Challenge { id: "i".into(), nonce: "n".into(), firmware_log: Some("f".into()) },
            "up/evidence": Evidence {
                challenge: "i".into(),
                quote: "q".into(),
                signature: "s".into(),
                pcrs: BTreeMap::from([(0, "00".to_owned()), (11, "11".to_owned())]),
                firmware_log: "f".into(),
                phases_log: "p".into(),
            },
            "GET /devices/{id}/attestation": Attestation {
                level: Level::VerifiedBoot,
                level_code: "L4".into(),
                is_fresh: true,
                result: Some(result),
                tpm: Some(Tpm { ek_sha256: "e".into(), manufacturer: Some("hardware".into()), description: "d".into(), bound_s: 1 }),
                pcrs: vec![MeasuredPcr { pcr: 4, title: "t".into(), value: "v".into(), events: vec!["e".into()] }],
            },
        }));
    }
}
