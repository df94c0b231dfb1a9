//! Bodies of the HTTP API about the trust bundle and about approvals of signing requests.

use crate::wire::device::SignedBundle;
use serde::{Deserialize, Serialize};

/// `POST /trust-bundle`: imports the result of a root ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBundle {
    /// The signed trust bundle.
    pub bundle: SignedBundle,
    /// The transcript of the ceremony: what was done with the root key. These are the signed bytes.
    pub transcript: String,
    /// Signature of the root CA's key over the transcript: ECDSA, DER, base64.
    pub transcript_signature: String,
    /// Import the bundle even if devices have certificates of a device intermediate CA that it
    /// does not contain. The server then refuses these certificates. Devices with a TPM get new
    /// ones by themselves; devices whose key is a file need a readmission. All other checks stay.
    #[serde(default)]
    pub anyway: bool,
}

/// `POST /trust-bundle/issuer`: switches to another intermediate CA for new certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchIssuer {
    /// `device` or `server`.
    pub purpose: String,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// Switch even if fewer than 99 % of the devices have installed the bundle.
    #[serde(default)]
    pub anyway: bool,
}

/// `GET /trust-bundle`: the trusted intermediate CAs, and how many devices know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustStatus {
    /// Version of the trust bundle; 0 before the first.
    pub version: u64,
    /// The trusted intermediate CAs.
    pub intermediates: Vec<Intermediate>,
    /// Number of devices that are not revoked.
    pub devices: u64,
    /// How many of these devices have installed this bundle.
    pub devices_with_it: u64,
    /// When the root CA's CRL in the bundle expires, Unix seconds; absent before the first bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_crl_ends_s: Option<u64>,
    /// What expires within a month, and what to do about it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A trusted intermediate CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Intermediate {
    /// `device`, `server` or `operator`.
    pub purpose: String,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// Name of the intermediate CA.
    pub name: String,
    /// When its certificate expires, Unix seconds.
    pub not_after_s: u64,
    /// Whether it issues the new certificates of its purpose.
    pub is_issuing: bool,
    /// Whether the signing service has its key.
    pub has_key: bool,
}

/// A signature and the id of the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// Id of the key that signed.
    pub key_id: String,
    /// The signature: ECDSA, DER, base64.
    pub signature: String,
}

/// `POST /builds/{build}/sign`: a signing request, signed by the requester; needed if the signing
/// service requires approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSignature {
    /// What to sign: canonical JSON. These are the signed bytes.
    pub intent: String,
    /// Signature of the requester.
    pub by: SignedBy,
}

fn one_key() -> u32 {
    1
}

/// `GET /builds/{build}/signature`: the approvals that this server's keys require to sign a build,
/// and the ones given so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignatureStatus {
    /// Whether this server has release keys.
    pub available: bool,
    /// Number of release keys that must sign before devices accept a release. If it is 1 and the
    /// server has that key, the server's signature alone is sufficient.
    #[serde(default = "one_key")]
    pub keys_needed: u32,
    /// Number of approvals required; 0 if the server was set up to sign without.
    pub approvals_needed: u32,
    /// Whether the requester's signature counts as an approval.
    pub requester_counts: bool,
    /// The approvers.
    pub approvers: Vec<Approver>,
    /// Id of the release key that will sign.
    #[serde(default)]
    pub release_key: String,
    /// The signing request: canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Names of the approvers who have approved.
    pub approved_by: Vec<String>,
}

/// A person who may approve releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approver {
    /// Name, for example `alice`.
    pub name: String,
    /// Id of the approver key.
    pub key_id: String,
}
