//! What an image states about itself to the agent: the build writes it, the agent reads it.

use crate::id::Version;
use crate::profile::{Diagnostic, HealthCheck, ReleaseLog, Secret, ServerContact, SupportKey};
use serde::{Deserialize, Serialize};

/// `/usr/lib/fleeti/image.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The device installs no older version than this.
    pub minimum_version: Version,
    /// The pattern of the host name, with `{id}` for the device id.
    pub hostname: String,
    /// The time zone, of the IANA database: windows without a zone of their own are in it.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The checks that must succeed before a boot is kept.
    pub health_checks: Vec<HealthCheck>,
    /// The policy for the audit log.
    #[serde(default)]
    pub release_log: ReleaseLog,
    /// Whether a boot is kept without contact to the server.
    #[serde(default)]
    pub server_contact: ServerContact,
    /// The secrets that a device with this image needs to reach the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_secrets: Vec<Secret>,
    /// The diagnostics that a command can name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// The keys that support bundles can be encrypted to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub support_keys: Vec<SupportKey>,
    /// Folders below `state` of the data partition that a factory reset empties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wiped: Vec<String>,
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}
