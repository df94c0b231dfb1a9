//! How devices come back that were away too long: what old anchors say of new ones, and
//! certificates that have ended.

use crate::id::{DeviceId, FleetId};
use serde::{Deserialize, Serialize};

/// `POST /fleets/{fleet}/readmission`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReadmission {
    /// Why; it stands in the audit log.
    pub reason: String,
    /// For how long, seconds: 60 to 2,592,000.
    pub valid_s: u32,
}

/// While it lasts, a device whose certificate has ended and whose key is a file renews by that key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readmission {
    /// Whose devices.
    pub fleet: FleetId,
    /// When it ends, Unix seconds.
    pub until_s: u64,
    /// How many devices it is about: not revoked, their key in a file, their certificate ended.
    pub devices: u64,
}

/// `GET /transitions.json`, anonymous: a list of what old anchors say of new ones, see
/// `fleeti_pki::transition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignedTransition {
    /// Canonical JSON, as it was signed.
    pub transition: String,
    /// Key id and signature (ECDSA, DER, base64) of each signer.
    pub signatures: Vec<(String, String)>,
}

/// `POST /renew/readmitted`: a new certificate for a device whose old one has ended and whose key
/// is a file, while an operator lets devices of its fleet in again. Anonymous: the old key stands
/// for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadmitRequest {
    /// Who.
    pub device: DeviceId,
    /// PKCS#10 request, PEM, by the key that is to be certified.
    pub csr_pem: String,
    /// The key of the ended certificate: SubjectPublicKeyInfo, DER, base64.
    pub public_key: String,
    /// By that key, over device, request and connection: ECDSA, DER, base64.
    pub signature: String,
}
