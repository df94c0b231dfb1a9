//! The jobs of an update that have windows.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a window is for.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpdateJob)]
pub enum Job {
    /// The device downloads the release and writes it to its other slot.
    Download,
    /// The device makes the release bootable: the next boot, for whatever reason, starts it.
    Install,
    /// The device reboots into the release.
    Reboot,
}

impl Job {
    /// All jobs, in their order.
    pub const ALL: [Self; 3] = [Self::Download, Self::Install, Self::Reboot];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Install => "install",
            Self::Reboot => "reboot",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
