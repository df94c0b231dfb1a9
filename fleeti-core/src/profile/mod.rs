//! A profile: the declarative description of an image, as its author writes it.
//!
//! [`Profile`] is the typed model. A document is TOML; it may extend fragments of a [`Library`]
//! (package sets, baselines, templates, other profiles). [`resolve`] merges them and returns a
//! profile in which everything is said, or *all* findings, each with path, line and remedy.
//! [`Revision`] is an immutable profile with a number and a digest.
//!
//! ```
//! let text = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\nsoftware.packages = [\"nginx\"]\n";
//! let profile = fleeti_core::profile::check(text).unwrap();
//! assert_eq!(profile.software.packages, ["nginx"]);
//! ```

mod diff;
mod document;
mod effects;
mod finding;
mod honoured;
mod index;
mod library;
mod merge;
mod model;
mod path;
mod reserved;
mod resolve;
mod rules;
mod schema;
mod shape;

pub use crate::wire::problem::Suggestion;
pub use diff::{Change, diff};
pub use effects::{Effects, Image, Installed, effects};
pub use finding::{Finding, Severity, nearest};
pub use honoured::{beyond, fields};
pub use index::{
    Brought, FoundName, INDEX_MAX, IndexError, IndexHead, IndexParts, IndexText, IndexedKind,
    IndexedPackage, PackageFacts, SecurityVersion, SuiteFindings, SuiteIndex, against_suite,
};
pub use library::{Builtin, Fragment, Kind, Library, Missing};
pub use model::*;
pub use path::pattern;
pub use resolve::{
    Draft, Inherited, InheritedValue, ListRule, Resolved, SOURCES_MAX, Step, check, draft,
    draft_with, extends, list_rule, resolve, resolve_with,
};
pub use schema::json_schema;

use crate::canonical::{self, CanonicalError};
use crate::id::{Architecture, Line};
use crate::wire::problem::FieldError;
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
    #[schema(example = "kiosk")]
    pub name: Line,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Processor architecture of the devices.
    pub architecture: Architecture,
    /// The distribution that images are made of.
    #[serde(default, skip_serializing_if = "model::is_default")]
    pub base: BaseName,
    /// Host name, language, time zone and keyboard.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub identity: Identity,
    /// Local users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Local groups that no package creates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// What users and groups may do with sudo.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sudo: Vec<SudoRule>,
    /// Packages and where they come from.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub software: Software,
    /// systemd units to enable, disable, mask, change or add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Services that start at certain times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// Containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
    /// Interfaces, names, time, proxy and packet filter.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub network: Network,
    /// Files to write, with their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Secrets of the fleet that this profile uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Values that differ from site to site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub site: Vec<SiteValue>,
    /// The kernel and its settings.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub kernel: Kernel,
    /// Firmware and drivers for real hardware.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub hardware: Hardware,
    /// Security settings.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub security: Security,
    /// Sizes of the disk.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub storage: Storage,
    /// What persists over updates and rollbacks.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub state: State,
    /// Checks that must succeed before a new image is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// Diagnostics that an operator can run on a device, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// Keys that support bundles can be encrypted to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub support_keys: Vec<SupportKey>,
    /// Minimum trust that this image asks for.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub floors: Floors,
    /// How a device uses the audit log before it installs a release.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub release_log: ReleaseLog,
    /// Whether a new image must reach the server before the device keeps it.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub server_contact: ServerContact,
    /// Raw fragments for one base. Fleeti does not check what they do.
    #[serde(
        default,
        skip_serializing_if = "model::is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub extension: Extension,
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

/// Every rule that a profile breaks. For a profile that was not parsed from text, and so has no
/// lines.
#[must_use]
pub fn broken_rules(profile: &Profile) -> Vec<FieldError> {
    rules::broken(profile)
}
