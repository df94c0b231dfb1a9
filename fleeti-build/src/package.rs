//! A package in a lock. Every field has a type of its own.
//!
//! A lock is a file that people exchange, and its values become URLs, file paths and names in the
//! Nix store. Therefore each field is a type that accepts only text of its form. INVARIANT: no
//! value of these types leads out of a directory, ends a line, or has a meaning for a shell.

use fleeti_core::canonical::is_sha256_hex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// Size limit of a package, bytes.
pub const PACKAGE_MAX: u64 = 1 << 30;
/// Longest field of a package, bytes.
const TEXT_MAX: usize = 255;

/// A text that does not have the form of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct WrongForm {
    text: String,
    what: &'static str,
}

impl WrongForm {
    pub(crate) fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.chars().take(TEXT_MAX).collect(), what }
    }
}

macro_rules! formed {
    ($(#[$doc:meta])* $name:ident, $what:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);
        impl FromStr for $name {
            type Err = WrongForm;
            fn from_str(text: &str) -> Result<Self, WrongForm> {
                let valid: fn(&str) -> bool = $valid;
                if text.len() <= TEXT_MAX && valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(WrongForm::new(text, $what))
            }
        }
        impl TryFrom<String> for $name {
            type Error = WrongForm;
            fn try_from(text: String) -> Result<Self, WrongForm> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

formed!(
    /// The name of a package (Debian Policy 5.6.1).
    PackageName, "a package name", is_package_name
);
formed!(
    /// The version of a package (Debian Policy 5.6.12).
    PackageVersion, "a package version",
    |text| text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~:-".contains(&b))
);
formed!(
    /// A SHA-256: 64 characters of `0-9` and `a-f`.
    Sha256Text, "a SHA-256 in lower-case hexadecimal", is_sha256_hex
);
formed!(
    /// Path of a package below a mirror, for example `pool/main/b/bash/bash_5.2.37-2_amd64.deb`. As
    /// in a URL, `%` and two digits stand for `+`, `~` or `:`, and for nothing else.
    PoolPath, "a path of a package below a mirror (pool/...)", is_pool_path
);

formed!(
    /// Path of a package below a further repository, or the file name of one's own package. As
    /// [`PoolPath`], but anywhere.
    PackagePath, "a relative path of a package", is_package_path
);
formed!(
    /// Where a package comes from: repository, suite and component, for example
    /// `debian trixie-security main`; a repository without components has none. `own` is the origin
    /// of packages that a profile names by digest.
    Origin, "the origin of a package", is_origin
);

/// The repository of the base.
pub(crate) const DEBIAN: &str = "debian";
/// The origin of packages that a profile names by digest.
pub(crate) const OWN: &str = "own";

impl Origin {
    /// Name of the repository: `debian`, `own`, or that of a further repository.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

fn is_origin(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    text == OWN
        || (2..=3).contains(&text.split(' ').count())
            && text.split(' ').all(is_word)
            && text.split(' ').next() != Some(OWN)
}

fn is_package_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    // apt reads a `-` at the end as a request to remove the package.
    text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !text.ends_with('-')
        && text.bytes().all(plain)
}

fn is_pool_path(text: &str) -> bool {
    text.starts_with("pool/") && is_package_path(text)
}

fn is_package_path(text: &str) -> bool {
    let decoded = ["%2b", "%7e", "%3a"].iter().fold(text.to_owned(), |text, code| {
        text.replace(code, "_").replace(&code.to_uppercase(), "_")
    });
    let is_part =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && !part.contains("..");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+~:-".contains(&b);
    decoded.ends_with(".deb") && decoded.bytes().all(plain) && decoded.split('/').all(is_part)
}

/// A package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// For example `bash`.
    pub name: PackageName,
    /// For example `5.2.37-2+b5`.
    pub version: PackageVersion,
    /// SHA-256 of the .deb.
    pub sha256: Sha256Text,
    /// Size, bytes.
    pub size: u64,
    /// Path below the mirror or the repository; of a package of the base a [`PoolPath`].
    pub path: PackagePath,
    /// Where it comes from. Absent in older locks, whose packages are all of
    /// `debian trixie main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Package {
    /// Name of the repository that it comes from.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.origin.as_ref().map_or(DEBIAN, Origin::repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_package_below_the_mirror_and_nowhere_else() {
        for good in [
            "pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb",
            "pool/main/g/gcc-14/libstdc%2b%2b6_14.2.0-19_amd64.deb",
            "pool/x_1%7erc1_all.deb",
        ] {
            assert!(good.parse::<PoolPath>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "pool/",
            "/pool/x.deb",
            "pool//x.deb",
            "pool/../x.deb",
            "pool/./x.deb",
            "pool/%2e%2e/x.deb",
            "pool/%2E./x.deb",
            "pool/a%2fb.deb",
            "pool/x.deb\"\noutput = \"/etc/cron.d/x",
            "pool/x.deb\n",
            "pool/x y.deb",
            "pool/$(id).deb",
            "pool/`id`.deb",
            "pool/x\\.deb",
            "pool/x'.deb",
            "pool/x.deb?a=.deb",
            "pool/x#.deb",
            "pool/x%00.deb",
            "pool/x%.deb",
            "http://host/pool/x.deb",
            "pool/x",
            "dists/x.deb",
            "pool/\u{1b}[2J.deb",
            "pool/-x.deb",
            "pool/@host/x.deb",
            "pool/ä.deb",
        ] {
            assert!(bad.parse::<PoolPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_a_repository_with_a_suite() {
        for good in ["own", "debian trixie-security main", "vendor stable", "v bookworm/x main"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in ["", "debian", "own x", "debian  main", " x y", "a b c d", "v s\nx", "v $(id)"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_versions_and_digests_have_their_form() {
        for bad in
            ["", "a", "Bash", "-bash", "bash-", "../x", "a b", "a/b", "a\n", "a_b", "a;b", "a$b"]
        {
            assert!(bad.parse::<PackageName>().is_err(), "{bad:?}");
        }
        for bad in ["", "x1", "1 2", "1/2", "1\n", "1'", "1\"", "1$", "1_2"] {
            assert!(bad.parse::<PackageVersion>().is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "/etc/cron.d/x",
            &"A".repeat(64),
            &"a".repeat(63),
            &"a".repeat(65),
            &format!("{}\n", "a".repeat(64)),
        ] {
            assert!(bad.parse::<Sha256Text>().is_err(), "{bad:?}");
        }
        assert!(
            "g++".parse::<PackageName>().is_ok()
                && "1:5.2.37-2+b5~rc1".parse::<PackageVersion>().is_ok()
        );
    }
}
