//! Security fixes that a release lacks, in the HTTP API. Times are Unix seconds.

use crate::id::ReleaseName;
use serde::{Deserialize, Serialize};

/// Maximum number of fixes in a list.
pub const FIXES_MAX: usize = 1000;

/// `GET /fleets/{fleet}/fixes`: what the release of the fleet lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetFixes {
    /// The release that devices of the fleet should run: of its pin, or of its channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseName>,
    /// Whether the server can compare: it has the packages of the release and an index of the suite.
    pub is_known: bool,
    /// Number of fixes that the release lacks.
    pub count: u64,
    /// The fixes, the oldest first, at most 1000.
    #[schema(max_items = 1000)]
    pub fixes: Vec<MissingFix>,
}

/// A security fix that a release lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MissingFix {
    /// The package.
    pub package: String,
    /// Its version in the release.
    pub installed: String,
    /// The version that has the fix.
    pub fixed: String,
    /// When the fix was first seen.
    pub since_s: u64,
}
