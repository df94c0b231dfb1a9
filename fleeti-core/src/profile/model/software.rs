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
    /// Suites besides the main one of the base.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suites: Vec<Suite>,
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
}
