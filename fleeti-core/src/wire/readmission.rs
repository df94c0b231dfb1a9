//! Devices that were offline for too long: transitions from old trust anchors to new ones, and
//! devices with expired certificates.

use crate::id::{DeviceId, FleetId};
use serde::{Deserialize, Serialize};

/// `POST /fleets/{fleet}/readmission`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReadmission {
    /// Why devices are readmitted. Kept in the audit log.
    pub reason: String,
    /// How long the readmission lasts, seconds: 60 to 2,592,000.
    pub valid_s: u32,
}

/// A readmission. While it lasts, a device with an expired certificate and a key in a file may
/// renew with that key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readmission {
    /// The fleet whose devices are readmitted.
    pub fleet: FleetId,
    /// When it ends, Unix seconds.
    pub until_s: u64,
    /// Number of devices that it applies to: not revoked, key in a file, certificate expired.
    pub devices: u64,
}

/// `GET /transitions.json`, anonymous: one of the documents that lead from an old trust anchor to
/// the next. See `fleeti_pki::transition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignedTransition {
    /// Canonical JSON: the signed bytes.
    pub transition: String,
    /// Key id and signature (ECDSA, DER, base64) of each signer.
    pub signatures: Vec<(String, String)>,
}

/// `POST /renew/readmitted`: requests a new certificate for a device whose old one expired and
/// whose key is in a file, while a readmission of its fleet lasts. Anonymous: the old key
/// authorises the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadmitRequest {
    /// Device id.
    pub device: DeviceId,
    /// PKCS#10 request, PEM, signed by the key to certify.
    pub csr_pem: String,
    /// Key of the expired certificate: SubjectPublicKeyInfo, DER, base64.
    pub public_key: String,
    /// Signature by that key over device, request and connection: ECDSA, DER, base64.
    pub signature: String,
}
