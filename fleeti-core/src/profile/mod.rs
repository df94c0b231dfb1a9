//! A profile: the declarative description of an image, as its author writes it.
//!
//! [`Profile`] is the typed model. [`check`] turns TOML text into a profile, or returns *all*
//! findings, each with path, line and remedy. [`Revision`] is an immutable profile with a number
//! and a digest.

mod check;
mod finding;
mod paths;
mod rules;
mod shape;

pub use check::check;
pub use finding::Finding;

use crate::canonical::{self, CanonicalError};
use crate::id::{Architecture, Line};
use serde::{Deserialize, Serialize};

/// The only schema version.
pub const SCHEMA: i64 = 1;
/// Longest text of a profile, bytes.
pub const TEXT_MAX: usize = 1 << 20;
/// Largest number of entries in any list of a profile.
pub const LIST_MAX: usize = 512;

/// The declarative description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Schema version of this document: 1.
    pub schema: i64,
    /// Name of the profile, and image line of its builds.
    pub name: Line,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Processor architecture of the devices.
    pub architecture: Architecture,
    /// Host name; `{id}` is replaced by the device id. An RFC 1123 label otherwise.
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// Packages to install, by their names in the base.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel arguments, appended to those that Fleeti sets.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
    /// Local users.
    #[serde(default)]
    pub users: Vec<User>,
    /// systemd units to enable, mask or add.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Files to write, with their content.
    #[serde(default)]
    pub files: Vec<File>,
    /// Commands that must succeed before a new image is kept.
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
    /// How a device uses the audit log before it installs a release.
    #[serde(
        default,
        skip_serializing_if = "ReleaseLog::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub release_log: ReleaseLog,
    /// Whether a new image must reach the server before the device keeps it.
    #[serde(default, skip_serializing_if = "ServerContact::is_default")]
    pub server_contact: ServerContact,
}

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

impl ServerContact {
    fn is_default(&self) -> bool {
        *self == Self::default()
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

impl ReleaseLog {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_hostname() -> String {
    "{id}".to_owned()
}

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    #[serde(default)]
    pub comment: String,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// OpenSSH public keys.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// Password hash in the form of crypt(5) (yescrypt, SHA-512). Without one the password is
    /// locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Login shell.
    #[serde(default = "default_shell")]
    pub shell: String,
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

/// A systemd unit to enable, mask or add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unit name, for example `kiosk.service`.
    pub name: String,
    /// Start the unit at boot.
    #[schema(default = true)]
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Text of the unit file, for a unit that no package contains.
    #[schema(format = "multiline")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

fn yes() -> bool {
    true
}

/// A file in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path below `/etc`, `/usr` or `/opt`.
    pub path: String,
    /// Content, UTF-8.
    #[schema(format = "multiline")]
    pub content: String,
    /// File mode, octal, for example `0644`.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_mode() -> String {
    "0644".to_owned()
}

impl File {
    /// The mode as a number; `None` if the text is not octal or sets other than permission bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|m| *m <= 0o777)
    }
}

/// A health check: a command that must succeed before a new image is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Name, shown when the check fails.
    pub name: String,
    /// Executable and its arguments. Exit status 0 means healthy.
    pub command: Vec<String>,
    /// Seconds after which the check counts as failed.
    #[serde(default = "default_timeout")]
    pub timeout_s: u32,
}

fn default_timeout() -> u32 {
    30
}

/// A revision of a profile: immutable, with a number and a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revision {
    /// Number of the revision; 1 for the first.
    pub number: u32,
    /// SHA-256 of the canonical JSON of `profile`, hexadecimal.
    pub digest: String,
    /// The profile.
    pub profile: Profile,
}

impl Revision {
    /// Numbers and hashes a profile.
    ///
    /// # Errors
    /// [`CanonicalError`] when the profile does not serialise.
    pub fn new(number: u32, profile: Profile) -> Result<Self, CanonicalError> {
        let digest = canonical::sha256_hex(&canonical::to_vec(&profile)?);
        Ok(Self { number, digest, profile })
    }
}

/// Path, message and remedy of every rule that a profile breaks. For a profile that was not parsed
/// from text, and so has no lines.
#[must_use]
pub fn broken_rules(profile: &Profile) -> Vec<(String, String, String)> {
    rules::broken(profile)
}
