//! Bodies about the index of a suite: what profiles are checked against, and searches in it.

use serde::{Deserialize, Serialize};

/// The index of a suite against which profiles are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IndexedSuite {
    /// The suite.
    #[schema(example = "trixie")]
    pub suite: String,
    /// SHA-256 of the index, hexadecimal.
    pub digest: String,
    /// Whether the index has the units and programs of every package. Otherwise units and programs
    /// are checked only in profiles whose packages were all built before.
    pub has_contents: bool,
}

/// `GET /profiles/packages`: packages and units of the suite that fit a search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SuiteSearch {
    /// What was searched; `None` if the server has no index yet. Its build workers make it.
    pub suite: Option<IndexedSuite>,
    /// Packages whose name or summary contains every word; names that begin with it first.
    pub packages: Vec<FoundPackage>,
    /// Units whose name contains every word; names that begin with it first.
    pub units: Vec<FoundUnit>,
}

/// A package of the suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FoundPackage {
    /// Name.
    #[schema(example = "nginx")]
    pub name: String,
    /// Version.
    pub version: String,
    /// What it is, in a few words.
    pub summary: String,
    /// Size on the disk, KiB.
    pub size_kib: u64,
}

/// A system unit of the suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FoundUnit {
    /// Name.
    #[schema(example = "nginx.service")]
    pub name: String,
    /// Packages that bring it.
    pub packages: Vec<String>,
}

/// `GET /worker/v1/suites/{suite}`: the index that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownIndex {
    /// SHA-256 of the index, hexadecimal; `None` if there is none.
    pub digest: Option<String>,
}

/// Longest text of a search, bytes.
pub const SEARCH_TEXT_MAX: usize = 200;
/// Largest number of packages, and of units, that a search returns.
pub const SEARCH_LIMIT_MAX: u32 = 100;
