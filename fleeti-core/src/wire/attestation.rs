//! What device and server say to each other about the device's TPM, and what people are shown of
//! it. Bytes are base64 (RFC 4648, 4), digests and registers hexadecimal.

use crate::attestation::{Claim, Level};
use crate::id::ReleaseName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most certificates that a device shows of its endorsement key.
pub const CERTIFICATES_MAX: usize = 9;
/// How long a device has for an answer, seconds.
pub const CHALLENGE_S: u64 = 60;
/// How often a device that is there is asked, seconds; each time up to a fifth sooner, so that not
/// all come at once.
pub const INTERVAL_S: u64 = 900;
/// How long a result counts: a device that is silent for longer is what it was before it proved
/// anything.
pub const FRESH_S: u64 = 4 * INTERVAL_S;

/// Bytes of the largest file of certificates that is added at once.
pub const MANUFACTURERS_FILE_MAX: usize = 512 * 1024;

/// What kind of TPM a manufacturer makes, which is an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TpmKind {
    /// In a processor (fTPM, PTT).
    Processor,
    /// A chip beside it.
    Hardware,
    /// Software: whoever runs its host has its keys.
    Virtual,
}

impl TpmKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Processor, Self::Hardware, Self::Virtual];

    /// As in `hardware`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Hardware => "hardware",
            Self::Virtual => "virtual",
        }
    }
}

/// Text that is no [`TpmKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of TPM: processor, hardware or virtual")]
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

/// `POST /tpm-manufacturers`: certificates of manufacturers that are to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTpmManufacturers {
    /// What they make.
    pub kind: TpmKind,
    /// A file as the manufacturer publishes it: PEM, DER or PKCS#7, base64;
    /// [`MANUFACTURERS_FILE_MAX`] bytes at the most.
    pub file: String,
}

/// A certificate of a manufacturer of TPMs that is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TpmManufacturer {
    /// SHA-256 of the certificate (DER), hexadecimal.
    pub id: String,
    /// What kind of TPM it makes.
    pub kind: TpmKind,
    /// As in `CN=Root CA 1, O=Somebody`.
    pub subject: String,
    /// The same as the subject for a root.
    pub issuer: String,
    /// Subjects of those above it that are believed as well, up to a root.
    pub chain: Vec<String>,
    /// Unix seconds.
    pub not_before_s: u64,
    /// Unix seconds. What is believed does not end by itself.
    pub not_after_s: u64,
    /// Where it is, below `DATA/pki/tpm-makers`.
    pub file: String,
}

/// A file that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftOut {
    /// Where it is, below `DATA/pki/tpm-makers`.
    pub file: String,
    /// Why.
    pub problem: String,
}

/// `GET /tpm-manufacturers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TpmManufacturers {
    /// Who is believed.
    pub manufacturers: Vec<TpmManufacturer>,
    /// Files that cannot be read.
    pub left_out: Vec<LeftOut>,
}

/// A text that nobody is to see in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// From its text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
    /// Its text.
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

/// `POST /tpm`: a device shows its TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmIdentity {
    /// TPMT_PUBLIC of the endorsement key.
    pub endorsement_key: String,
    /// Its certificate, then those up to the maker's, DER; at most [`CERTIFICATES_MAX`].
    pub certificates: Vec<String>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: String,
}

/// The answer: a secret that only that TPM gives away, and only for that attestation key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmSecret {
    /// Which.
    pub id: String,
    /// TPM2B_ID_OBJECT.
    pub blob: String,
    /// TPM2B_ENCRYPTED_SECRET.
    pub secret: String,
}

/// `POST /tpm/proved`: what the TPM gave away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmProof {
    /// [`TpmSecret::id`].
    pub id: String,
    /// The secret.
    pub secret: Secret,
}

/// `POST /enroll/tpm`: whoever has a token shows the TPM that it wants to be known by, before it
/// enrolls. Anonymous. The answer is a [`TpmSecret`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEnrollRequest {
    /// The one-time token.
    pub token: String,
    /// Its TPM.
    pub tpm: TpmIdentity,
}

/// That a key is in the TPM that is known: the attestation key certified it (TPM2_Certify) for one
/// purpose, over one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProof {
    /// TPMT_PUBLIC.
    pub key: String,
    /// TPMS_ATTEST; what it answers is said at `fleeti_pki::attestation::key`.
    pub certification: String,
    /// TPMT_SIGNATURE over it.
    pub signature: String,
}

