//! What a base honours. A field that it does not honour is refused by its path before anything is
//! fetched, never ignored.

use fleeti_core::profile::{self, Profile};

/// Why a base refuses a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HonourError {
    /// The profile sets fields that the base does not honour yet.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Fields(Vec<Ignored>),
    /// The profile cannot be serialized.
    #[error("the profile cannot be serialized: {0}")]
    Json(#[from] serde_json::Error),
}

/// A field that a base does not honour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Name of the base.
    pub base: &'static str,
    /// Path of the field, for example `kernel.flavour`.
    pub path: String,
}

impl Ignored {
    /// What is wrong with the field.
    #[must_use]
    pub fn message(&self) -> String {
        format!("the base {} does not honour this field yet", self.base)
    }
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// Checks that every field that a profile sets is in a list as [`profile::fields`] has them.
///
/// # Errors
/// [`HonourError::Fields`] with every other field.
pub(super) fn check(
    base: &'static str,
    honoured: &[&str],
    profile: &Profile,
) -> Result<(), HonourError> {
    let paths = profile::beyond(profile, honoured)?;
    if paths.is_empty() {
        return Ok(());
    }
    Err(HonourError::Fields(paths.into_iter().map(|path| Ignored { base, path }).collect()))
}
