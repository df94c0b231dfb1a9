//! Sizes of the disk, and what persists over updates.

use super::is_default;
use serde::{Deserialize, Serialize};

/// Sizes of the disk. They are fixed with the first release of an image line: an update writes into
/// the slots that a device's disk has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Size of the EFI system partition, MiB.
    #[schema(minimum = 256, maximum = 4096)]
    #[serde(default = "default_esp")]
    pub esp_mib: u32,
    /// Size of each root slot, MiB.
    #[schema(minimum = 256, maximum = 65536)]
    #[serde(default = "default_root")]
    pub root_mib: u32,
    /// Maximum size of `/var` outside the persistent directories, which is in memory, MiB.
    #[schema(minimum = 64, maximum = 65536)]
    #[serde(default = "default_var")]
    pub var_mib: u32,
}

fn default_esp() -> u32 {
    512
}
fn default_root() -> u32 {
    768
}
fn default_var() -> u32 {
    256
}

impl Default for Storage {
    fn default() -> Self {
        Self { esp_mib: default_esp(), root_mib: default_root(), var_mib: default_var() }
    }
}

/// What persists over updates and rollbacks. Everything else in `/etc` and `/var` is that of the
/// image after each boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of the persistent data. Raise it when a release changes the format of the data, so
    /// that the device keeps a copy until the update is committed.
    #[schema(minimum = 1)]
    #[serde(default = "one")]
    pub version: u32,
    /// Persistent directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<StateDirectory>,
}

fn one() -> u32 {
    1
}

impl Default for State {
    fn default() -> Self {
        Self { version: 1, directories: Vec::new() }
    }
}

/// A persistent directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateDirectory {
    /// Absolute path below `/var`, `/srv` or `/opt`.
    #[schema(example = "/var/lib/postgresql")]
    pub path: String,
    /// Owner.
    #[serde(default = "root")]
    pub owner: String,
    /// Group.
    #[serde(default = "root")]
    pub group: String,
    /// Mode, octal.
    #[schema(example = "0750")]
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Maximum size, MiB; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota_mib: u32,
    /// Belongs to the device's backup.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backup: bool,
    /// What a factory reset does with it.
    #[serde(default)]
    pub on_reset: OnReset,
}

fn root() -> String {
    "root".to_owned()
}
fn default_mode() -> String {
    "0755".to_owned()
}

/// What a factory reset does with a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReset {
    /// The directory is emptied.
    #[default]
    Wipe,
    /// The directory is kept.
    Keep,
}
