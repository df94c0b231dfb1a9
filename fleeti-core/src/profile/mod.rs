//! A profile: the whole state of a system, as its author writes it.
//!
//! [`Profile`] is the typed model; [`check`] turns TOML text into it or into *all* its findings,
//! each with path, line and remedy; [`Revision`] is an immutable, numbered, hashed profile.

mod check;
mod paths;
mod rules;
mod shape;

pub use check::{Finding, check};

use crate::canonical::{self, CanonicalError};
use crate::id::{Architecture, Line};
use serde::{Deserialize, Serialize};

/// The only schema version so far.
pub const SCHEMA: i64 = 1;
/// Most characters of a profile's text.
pub const TEXT_MAX: usize = 1 << 20;
/// Most entries of any list in a profile.
pub const LIST_MAX: usize = 512;

/// A whole system, declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Schema version, [`SCHEMA`].
    pub schema: i64,
    /// The image line that this profile's builds belong to.
    pub name: Line,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Architecture of the device.
    pub architecture: Architecture,
    /// Host name; `{id}` stands for the device id. RFC 1123 label otherwise.
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// Packages of the base, by their names there.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel arguments, appended to the ones that Fleeti sets.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
    /// Local users.
    #[serde(default)]
    pub users: Vec<User>,
    /// systemd units to enable, mask or add.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Files with their content.
    #[serde(default)]
    pub files: Vec<File>,
    /// What must hold before a boot is called good.
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
    /// How the device looks at the audit log before it installs a release.
    #[serde(
        default,
        skip_serializing_if = "ReleaseLog::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub release_log: ReleaseLog,
    /// Whether a new image is kept only once the server was reached with it.
    #[serde(default, skip_serializing_if = "ServerContact::is_default")]
    pub server_contact: ServerContact,
}

/// Whether a new image is kept only once the server was reached with it. Where it is not in time,
/// the device goes back to the image before, and tries the new one again once that one has reached
/// the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerContact {
    /// Whether an image is kept as well that has not reached the server.
    #[serde(default)]
    pub optional: bool,
    /// Seconds from the health checks' start until it must be reached.
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

/// How a device looks at the audit log before it installs a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseLog {
    /// Whether a release is installed as well that is not in the log, or comes with an old
    /// statement.
    #[serde(default)]
    pub optional: bool,
    /// Days that the log's statement may be old; an older one may hide newer releases.
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
    /// A crypt(5) hash (yescrypt, SHA-512); without one the password is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Login shell.
    #[serde(default = "default_shell")]
    pub shell: String,
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

/// What to do with a systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unit name, as in `kiosk.service`.
    pub name: String,
    /// Whether it starts at boot.
    #[schema(default = true)]
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The unit file's text, for a unit that no package brings.
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
    /// UTF-8 content.
    #[schema(format = "multiline")]
    pub content: String,
    /// Octal mode, as in `0644`.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_mode() -> String {
    "0644".to_owned()
}

impl File {
    /// The mode as a number; `None` when the text is not octal or sets more than permission bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|m| *m <= 0o777)
    }
}

/// A condition of a healthy boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Shown when it fails.
    pub name: String,
    /// Program and arguments; exit status 0 is healthy.
    pub command: Vec<String>,
    /// Seconds until the check counts as failed.
    #[serde(default = "default_timeout")]
    pub timeout_s: u32,
}

fn default_timeout() -> u32 {
    30
}

/// An immutable, numbered profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revision {
    /// 1 for the first.
    pub number: u32,
    /// SHA-256 of the canonical JSON of `profile`, hexadecimal.
    pub digest: String,
    /// The document.
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

/// Path, message and remedy of every rule that a profile breaks, for one that did not come as text.
#[must_use]
pub fn broken_rules(profile: &Profile) -> Vec<(String, String, String)> {
    rules::broken(profile)
}
