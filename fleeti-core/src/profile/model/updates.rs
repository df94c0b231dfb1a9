//! Rules for updates that are part of the image, and raw fragments.

use crate::attestation::Level;
use serde::{Deserialize, Serialize};

/// Whether a new image must reach the server before the device keeps it. If it does not reach the
/// server in time, the device rolls back to the previous image. It tries the new image again after
/// the previous one has reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerContact {
    /// Keep a new image even if it has not reached the server.
    #[serde(default)]
    pub optional: bool,
    /// Seconds from the start of the health checks within which the image must reach the server.
    #[serde(default = "default_deadline_s")]
    pub deadline_s: u32,
}

fn default_deadline_s() -> u32 {
    600
}

impl Default for ServerContact {
    fn default() -> Self {
        Self { optional: false, deadline_s: default_deadline_s() }
    }
}

/// How a device uses the audit log before it installs a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseLog {
    /// Install a release even if it is not in the audit log, or if the newest checkpoint is too
    /// old.
    #[serde(default)]
    pub optional: bool,
    /// Maximum age of the checkpoint, days. An older one may hide newer releases.
    #[serde(default = "default_age_days_max")]
    pub age_days_max: u32,
}

fn default_age_days_max() -> u32 {
    7
}

impl Default for ReleaseLog {
    fn default() -> Self {
        Self { optional: false, age_days_max: default_age_days_max() }
    }
}

/// Minimum trust that this image asks for. The policy of a fleet can ask for more, never for less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// Minimum level to receive updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Level>,
    /// Minimum level to count as a success in a rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Level>,
    /// Minimum level to receive secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Level>,
}

/// Raw fragments for one base. Fleeti does not check what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Shell commands that run in the root of a Debian image after the packages are installed.
    #[schema(format = "multiline")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub debian: String,
    /// A NixOS module.
    #[schema(format = "multiline")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nixos: String,
}
