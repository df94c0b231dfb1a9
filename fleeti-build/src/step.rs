//! Names of a build's steps and files, and the output of a step.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest [`ArtifactName`].
const NAME_MAX: usize = 64;

/// The name of a file or of a step of a build: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and
/// `-`, starting with a letter or a digit, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactName(String);

/// A text that is not an [`ArtifactName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name of a file or step: 1 to {NAME_MAX} characters of a-z, 0-9, '.', '_' and '-'"
)]
pub struct NoArtifactName(String);

impl ArtifactName {
    /// A name from this crate.
    pub(crate) fn ours(name: &'static str) -> Self {
        Self(name.to_owned())
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactName {
    type Err = NoArtifactName;
    fn from_str(text: &str) -> Result<Self, NoArtifactName> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts && text.len() <= NAME_MAX && text.bytes().all(is_plain) && !text.contains("..") {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoArtifactName(text.chars().take(2 * NAME_MAX).collect()))
        }
    }
}
impl TryFrom<String> for ArtifactName {
    type Error = NoArtifactName;
    fn try_from(text: String) -> Result<Self, NoArtifactName> {
        text.parse()
    }
}
impl From<ArtifactName> for String {
    fn from(name: ArtifactName) -> Self {
        name.0
    }
}
impl Borrow<str> for ArtifactName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl AsRef<Path> for ArtifactName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}
impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A derivation and its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Path of the derivation.
    pub derivation: PathBuf,
    /// Path of its output.
    pub output: PathBuf,
}
