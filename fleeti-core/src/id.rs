//! Names with a fixed form: device ids, image lines, versions, architectures.
//!
//! Ids are text of 1 to 64 characters of `[a-z0-9-]`, chosen by the server. An image line and a
//! version are short enough that `<line>_<version>_verity` fits into a GPT label of 36 characters.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// GPT partition labels hold 36 UTF-16 code units (UEFI 2.10, 5.3.3).
pub const GPT_LABEL_MAX: usize = 36;
/// Longest image line.
pub const LINE_MAX: usize = 16;
/// Longest version: `line` + `_` + version + `_verity` fits a GPT label.
pub const VERSION_MAX: usize = GPT_LABEL_MAX - LINE_MAX - 1 - "_verity".len();
/// Longest id.
pub const ID_MAX: usize = 64;
/// Longest label key.
pub const KEY_MAX: usize = 32;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not an id.
    #[error(
        "{0:?} is not an id: 1 to {ID_MAX} characters of a-z, 0-9 and '-', starting with a letter or digit"
    )]
    Id(String),
    /// Not an image line.
    #[error(
        "{0:?} is not an image line: 1 to {LINE_MAX} characters of a-z, 0-9 and '-', starting with a letter"
    )]
    Line(String),
    /// Not a version.
    #[error(
        "{0:?} is not a version: numbers without leading zeros joined by '.', at most {VERSION_MAX} characters"
    )]
    Version(String),
    /// Not the name of a secret.
    #[error(
        "{0:?} is not the name of a secret: 1 to {ID_MAX} characters of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
    )]
    Secret(String),
    /// Not a label key.
    #[error(
        "{0:?} is not a label key: 1 to {KEY_MAX} characters of a-z, 0-9, '-' and '_', starting with a letter"
    )]
    Label(String),
    /// Not a release name.
    #[error("{0:?} is not a release: write LINE@VERSION, as in kiosk@2")]
    Release(String),
    /// Not a known architecture.
    #[error("{0:?} is not an architecture: expected x86_64 or aarch64")]
    Architecture(String),
}

/// Whether a text is a word of `[a-z0-9-]` that does not begin with `-`, of 1 to `max` characters.
pub(crate) fn is_word(s: &str, max: usize) -> bool {
    !s.is_empty()
        && s.len() <= max
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
}

/// Implements the JSON Schema of a text with a pattern.
macro_rules! text_schema {
    ($name:ident, $description:expr, $pattern:expr, $max:expr) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($description))
                    .pattern(Some($pattern))
                    .max_length(Some($max))
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

text_schema!(DeviceId, "The id of a device.", "^[a-z0-9][a-z0-9-]*$", ID_MAX);
text_schema!(FleetId, "The id of a fleet.", "^[a-z0-9][a-z0-9-]*$", ID_MAX);
text_schema!(WorkerName, "The name of a build worker.", "^[a-z0-9][a-z0-9-]*$", ID_MAX);
text_schema!(AccountName, "The name of an account.", "^[a-z0-9][a-z0-9-]*$", ID_MAX);
text_schema!(ViewName, "The name of a saved view.", "^[a-z0-9][a-z0-9-]*$", ID_MAX);
text_schema!(LabelKey, "The key of a label.", "^[a-z][a-z0-9_-]*$", KEY_MAX);
text_schema!(
    SecretName,
    "The name of a secret, and of its file in /run/fleeti-secrets.",
    "^[a-z0-9][a-z0-9._-]*$",
    ID_MAX
);
text_schema!(
    Line,
    "The name of a profile and of the versions that are built from it.",
    "^[a-z][a-z0-9-]*$",
    LINE_MAX
);
text_schema!(
    Version,
    "A version: numbers without leading zeros, joined by dots.",
    "^(0|[1-9][0-9]*)(\\.(0|[1-9][0-9]*))*$",
    VERSION_MAX
);
text_schema!(
    ReleaseName,
    "The name of a release: image line and version, for example kiosk@2.",
    "^[a-z][a-z0-9-]{0,15}@(?=[0-9.]{1,12}$)(0|[1-9][0-9]*)(\\.(0|[1-9][0-9]*))*$",
    LINE_MAX + 1 + VERSION_MAX
);

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $error:ident, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(s) { Ok(Self(s.to_owned())) } else { Err(NameError::$error(s.to_owned())) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> { s.parse() }
        }
        impl From<$name> for String {
            fn from(v: $name) -> String { v.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

text_type!(
    /// The id of a device. It is the CN of the device certificate, the last part of its SAN URI
    /// `urn:fleeti:device:<id>`, and the MQTT client id.
    DeviceId, Id, |s| is_word(s, ID_MAX)
);
text_type!(
    /// The id of a fleet.
    FleetId, Id, |s| is_word(s, ID_MAX)
);
text_type!(
    /// The name of a build worker.
    WorkerName, Id, |s| is_word(s, ID_MAX)
);
text_type!(
    /// The name of an account: of a person, or of a program.
    AccountName, Id, |s| is_word(s, ID_MAX)
);
text_type!(
    /// The name of a saved view.
    ViewName, Id, |s| is_word(s, ID_MAX)
);
text_type!(
    /// The key of a label of devices.
    LabelKey, Label, |s| {
        let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        s.len() <= KEY_MAX && s.bytes().all(is_good) && s.starts_with(|c: char| c.is_ascii_lowercase())
    }
);
text_type!(
    /// The name of a secret of a fleet, and of its file in `/run/fleeti-secrets`.
    SecretName, Secret, |s| {
        let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        s.len() <= ID_MAX && s.bytes().all(is_good) && s.starts_with(|c: char| c.is_ascii_alphanumeric())
    }
);
text_type!(
    /// An image line: the name of a profile and of the versions that are built from it.
    Line, Line, |s| is_word(s, LINE_MAX) && s.starts_with(|c: char| c.is_ascii_lowercase())
);

impl DeviceId {
    /// The SAN URI of this device in its certificate.
    #[must_use]
    pub fn urn(&self) -> String {
        format!("{DEVICE_URN_PREFIX}{}", self.0)
    }
    /// Parses the id from a SAN URI.
    ///
    /// # Errors
    /// [`NameError::Id`] if the URI does not have the form that [`DeviceId::urn`] writes.
    pub fn from_urn(urn: &str) -> Result<Self, NameError> {
        urn.strip_prefix(DEVICE_URN_PREFIX).ok_or_else(|| NameError::Id(urn.to_owned()))?.parse()
    }
}

const DEVICE_URN_PREFIX: &str = "urn:fleeti:device:";

/// A version: numeric components, ordered as `systemd-analyze compare-versions` orders them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that sorts by its bytes as versions do: before each component, a letter for its length.
    #[must_use]
    pub fn sort_key(&self) -> String {
        let mut key = String::with_capacity(2 * self.0.len());
        for component in self.0.split('.') {
            // At most VERSION_MAX digits: `a` to `l`.
            key.push(char::from(b'`' + u8::try_from(component.len()).unwrap_or(u8::MAX >> 2)));
            key.push_str(component);
        }
        key
    }
}

impl FromStr for Version {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let component = |c: &str| {
            !c.is_empty()
                && c.bytes().all(|b| b.is_ascii_digit())
                && (c == "0" || !c.starts_with('0'))
        };
        if s.len() <= VERSION_MAX && s.split('.').all(component) {
            Ok(Self(s.to_owned()))
        } else {
            Err(NameError::Version(s.to_owned()))
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without leading zeros, a longer component is a larger number: no integer can overflow
        // here.
        let number = |a: &str, b: &str| a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        let (mut a, mut b) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (a.next(), b.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(x), Some(y)) => match number(x, y) {
                    Ordering::Equal => {}
                    other => return other,
                },
            }
        }
    }
}
impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl TryFrom<String> for Version {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}
impl From<Version> for String {
    fn from(v: Version) -> String {
        v.0
    }
}
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `<line>@<version>`: the name of a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseName {
    /// The image line.
    pub line: Line,
    /// The version within the line.
    pub version: Version,
}

