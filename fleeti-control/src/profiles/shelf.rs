//! The profiles of this server that a document extends, each loaded once.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::Line;
use fleeti_core::profile::{self, Builtin, Fragment, Kind, Library, Missing, Profile, SOURCES_MAX};
use fleeti_core::wire::profile::MadeOf;
use fleeti_store as store;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Prefix of the names of fragments that are profiles of this server: `profile/NAME`, the newest
/// revision, or `profile/NAME@NUMBER`.
pub(super) const PROFILE: &str = "profile/";
/// Largest number of profiles that are proposed for `extends`.
pub(super) const LIBRARY_MAX: u32 = 200;
/// Largest number of profiles between a document and what it extends.
const DEPTH_MAX: usize = 32;

/// The fragments that are shipped, and the profiles of this server that a document extends.
#[derive(Default)]
pub(super) struct Shelf {
    loaded: BTreeMap<String, Loaded>,
    /// Names of profiles, if the document names one that does not exist.
    names: Vec<String>,
    /// Profiles that lie beyond the limits.
    beyond: BTreeSet<String>,
}

struct Loaded {
    text: String,
    revision: u32,
}

/// A name that is still to be loaded.
struct Wanted {
    name: String,
    /// Number of profiles between it and the document.
    depth: usize,
}

impl Shelf {
    /// Loads the profiles that a document extends, directly and indirectly. What lies beyond the
    /// limits is not loaded, and the document that names it is refused. Resolving names circles.
    pub(super) async fn load(cx: &Context, text: &str) -> Result<Self, Error> {
        let mut shelf = Self::default();
        let mut waiting = wanted(text, 0);
        let (mut looked_up, mut is_complete) = (0, true);
        while let Some(Wanted { name, depth }) = waiting.pop() {
            let is_known = shelf.loaded.contains_key(&name) || shelf.beyond.contains(&name);
            if is_known || Builtin.find(&name).is_some() {
                continue;
            }
            if depth >= DEPTH_MAX || looked_up >= SOURCES_MAX {
                shelf.beyond.insert(name);
                continue;
            }
            looked_up += 1;
            match fragment(cx, &name).await? {
                Some(loaded) => {
                    waiting.extend(wanted(&loaded.text, depth + 1));
                    shelf.loaded.insert(name, loaded);
                }
                None => is_complete = false,
            }
        }
        // Only a wrong name needs the names that exist.
        if !is_complete {
            let heads = store::revisions::heads(cx.db.pool(), LIBRARY_MAX).await?;
            shelf.names = heads.iter().map(|head| format!("{PROFILE}{}", head.line)).collect();
        }
        Ok(shelf)
    }

    /// The exact fragments of these names, which a document extends.
    pub(super) fn made_of(&self, names: &[String]) -> Vec<MadeOf> {
        let each = names.iter().filter_map(|name| {
            Some(MadeOf {
                digest: sha256_hex(self.find(name)?.text.as_bytes()),
                revision: self.loaded.get(name).map(|loaded| loaded.revision),
                name: name.clone(),
                newer: None,
            })
        });
        each.collect()
    }
}

impl Library for Shelf {
    fn find(&self, name: &str) -> Option<Fragment> {
        let Some(loaded) = self.loaded.get(name) else { return Builtin.find(name) };
        let (name, text) = (Cow::Owned(name.to_owned()), Cow::Owned(loaded.text.clone()));
        Some(Fragment { name, kind: Kind::Profile, text })
    }
    fn names(&self) -> Vec<String> {
        Builtin.names().into_iter().chain(self.names.iter().cloned()).collect()
    }
    fn missing(&self, name: &str) -> Option<Missing> {
        let is_beyond = name.starts_with(PROFILE) && self.beyond.contains(name);
        is_beyond.then(|| Missing {
            message: format!(
                "is beyond {SOURCES_MAX} fragments, or extended over more than {DEPTH_MAX} profiles"
            ),
            remedy: Some("extend fewer".to_owned()),
        })
    }
}

fn wanted(text: &str, depth: usize) -> Vec<Wanted> {
    profile::extends(text).into_iter().map(|name| Wanted { name, depth }).collect()
}

/// The profile that a fragment is, without the number of its revision.
#[must_use]
pub fn line_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PROFILE)?;
    Some(rest.split_once('@').map_or(rest, |(line, _)| line))
}

/// A profile as a fragment; `None` if there is no such profile.
async fn fragment(cx: &Context, name: &str) -> Result<Option<Loaded>, Error> {
    let Some(rest) = name.strip_prefix(PROFILE) else { return Ok(None) };
    let (line, number) = match rest.split_once('@') {
        Some((line, number)) => (line, number.parse::<u32>().ok()),
        None => (rest, None),
    };
    let Ok(line) = line.parse::<Line>() else { return Ok(None) };
    let revision = match number {
        Some(number) => store::revisions::get(cx.db.pool(), &line, number).await?,
        None if rest.contains('@') => None,
        None => store::revisions::of_line(cx.db.pool(), &line, 1).await?.pop(),
    };
    let Some(revision) = revision else { return Ok(None) };
    let number = revision.number;
    let text = revision.text.map_or_else(|| as_toml(&revision.profile), Ok)?;
    Ok(Some(Loaded { text, revision: number }))
}

/// A profile as a document.
///
/// # Errors
/// [`Code::Internal`](fleeti_core::wire::problem::Code::Internal) if it cannot be written as TOML.
pub fn as_toml(profile: &Profile) -> Result<String, Error> {
    toml::to_string_pretty(profile).map_err(Error::internal)
}
