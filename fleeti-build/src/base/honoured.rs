//! What a base honours. A field that it does not honour is refused by its path before anything is
//! fetched, never ignored.

use fleeti_core::profile::{self, BaseName, Profile};
use fleeti_core::wire::problem::FieldError;

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
    pub base: BaseName,
    /// Path of the field, for example `kernel.flavour`.
    pub path: String,
    /// Why the base cannot honour it; `None` if a later version may.
    pub why: Option<&'static str>,
}

impl Ignored {
    /// What is wrong with the field.
    #[must_use]
    pub fn message(&self) -> String {
        let base = self.base;
        match self.why {
            None => format!("the base {base} does not honour this field yet"),
            Some(why) => format!("the base {base} cannot honour this: {why}"),
        }
    }

    /// As the server and the command line report it.
    #[must_use]
    pub fn to_error(&self) -> FieldError {
        FieldError {
            path: self.path.clone(),
            message: self.message(),
            remedy: self.remedy().to_owned(),
            suggestion: None,
        }
    }

    /// What the author can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.why {
            None => "remove it, or build on a later Fleeti",
            Some(_) => "remove it, or choose another base",
        }
    }
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// Checks that every field that a profile sets is in a list as [`profile::fields`] has them, and that
/// nothing was refused before.
///
/// # Errors
/// [`HonourError::Fields`] with every other field.
pub(super) fn check(
    base: BaseName,
    honoured: &[&str],
    impossible: &[(&str, &'static str)],
    refused: Vec<Ignored>,
    profile: &Profile,
) -> Result<(), HonourError> {
    let paths = profile::beyond(profile, honoured)?;
    let why = |path: &str| {
        let pattern = profile::pattern(path);
        impossible.iter().find(|(field, _)| *field == pattern).map(|(_, why)| *why)
    };
    let fields = paths.into_iter().map(|path| Ignored { base, why: why(&path), path });
    let found: Vec<_> = fields.chain(refused).collect();
    if found.is_empty() { Ok(()) } else { Err(HonourError::Fields(found)) }
}