impl FromStr for ReleaseName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (line, version) = s.split_once('@').ok_or_else(|| NameError::Release(s.to_owned()))?;
        Ok(Self { line: line.parse()?, version: version.parse()? })
    }
}
impl TryFrom<String> for ReleaseName {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}
impl From<ReleaseName> for String {
    fn from(v: ReleaseName) -> String {
        v.to_string()
    }
}
impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.line, self.version)
    }
}

/// The machine architecture of a profile, build, release and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm. No base supports it yet.
    Aarch64,
}

impl Architecture {
    /// The name that profiles use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}
impl FromStr for Architecture {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        match s {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(NameError::Architecture(other.to_owned())),
        }
    }
}
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_not_by_text() {
        let v = |s: &str| s.parse::<Version>().unwrap();
        assert!(v("1.0.10") > v("1.0.9"));
        assert!(v("2") < v("10"));
        assert!(v("1") < v("1.0"));
        assert!(v("2026.1") > v("2025.12"));
        assert_eq!(v("3.4").cmp(&v("3.4")), Ordering::Equal);
    }

    #[test]
    fn keys_of_versions_sort_by_their_bytes_as_versions_do() {
        let all = [
            "0", "1", "1.0", "1.0.9", "1.0.10", "1.9", "1.10", "2", "9.9", "10", "10.0", "99",
            "100",
        ];
        let all: Vec<Version> = all.iter().map(|v| v.parse().unwrap()).collect();
        for a in &all {
            for b in &all {
                assert_eq!(a.cmp(b), a.sort_key().cmp(&b.sort_key()), "{a} {b}");
            }
        }
    }

    #[test]
    fn versions_that_systemd_would_misread_are_refused() {
        for bad in ["", "01", "1.", ".1", "1.0-rc1", "1~2", "1+2", "v2", "1234567890123"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_label_fits_a_gpt_entry() {
        let label = format!("{}_{}_verity", "a".repeat(LINE_MAX), "1".repeat(VERSION_MAX));
        assert_eq!(label.len(), GPT_LABEL_MAX);
    }

    #[test]
    fn a_device_id_survives_the_way_through_its_urn() {
        let id: DeviceId = "dev-7f3a".parse().unwrap();
        assert_eq!(DeviceId::from_urn(&id.urn()).unwrap(), id);
        for bad in [
            "urn:fleeti:device:",
            "urn:fleeti:device:a/b",
            "urn:other:device:a",
            "urn:fleeti:device:é",
        ] {
            assert!(DeviceId::from_urn(bad).is_err(), "{bad}");
        }
    }
}
