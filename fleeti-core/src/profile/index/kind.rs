//! What names of an index name.

use super::super::rules::{SYSTEM_GROUPS, SYSTEM_USERS};
use serde::Deserialize;

/// What a name of an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexedKind {
    /// A package.
    Package,
    /// A system unit.
    Unit,
    /// A program, by its path.
    Program,
    /// A user.
    User,
    /// A group.
    Group,
}

impl IndexedKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Package, Self::Unit, Self::Program, Self::User, Self::Group];

    /// The first letter of its lines in the index.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Package => b'P',
            Self::Unit => b'U',
            Self::Program => b'B',
            Self::User => b'A',
            Self::Group => b'G',
        }
    }

    /// What it is called.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Unit => "unit",
            Self::Program => "program",
            Self::User => "user",
            Self::Group => "group",
        }
    }

    /// Names that every image has, whatever its packages are.
    pub(super) fn of_base(self) -> &'static [&'static str] {
        match self {
            Self::User => SYSTEM_USERS,
            Self::Group => SYSTEM_GROUPS,
            Self::Package | Self::Unit | Self::Program => &[],
        }
    }
}
