//! Which devices have a package: the question, and the answer of `GET /packages/devices`.
//!
//! ```
//! use fleeti_core::wire::package::PackageQuery;
//! let query: PackageQuery = "openssl < 3.5.1-1+deb13u2".parse().unwrap();
//! assert!(query.is_fitting("3.5.1-1") && !query.is_fitting("3.5.2-1"));
//! assert_eq!(query.to_string(), "openssl<3.5.1-1+deb13u2");
//! ```

use crate::id::{DeviceId, FleetId, ReleaseName};
use crate::package_version::compare;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Longest question, characters.
pub const QUERY_MAX: usize = 400;
/// Longest name of a package, and longest version, bytes.
const TEXT_MAX: usize = 255;
/// Largest number of releases in an answer.
pub const RELEASES_MAX: usize = 1000;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
}

impl Relation {
    /// Longer signs come first.
    const ALL: [Self; 5] = [Self::AtMost, Self::AtLeast, Self::Below, Self::Above, Self::Equal];

    const fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Above => ">",
        }
    }

    const fn is(self, order: Ordering) -> bool {
        match self {
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::AtLeast => order.is_ge(),
            Self::Above => order.is_gt(),
        }
    }
}

/// A package or a source package, perhaps with a range of versions: `openssl<3.5.1-1+deb13u2`.
/// Versions have the order of dpkg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageQuery {
    name: String,
    range: Option<(Relation, String)>,
}

/// A text that is no [`PackageQuery`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the name of a package, perhaps with `<`, `<=`, `=`, `>=` or `>` and a version")]
pub struct NoPackageQuery(String);

impl PackageQuery {
    /// Name of the package or source package.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a version is in the range.
    #[must_use]
    pub fn is_fitting(&self, version: &str) -> bool {
        self.range.as_ref().is_none_or(|(relation, bound)| relation.is(compare(version, bound)))
    }
}

impl FromStr for PackageQuery {
    type Err = NoPackageQuery;
    fn from_str(text: &str) -> Result<Self, NoPackageQuery> {
        let wrong = || NoPackageQuery(format!("{:?}", text.chars().take(80).collect::<String>()));
        let at = text.find(['<', '=', '>']);
        let (name, rest) = text.split_at(at.unwrap_or(text.len()));
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        let is_version = |b: u8| b.is_ascii_alphanumeric() || b".+~:-".contains(&b);
        let plain = |text: &str, is: &dyn Fn(u8) -> bool| {
            (1..=TEXT_MAX).contains(&text.len()) && text.bytes().all(is)
        };
        let range = if rest.is_empty() {
            None
        } else {
            let relation = Relation::ALL.into_iter().find(|r| rest.starts_with(r.sign()));
            let relation = relation.ok_or_else(wrong)?;
            let version = rest[relation.sign().len()..].trim();
            if !plain(version, &is_version) {
                return Err(wrong());
            }
            Some((relation, version.to_owned()))
        };
        if plain(name.trim(), &is_name) {
            Ok(Self { name: name.trim().to_owned(), range })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for PackageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.range {
            Some((relation, version)) => write!(f, "{}{version}", relation.sign()),
            None => Ok(()),
        }
    }
}

/// The devices that have a package. Revoked devices are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PackageDevices {
    /// The question, as it was understood.
    #[schema(example = "openssl<3.5.1-1+deb13u2")]
    pub query: String,
    /// Devices that prove with their TPM that they run such a release.
    pub proved: u64,
    /// Devices that report such a release and prove none.
    pub reported: u64,
    /// Devices of which it is not known: they have not reported, or the packages of their release
    /// are not known.
    pub unknown: u64,
    /// All other devices.
    pub others: u64,
    /// Published releases with such a package.
    pub releases: Vec<PackageRelease>,
    /// A page of the proved, reported and unknown devices, ordered by id.
    pub devices: Vec<PackageDevice>,
}

/// A published release with such a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PackageRelease {
    /// The release.
    pub release: ReleaseName,
    /// The packages.
    pub packages: Vec<ReleasePackage>,
    /// Devices that prove that they run it.
    pub proved: u64,
    /// Devices that report it and prove none.
    pub reported: u64,
}

/// A package of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleasePackage {
    /// Name.
    #[schema(example = "libssl3t64")]
    pub name: String,
    /// Version.
    #[schema(example = "3.5.1-1")]
    pub version: String,
    /// The source package that it was built from.
    #[schema(example = "openssl")]
    pub source: String,
    /// Version of the source package.
    #[schema(example = "3.5.1-1")]
    pub source_version: String,
}

/// A device in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PackageDevice {
    /// The device.
    pub id: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it runs, as far as that is known.
    pub release: Option<ReleaseName>,
    /// What the answer is based on.
    pub basis: Basis,
}

/// What is known of a device that has a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Its TPM proves the release.
    Proved,
    /// It reports the release.
    Reported,
    /// Its release, or what is in it, is not known.
    Unknown,
}

impl Basis {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Reported => "reported",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_its_range() {
        for (text, version, fits) in [
            ("openssl", "1", true),
            ("openssl<3.5.1-1", "3.5.1-1", false),
            ("openssl<3.5.1-1", "3.5.1-1~deb13u1", true),
            (" openssl <= 3.5.1-1 ", "3.5.1-1", true),
            ("libstdc++6=14.2.0-19", "14.2.0-19", true),
            ("tar>=1:1", "2", false),
            ("tar>1.9", "1.10", true),
        ] {
            let query: PackageQuery = text.parse().unwrap();
            assert_eq!(query.is_fitting(version), fits, "{text} {version}");
            assert_eq!(query.to_string().parse(), Ok(query));
        }
    }

    #[test]
    fn what_is_no_query_is_refused_and_shown_without_control_characters() {
        for bad in [
            "",
            " ",
            "<1",
            "Openssl",
            "a b",
            "openssl<",
            "openssl<1 2",
            "openssl<>1",
            "a\u{1b}[2J",
            "é",
        ] {
            let refused = bad.parse::<PackageQuery>().unwrap_err().to_string();
            assert!(!refused.contains('\u{1b}'), "{refused}");
        }
        assert!("a".repeat(256).parse::<PackageQuery>().is_err());
    }
}
