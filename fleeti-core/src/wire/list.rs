//! Pages of lists, newest first. The address of the next page is in the header `Link` (RFC 8288),
//! with a cursor.

use crate::id::FleetId;
use serde::{Deserialize, Serialize};

/// Maximum number of items in a page.
pub const PAGE_MAX: u32 = 500;
/// Default number of items in a page.
pub const PAGE_DEFAULT: u32 = 200;
/// Maximum length of a cursor, bytes.
pub const CURSOR_MAX: usize = 512;

/// `GET /builds`, `GET /releases`: a page.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Where the page begins, from the `Link` of the page before; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 512)]
    pub cursor: Option<String>,
    /// Maximum number of items in the page, 1 to 500; default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// `GET /rollouts`: a page.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RolloutsQuery {
    /// Return only rollouts to this fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// Where the page begins, from the `Link` of the page before; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 512)]
    pub cursor: Option<String>,
    /// Maximum number of items in the page, 1 to 500; default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}
