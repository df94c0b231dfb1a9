//! `/profiles/{line}/refresh-schedule`: when the server builds a line with refreshed packages.

use crate::id::Line;
use crate::windows::Window;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `PUT /profiles/{line}/refresh-schedule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRefreshSchedule {
    /// When a build may begin. A window without a zone is in UTC.
    #[schema(example = "tue,fri 02:00-05:00 Europe/Berlin")]
    pub window: Window,
}

/// When a line is built with refreshed packages: once each time that the window opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshSchedule {
    /// The image line.
    pub line: Line,
    /// When a build may begin.
    pub window: Window,
    /// When the next build begins, Unix seconds.
    pub next_s: u64,
    /// Account that set the window.
    pub set_by: String,
    /// What happened the last time; `null` before the first.
    pub last: Option<LastRefresh>,
}

/// What happened when a window opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastRefresh {
    /// When, Unix seconds.
    pub at_s: u64,
    /// The newest build that the schedule queued; `null` before the first.
    pub build: Option<String>,
    /// Why no build was queued the last time; `null` if one was.
    pub problem: Option<String>,
}
