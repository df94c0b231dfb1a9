//! How a device gets its identity and keeps it: provisioning, pairing, enrollment and renewal. All
//! times are Unix seconds.

use crate::id::{Architecture, DeviceId, FleetId, ReleaseName};
use crate::wire::attestation::{KeyProof, TpmEnrollment};
use serde::{Deserialize, Serialize};

/// Maximum validity of an enrollment token, in seconds.
pub const TOKEN_S_MAX: u32 = 30 * 86_400;

/// The enrollment record, which a device gets at provisioning: the address of its server and the
/// token with which it enrolls. It is stored as the SMBIOS type 11 string
/// `fleeti.enrollment=<base64 of this JSON>` or as the ESP file `/fleeti/enrollment.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentRecord {
    /// For example `https://fleeti.example:8443`.
    pub https_url: String,
    /// For example `fleeti.example:8883`.
    pub mqtt_address: String,
    /// SHA-256 of the root certificate (DER), hexadecimal. The image must contain the same root.
    pub root_sha256: String,
    /// One-time enrollment token; secret. Empty for a device that shows a pairing code and waits
    /// until an operator enters it.
    pub token: String,
    /// HTTP proxy through which the device makes all connections to the server, for example
    /// `http://proxy.example:3128`. The proxy resolves host names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Whether agents accept this proxy URL: `http://HOST:PORT`, without TLS, password or path.
#[must_use]
pub fn is_proxy(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':'));
    let is_plain = |host: &str| {
        !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
    };
    authority.is_some_and(|(host, port)| {
        is_plain(host)
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

impl std::fmt::Debug for EnrollmentRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollmentRecord")
            .field("https_url", &self.https_url)
            .finish_non_exhaustive()
    }
}

/// Prefix of the record as an SMBIOS type 11 string.
pub const SMBIOS_PREFIX: &str = "fleeti.enrollment=";
/// Path of the record's file, relative to the ESP.
pub const ESP_FILE: &str = "fleeti/enrollment.json";

/// `POST /enroll`. Anonymous: the token authorises the request.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The one-time token.
    pub token: String,
    /// PKCS#10 request, PEM. The server uses only its public key and its proof of possession.
    pub csr_pem: String,
    /// Architecture of the device.
    pub architecture: Architecture,
    /// The release that the device runs.
    pub running: ReleaseName,
    /// Proof that the key is in the device's TPM. Without it the key counts as a key in a file. A
    /// token that is bound to a TPM requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmEnrollment>,
}

/// The response to [`EnrollRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// The device id, chosen by the server.
    pub device: DeviceId,
    /// The fleet that the device joined.
    pub fleet: FleetId,
    /// The device certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to renew the certificate.
    pub renewal: RenewalWindow,
}

/// When to renew a certificate. Each device chooses a moment in the window, so that devices that
/// enrolled together do not renew together (compare RFC 9773, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalWindow {
    /// First second.
    pub start_s: u64,
    /// Last second.
    pub end_s: u64,
}

/// `POST /renew`: requests a new certificate while the old one is valid, for a new key or the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 request, PEM, signed by the key to certify. A new key replaces the old one when it
    /// is first used.
    pub csr_pem: String,
    /// Proof that the key is in the device's TPM. Required for a device whose key has been in its
    /// TPM before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyProof>,
}

/// `POST /renew/proved`: requests a new certificate after the old one expired. Anonymous: the TPM
/// authorises the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedRenewRequest {
    /// Device id.
    pub device: DeviceId,
    /// PKCS#10 request, PEM, signed by the key to certify.
    pub csr_pem: String,
    /// Proof that the key is in the TPM that is bound to the device.
    pub key: KeyProof,
}

/// `POST /pair`: a device without a token requests a pairing code. Anonymous.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// PKCS#10 request, PEM. The token will be valid for this key only.
    pub csr_pem: String,
    /// The release that the device runs.
    pub running: ReleaseName,
}

/// The response to [`PairRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct PairResponse {
    /// The token with which the device enrolls after an operator entered the code; secret.
    pub token: String,
    /// The pairing code that the device shows, for example `BCDF-GHJK`.
    pub code: String,
    /// When token and code expire, Unix seconds.
    pub expires_s: u64,
}

/// `POST /pair/wait`: the server responds when an operator entered the code, or after a while.
/// Anonymous.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairWait {
    /// The token from [`PairResponse`].
    pub token: String,
}

/// The response to [`PairWait`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PairWaited {
    /// Whether the token is valid now; if not, the device waits again.
    pub is_paired: bool,
}

/// The response to [`RenewRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewResponse {
    /// The device certificate, then its issuer, PEM.
    pub certificate_chain_pem: String,
    /// When to renew the new certificate.
    pub renewal: RenewalWindow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_in_the_debug_output_of_a_record() {
        let record = EnrollmentRecord {
            https_url: "u".into(),
            mqtt_address: "m".into(),
            root_sha256: "r".into(),
            token: "s3cret".into(),
            proxy: None,
        };
        assert!(!format!("{record:?}").contains("s3cret"));
    }
}
