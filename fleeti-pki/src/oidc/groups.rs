//! The groups of a person in an ID token. No group is guessed: a list that is missing, elsewhere or
//! too long is said to be so.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of groups of a person.
pub const GROUPS_MAX: usize = 256;
/// Maximum length of the name of a group, bytes.
pub const GROUP_MAX: usize = 256;

/// What an ID token says of the groups of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// All of them.
    Listed(BTreeSet<String>),
    /// The token has no such claim. The provider may not be configured to send it.
    Missing,
    /// The provider left them out because they are too many (the overage of Microsoft Entra ID), or
    /// names another place for them (OpenID Connect Core, 5.6.2).
    Elsewhere,
    /// More than [`GROUPS_MAX`], or a name longer than [`GROUP_MAX`].
    TooMany,
    /// The claim is no list of texts.
    Unreadable,
}

impl Groups {
    /// What to do about groups that are not listed; `None` if they are.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Listed(_) => None,
            Self::Missing => Some(
                "configure the provider to put the groups into the ID token, or correct the name of the claim",
            ),
            Self::Elsewhere => Some(
                "the person is in too many groups for one ID token: let the provider send only groups that are assigned to this application",
            ),
            Self::TooMany => {
                Some("let the provider send only groups that are assigned to this application")
            }
            Self::Unreadable => {
                Some("configure the provider to send the groups as a list of texts")
            }
        }
    }

    pub(super) fn of(claims: &BTreeMap<String, Value>, name: &str) -> Self {
        let names = claims.get("_claim_names").and_then(Value::as_object);
        let is_left_out = claims.get("hasgroups").and_then(Value::as_bool) == Some(true);
        // Also beside a list: that is then not all of them.
        if is_left_out || names.is_some_and(|names| names.contains_key(name)) {
            return Self::Elsewhere;
        }
        let Some(claim) = claims.get(name) else { return Self::Missing };
        let Some(list) = claim.as_array() else { return Self::Unreadable };
        if list.len() > GROUPS_MAX {
            return Self::TooMany;
        }
        let texts: Option<BTreeSet<_>> =
            list.iter().map(|group| group.as_str().map(str::to_owned)).collect();
        match texts {
            Some(all) if all.iter().any(|group| group.len() > GROUP_MAX) => Self::TooMany,
            Some(all) => Self::Listed(all),
            None => Self::Unreadable,
        }
    }
}
