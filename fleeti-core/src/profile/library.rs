//! Fragments that a profile can extend: sets, baselines and templates, shipped as data.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a fragment is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = FragmentKind)]
pub enum Kind {
    /// Packages that belong together.
    PackageSet,
    /// Users that belong together.
    UserSet,
    /// Services that belong together, with their files and state.
    ServiceSet,
    /// Security settings.
    Baseline,
    /// A whole system to start from.
    Template,
    /// Another profile.
    Profile,
}

impl Kind {
    /// Every kind, in the order in which fragments are listed.
    pub const ALL: [Self; 6] = [
        Self::PackageSet,
        Self::UserSet,
        Self::ServiceSet,
        Self::Baseline,
        Self::Template,
        Self::Profile,
    ];

    /// The kind in words.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::PackageSet => "package set",
            Self::UserSet => "user set",
            Self::ServiceSet => "service set",
            Self::Baseline => "baseline",
            Self::Template => "template",
            Self::Profile => "profile",
        }
    }
}

/// A fragment of a profile: TOML in which every field may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Name, as `extends` lists it.
    pub name: Cow<'static, str>,
    /// What it is for.
    pub kind: Kind,
    /// Text, TOML.
    pub text: Cow<'static, str>,
}

impl Fragment {
    /// The first line of the description: the first comment of the text.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.text.lines().next().map_or("", |line| line.trim_start_matches(['#', ' ']))
    }
}

/// Why there is no fragment of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is wrong.
    pub message: String,
    /// How to fix it; `None` for a name that is near, or the list of names.
    pub remedy: Option<String>,
}

/// Where fragments come from.
pub trait Library {
    /// The fragment of this name.
    fn find(&self, name: &str) -> Option<Fragment>;
    /// All names, for "did you mean".
    fn names(&self) -> Vec<String>;
    /// Why [`Self::find`] found nothing, if there is more to say than that.
    fn missing(&self, _name: &str) -> Option<Missing> {
        None
    }
}

/// The fragments that are shipped with Fleeti.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

macro_rules! fragment {
    ($kind:ident, $name:literal) => {
        ($name, Kind::$kind, include_str!(concat!("library/", $name, ".toml")))
    };
}

const FRAGMENTS: &[(&str, Kind, &str)] = &[
    fragment!(PackageSet, "packages/minimal"),
    fragment!(PackageSet, "packages/server"),
    fragment!(PackageSet, "packages/kiosk"),
    fragment!(PackageSet, "packages/gateway"),
    fragment!(PackageSet, "packages/container-host"),
    fragment!(PackageSet, "packages/developer"),
    fragment!(UserSet, "users/operators"),
    fragment!(UserSet, "users/kiosk"),
    fragment!(ServiceSet, "services/ssh"),
    fragment!(ServiceSet, "services/web"),
    fragment!(ServiceSet, "services/firewall"),
    fragment!(Baseline, "baseline/standard"),
    fragment!(Baseline, "baseline/strict"),
    fragment!(Template, "template/web-server"),
    fragment!(Template, "template/kiosk"),
    fragment!(Template, "template/gateway"),
    fragment!(Template, "template/container-host"),
];

impl Builtin {
    /// All fragments, ordered by kind.
    #[must_use]
    pub fn all() -> Vec<Fragment> {
        let fragment = |(name, kind, text): &(&'static str, Kind, &'static str)| Fragment {
            name: Cow::Borrowed(*name),
            kind: *kind,
            text: Cow::Borrowed(*text),
        };
        FRAGMENTS.iter().map(fragment).collect()
    }
}

impl Library for Builtin {
    fn find(&self, name: &str) -> Option<Fragment> {
        Self::all().into_iter().find(|fragment| fragment.name == name)
    }
    fn names(&self) -> Vec<String> {
        FRAGMENTS.iter().map(|(name, ..)| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{check, resolve};

    fn text(extends: &str) -> String {
        format!("schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\nextends = [\"{extends}\"]\n")
    }

    #[test]
    fn every_fragment_can_be_extended_by_an_empty_profile() {
        for fragment in Builtin::all() {
            let resolved = resolve(&text(&fragment.name), &Builtin);
            assert!(resolved.is_ok(), "{}: {:?}", fragment.name, resolved.err());
            assert!(fragment.text.starts_with("# "), "{} has a summary", fragment.name);
        }
    }

    #[test]
    fn a_fragment_changes_what_it_is_extended_by() {
        let plain = check("schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\n").unwrap();
        for fragment in Builtin::all() {
            assert_ne!(check(&text(&fragment.name)).unwrap(), plain, "{}", fragment.name);
        }
    }
}
