//! Packages and where they come from.

use super::is_default;
use serde::{Deserialize, Serialize};

/// Packages and where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// Packages to install, by their names in the base.
    #[schema(example = json!(["nginx", "curl"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Suites besides the main one. Security updates and updates of the stable release are always
    /// used where the mirror has them; if one is named here, a mirror without it is an error.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suites: Vec<Suite>,
    /// Packages to take from backports. All others come from the stable release.
    #[schema(example = json!(["cockpit"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backports: Vec<String>,
    /// Age limit of the signed package lists of further repositories and of all suites but the main
    /// one, in days. By default 90 for further repositories; Debian's lists expire by themselves.
    #[schema(example = 14)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_age_days_max: Option<u32>,
    /// Components of the archive besides `main`.
    #[schema(example = json!(["non-free-firmware"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Further package repositories, each with its own key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// Your own packages, pinned by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<OwnPackage>,
}

/// A suite of the archive besides the main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// Security updates.
    Security,
    /// Updates of the stable release.
    Updates,
    /// Newer versions from the next release, only for packages that ask for it.
    Backports,
}

/// A package repository besides the archive of the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Name, unique in the profile.
    #[schema(example = "vendor")]
    pub name: String,
    /// Address, `https://`.
    #[schema(example = "https://packages.example.com/debian")]
    pub url: String,
    /// Suite of the repository.
    #[schema(example = "stable")]
    pub suite: String,
    /// Components of the repository.
    #[schema(example = json!(["main"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Packages that the repository may bring, with what they need and the base does not have. All
    /// others come from the base.
    #[schema(example = json!(["vendor-agent"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// OpenPGP public key that signs the repository, in armour.
    #[schema(format = "multiline")]
    pub key: String,
}

/// A package of your own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPackage {
    /// Name of the package.
    #[schema(example = "acme-player")]
    pub name: String,
    /// SHA-256 of the .deb file, hexadecimal.
    pub sha256: String,
    /// Where the .deb file is: an `https://` address, or a path on the machine that builds.
    #[schema(example = "https://files.example.com/acme-player_1.0_amd64.deb")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}