/// The part of an enrollment that only the TPM which was shown can give.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEnrollment {
    /// What it gave away.
    pub proof: TpmProof,
    /// That the key which is to be certified is in it.
    pub key: KeyProof,
}

/// `down/challenge`: a question that is asked once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Which.
    pub id: String,
    /// 32 random bytes, hexadecimal.
    pub nonce: String,
    /// SHA-256 of the log of firmware that the server has from this device; another one is to be
    /// sent first.
    #[serde(default)]
    pub firmware_log: Option<String>,
}

/// `up/evidence`: the answer. The log of firmware was sent before (`PUT /logs/{sha256}`), once in a
/// boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`Challenge::id`].
    pub challenge: String,
    /// TPMS_ATTEST.
    pub quote: String,
    /// TPMT_SIGNATURE.
    pub signature: String,
    /// What the registers held, by number.
    #[serde(deserialize_with = "crate::strict::unique")]
    pub registers: BTreeMap<u8, String>,
    /// SHA-256 of firmware's log.
    pub firmware_log: String,
    /// The log of user space.
    pub phases_log: String,
}

/// What the last evidence of a device means (RFC 9334: Attestation Result).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttestationResult {
    /// The level that the evidence reached.
    pub level: Level,
    /// What it stands on.
    pub claims: Vec<Claim>,
    /// The release that was measured; `None` when it is none that is known.
    pub release: Option<ReleaseName>,
    /// Unix seconds.
    pub appraised_s: u64,
    /// SHA-256 of the quote.
    pub evidence: String,
}

/// Whether a result of then (Unix seconds) still counts.
#[must_use]
pub const fn is_fresh(appraised_s: u64, now_s: u64) -> bool {
    now_s < appraised_s.saturating_add(FRESH_S)
}

/// A level of then: a device that has been silent for [`FRESH_S`] is no more than its token.
#[must_use]
pub fn aged(level: Level, appraised_s: u64, now_s: u64) -> Level {
    if is_fresh(appraised_s, now_s) { level } else { level.min(Level::Token) }
}

impl AttestationResult {
    /// The level now: a device that has been silent for [`FRESH_S`] is no more than its token.
    #[must_use]
    pub fn level_at(&self, now_s: u64) -> Level {
        aged(self.level, self.appraised_s, now_s)
    }

    /// Whether it still counts.
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
    /// As in `L4`.
    pub level_code: String,
    /// Whether the last result still counts.
    pub is_fresh: bool,
    /// The last result; `None` for a device that never answered.
    pub result: Option<AttestationResult>,
    /// Its TPM; `None` for a device that has shown none.
    pub tpm: Option<Tpm>,
    /// What was measured, register by register.
    pub registers: Vec<MeasuredRegister>,
}

/// The answer to `POST /fleets/{fleet}/attestation/challenge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AskedFleet {
    /// How many devices are there and were asked.
    pub asked: u64,
}

/// A device's TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tpm {
    /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
    pub ek_sha256: String,
    /// As in `hardware` or `virtual`; `None` where nobody that is believed vouches for it.
    pub maker: Option<String>,
    /// What its certificate says: manufacturer, model, version; or why it has none that counts.
    pub description: String,
    /// Unix seconds.
    pub bound_s: u64,
}

/// A register, and what was measured into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MeasuredRegister {
    /// Its number.
    pub register: u8,
    /// What belongs there.
    pub title: String,
    /// What it held.
    pub value: String,
    /// What was measured into it, in its order, in words.
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
        let contradicted = AttestationResult { level: Level::SelfReported, ..result };
        assert_eq!(
            contradicted.level_at(1_000 + FRESH_S),
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
                registers: BTreeMap::from([(0, "00".to_owned()), (11, "11".to_owned())]),
                firmware_log: "f".into(),
                phases_log: "p".into(),
            },
            "GET /devices/{id}/attestation": Attestation {
                level: Level::VerifiedBoot,
                level_code: "L4".into(),
                is_fresh: true,
                result: Some(result),
                tpm: Some(Tpm { ek_sha256: "e".into(), maker: Some("hardware".into()), description: "d".into(), bound_s: 1 }),
                registers: vec![MeasuredRegister { register: 4, title: "t".into(), value: "v".into(), events: vec!["e".into()] }],
            },
        }));
    }
}
