//! systemd units, timers and containers.

use super::is_default;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A systemd unit: enabled, disabled, masked, changed by drop-ins, or added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unit name, for example `kiosk.service`.
    #[schema(example = "nginx.service")]
    pub name: String,
    /// Whether the unit starts at boot.
    #[serde(default)]
    pub state: UnitState,
    /// Text of the unit file, for a unit that no package contains.
    #[schema(format = "multiline")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Changes to the unit of a package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_ins: Vec<DropIn>,
}

/// Whether a unit starts at boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// The unit starts at boot.
    #[default]
    Enabled,
    /// The unit starts only if another unit or a user starts it.
    Disabled,
    /// The unit cannot be started.
    Masked,
}

/// A drop-in of a unit (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropIn {
    /// Name, unique in the unit; the file gets the suffix `.conf`.
    #[schema(example = "memory")]
    pub name: String,
    /// Text, with its section.
    #[schema(format = "multiline", example = "[Service]\nMemoryMax=512M\n")]
    pub text: String,
}

/// Starts a service at certain times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// The service to start, for example `report.service`. The timer gets the same name.
    #[schema(example = "report.service")]
    pub service: String,
    /// Times as in systemd.time(7).
    #[schema(example = "Mon..Fri 06:30")]
    pub on_calendar: String,
    /// Start at once if a time was missed while the device was off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub persistent: bool,
    /// Maximum random delay, seconds, so that a fleet does not start at the same moment.
    #[schema(maximum = 86400)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub random_delay_s: u32,
}

/// A container that systemd runs with Podman (Quadlet, podman-systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name; the unit is `NAME.service`.
    #[schema(example = "web")]
    pub name: String,
    /// Image with its digest.
    #[schema(example = "registry.example.com/web@sha256:…")]
    pub image: String,
    /// Arguments of the container's program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Published ports, `HOST:CONTAINER` or `ADDRESS:HOST:CONTAINER`.
    #[schema(example = json!(["8080:80"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Volumes, `PATH:PATH` or `PATH:PATH:ro`.
    #[schema(example = json!(["/var/lib/web:/data"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The container's root file system is read-only.
    #[schema(default = true)]
    #[serde(default = "super::yes")]
    pub read_only: bool,
}
