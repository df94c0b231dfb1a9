//! The way of a device to a release: releases that it must run on the way, and ways that are blocked.

use crate::id::{ReleaseName, Version};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest number of blocked ways to one release.
pub const BLOCKED_MAX: usize = 20;

/// What operators say about the ways to a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePath {
    /// Why a device that runs a lower version must run this release before a higher one: 1 to 200
    /// characters. Absent if the release is no floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub floor: Option<String>,
    /// Versions whose devices are not offered the release, at most 20 ranges.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub blocked: Vec<Blocked>,
}

/// Versions from which a way is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BlockedWay)]
pub struct Blocked {
    /// The versions.
    pub from: Versions,
    /// Why: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// A range of versions; both ends belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VersionRange)]
pub struct Versions {
    /// The lowest version; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest: Option<Version>,
    /// The highest version; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Version>,
}

impl Versions {
    /// Whether a version is in the range.
    #[must_use]
    pub fn contain(&self, version: &Version) -> bool {
        self.lowest.as_ref().is_none_or(|lowest| lowest <= version)
            && self.highest.as_ref().is_none_or(|highest| version <= highest)
    }

    fn is_empty(&self) -> bool {
        matches!((&self.lowest, &self.highest), (Some(lowest), Some(highest)) if lowest > highest)
    }
}

/// A text that is no range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of versions, as in 1.2..1.9, ..1.9, 1.2.. or 1.4")]
pub struct UnknownVersions(String);

impl FromStr for Versions {
    type Err = UnknownVersions;
    fn from_str(text: &str) -> Result<Self, UnknownVersions> {
        let read = |end: &str| match end {
            "" => Ok(None),
            end => end.parse().map(Some).map_err(|_| UnknownVersions(text.to_owned())),
        };
        let (lowest, highest) = text.split_once("..").unwrap_or((text, text));
        let range = Self { lowest: read(lowest)?, highest: read(highest)? };
        let is_open = range.lowest.is_none() && range.highest.is_none();
        if is_open || range.is_empty() { Err(UnknownVersions(text.to_owned())) } else { Ok(range) }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.lowest, &self.highest) {
            (Some(one), Some(other)) if one == other => one.fmt(f),
            (lowest, highest) => {
                lowest.iter().try_for_each(|version| version.fmt(f))?;
                f.write_str("..")?;
                highest.iter().try_for_each(|version| version.fmt(f))
            }
        }
    }
}

/// A path that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Too many blocked ways.
    #[error("{0} blocked ways, must be at most {BLOCKED_MAX}")]
    TooMany(usize),
    /// A range without versions.
    #[error("the range {0} has no version")]
    Empty(Versions),
    /// A range with the release itself, or a higher one: a device never goes down.
    #[error("the range {from} has {version}: block lower versions only")]
    NotLower {
        /// The range.
        from: Versions,
        /// The version of the release.
        version: Version,
    },
    /// A range that is given twice.
    #[error("the range {0} is given twice")]
    Twice(Versions),
}

impl ReleasePath {
    /// Checks a path to a version that an operator wrote. The caller checks the reasons.
    ///
    /// # Errors
    /// [`PathError`] for the first part that can have no effect.
    pub fn check(&self, version: &Version) -> Result<(), PathError> {
        if self.blocked.len() > BLOCKED_MAX {
            return Err(PathError::TooMany(self.blocked.len()));
        }
        for (n, Blocked { from, .. }) in self.blocked.iter().enumerate() {
            if from.is_empty() {
                return Err(PathError::Empty(from.clone()));
            }
            if from.highest.as_ref().is_none_or(|highest| highest >= version) {
                let (from, version) = (from.clone(), version.clone());
                return Err(PathError::NotLower { from, version });
            }
            if self.blocked.iter().take(n).any(|other| other.from == *from) {
                return Err(PathError::Twice(from.clone()));
            }
        }
        Ok(())
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floor.is_none() && self.blocked.is_empty()
    }
}

/// What is known of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// Whether it is published and not revoked.
    pub is_good: bool,
    /// Whether it has a boot proof.
    pub is_proved: bool,
}

/// A release that devices with a lower version must run before they get a higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The release.
    pub release: ReleaseName,
    /// Why.
    pub reason: String,
    /// What is known of it.
    pub facts: ReleaseFacts,
}

/// The ways to the releases of one image line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    floors: Vec<Floor>,
    blocked: Vec<(Version, Blocked)>,
}

impl Paths {
    /// No floor, and nothing blocked.
    pub const NONE: &'static Self = &Self { floors: Vec::new(), blocked: Vec::new() };

    /// The paths of one line; `facts` says what is known of a floor.
    pub fn of<'a>(
        paths: impl Iterator<Item = (&'a ReleaseName, &'a ReleasePath)>,
        facts: impl Fn(&ReleaseName) -> ReleaseFacts,
    ) -> Self {
        let mut all = Self::default();
        for (release, path) in paths {
            let blocked = path.blocked.iter().cloned();
            all.blocked.extend(blocked.map(|way| (release.version.clone(), way)));
            all.floors.extend(path.floor.as_ref().map(|reason| Floor {
                release: release.clone(),
                reason: reason.clone(),
                facts: facts(release),
            }));
        }
        all.floors.sort_by(|a, b| a.release.version.cmp(&b.release.version));
        all
    }

    /// All floors below a version, the lowest first, with those above `running`.
    fn between(&self, running: Option<&Version>, to: &Version) -> impl Iterator<Item = &Floor> {
        self.floors.iter().filter(move |floor| {
            let version = &floor.release.version;
            version < to && running.is_none_or(|running| running < version)
        })
    }

    /// The floor that a device which runs `running` must run next, on its way up to `to`. A device
    /// that has not reported needs all.
    #[must_use]
    pub fn floor(&self, running: Option<&Version>, to: &Version) -> Option<&Floor> {
        self.between(running, to).next()
    }

    /// The floor that a device which goes back from a version to a lower one would leave behind it: it
    /// ran the floor, or a higher version.
    #[must_use]
    pub fn crossed(&self, from: &Version, to: &Version) -> Option<&Floor> {
        self.floors.iter().rev().find(|floor| {
            let version = &floor.release.version;
            to < version && version <= from
        })
    }

    /// Number of floors between two versions.
    #[must_use]
    pub fn floors(&self, running: Option<&Version>, to: &Version) -> usize {
        self.between(running, to).count()
    }

    /// Why a device that runs `running` is not offered `to`.
    #[must_use]
    pub fn blocked(&self, running: &Version, to: &Version) -> Option<&Blocked> {
        let found = self.blocked.iter().find(|(of, way)| of == to && way.from.contain(running));
        found.map(|(_, way)| way)
    }
}

#[cfg(test)]
mod tests;
