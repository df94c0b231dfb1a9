//! Bodies of requests and responses about documents of profiles.

use crate::id::Line;
use crate::profile::{Change, Effects, Finding, Kind, Profile};
use crate::wire::suite::IndexedSuite;
use serde::{Deserialize, Serialize};

/// `POST /profiles/check` and `POST /profiles/documents`: a document as its author writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileText {
    /// TOML, at most 1 MiB.
    pub text: String,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckedProfile {
    /// Errors and warnings, ordered by line.
    pub findings: Vec<Finding>,
    /// The profile with everything that it inherits; `None` if there are errors.
    pub profile: Option<Profile>,
    /// The fragments that it extends, directly and indirectly, in the order of merging.
    pub extends: Vec<String>,
    /// The index against which packages, units, programs, users and groups were checked; `None` if
    /// the server has none yet: then only the rules were checked.
    pub suite: Option<IndexedSuite>,
}

/// A fragment that a revision of a profile was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MadeOf {
    /// Name, as `extends` lists it.
    #[schema(example = "profile/base")]
    pub name: String,
    /// SHA-256 of its text, hexadecimal.
    pub digest: String,
    /// Number of its revision, if it is a profile of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// Number of the newest revision of that profile, if there is a newer one now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<u32>,
}

/// A fragment that profiles can extend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LibraryEntry {
    /// Name, as `extends` lists it.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// One sentence.
    pub summary: String,
    /// The document, TOML.
    pub text: String,
}

/// What differs between two revisions of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileChanges {
    /// The profile.
    pub line: Line,
    /// Number of the earlier revision.
    pub from: u32,
    /// Number of the later revision.
    pub to: u32,
    /// Fields and entries that differ, ordered by path.
    pub changes: Vec<Change>,
    /// What changes on a device.
    pub effects: Effects,
    /// Number of devices that run an image of this line or are to run one.
    pub devices: u64,
}
