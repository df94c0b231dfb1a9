//! Letting devices of a fleet in again whose certificates have ended.

use crate::id::FleetId;
use serde::{Deserialize, Serialize};

/// `POST /fleets/{fleet}/readmission`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReadmission {
    /// Why; it stands in the audit log.
    pub reason: String,
    /// For how long, seconds: 60 to 2,592,000.
    pub valid_s: u32,
}

/// While it lasts, a device whose certificate has ended and whose key is a file renews by that key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readmission {
    /// Whose devices.
    pub fleet: FleetId,
    /// When it ends, Unix seconds.
    pub until_s: u64,
    /// How many devices it is about: not revoked, their key in a file, their certificate ended.
    pub devices: u64,
}
