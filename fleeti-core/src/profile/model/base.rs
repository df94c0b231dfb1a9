//! The base: the distribution that images are made of.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The distribution that images are made of.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BaseName {
    /// Debian stable.
    #[default]
    Debian,
    /// NixOS. Profiles are evaluated; no image of it was booted.
    Nixos,
}

/// What is known of the images of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The tests of Fleeti boot its images.
    Booted,
    /// Its configuration is evaluated. No boot of an image is recorded.
    Evaluated,
}

impl BaseName {
    /// The name, as in profiles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Nixos => "nixos",
        }
    }

    /// What is known of the images of this base. A base becomes [`Standing::Booted`] with the first
    /// test that boots an image of it.
    #[must_use]
    pub const fn standing(self) -> Standing {
        match self {
            Self::Debian => Standing::Booted,
            Self::Nixos => Standing::Evaluated,
        }
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Booted => "booted",
            Self::Evaluated => "evaluated, never booted",
        })
    }
}
