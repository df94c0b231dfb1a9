//! Bodies of the HTTP API about what counts and who agrees: the bundle of intermediates, and
//! signatures of people.

use crate::wire::device::SignedBundle;
use serde::{Deserialize, Serialize};

/// `POST /trust-bundle`: what came out of a ceremony of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBundle {
    /// The bundle.
    pub bundle: SignedBundle,
    /// What was done with the root, as it was signed.
    pub transcript: String,
    /// By the root's key: ECDSA, DER, base64.
    pub transcript_signature: String,
    /// Although devices have a certificate by an intermediate that is not in it: they cannot come
    /// any more.
    #[serde(default)]
    pub anyway: bool,
}

/// `POST /trust-bundle/issuer`: which intermediate signs from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchIssuer {
    /// `device` or `server`.
    pub purpose: String,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// Although less than 99 of 100 devices have taken the bundle.
    #[serde(default)]
    pub anyway: bool,
}

/// `GET /trust-bundle`: which intermediates count, and who knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustStatus {
    /// Version of the bundle; 0 before the first.
    pub version: u64,
    /// What counts.
    pub intermediates: Vec<Intermediate>,
    /// Devices that are not revoked.
    pub devices: u64,
    /// Those of them that have taken this bundle.
    pub devices_with_it: u64,
    /// When the revocation list of the root in it ends, Unix seconds; there is none before the
    /// first bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_list_ends_s: Option<u64>,
    /// What ends within a month, and what to do, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An intermediate that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Intermediate {
    /// `device`, `server` or `operator`.
    pub purpose: String,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub certificate_sha256: String,
    /// Its name.
    pub name: String,
    /// End of its validity, Unix seconds.
    pub not_after_s: u64,
    /// Whether it signs what is signed now.
    pub is_issuing: bool,
    /// Whether the signer has its key.
    pub has_key: bool,
}

/// A signature and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// Id of the key.
    pub key_id: String,
    /// ECDSA, DER, base64.
    pub signature: String,
}

/// `POST /builds/{build}/sign`: the request of a person, where the signer's policy wants approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSignature {
    /// What is to be signed: canonical JSON, as it was signed.
    pub intent: String,
    /// By who asks.
    pub by: SignedBy,
}

fn one_key() -> u32 {
    1
}

/// `GET /builds/{build}/signature`: whose word is needed before this server's keys sign a build,
/// and whose is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignatureStatus {
    /// Whether this server has keys that sign releases.
    pub available: bool,
    /// Release keys that devices ask for. Where it is one and the server holds it, that key alone
    /// is enough for them.
    #[serde(default = "one_key")]
    pub keys_needed: u32,
    /// How many must agree; none is a choice of who set the server up.
    pub approvals_needed: u32,
    /// Whether who asks may be one of them.
    pub requester_counts: bool,
    /// Who may.
    pub approvers: Vec<Approver>,
    /// Id of the release key that signs.
    #[serde(default)]
    pub release_key: String,
    /// What was asked for: canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Who has agreed, by name.
    pub approved_by: Vec<String>,
}

/// A person who may approve releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approver {
    /// As in `alice`.
    pub name: String,
    /// Id of their key.
    pub key_id: String,
}
