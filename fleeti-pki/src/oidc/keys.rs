//! The keys that a provider publishes (JWKS; RFC 7517, 5), and when to read them again.

use super::key::{Algorithm, Key};
use super::{NotAccepted, members};
use serde_json::Value;
use std::collections::BTreeSet;

/// Maximum size of the published keys, bytes.
pub const SET_MAX: usize = 64 * 1024;
/// Maximum number of published keys.
pub const KEYS_MAX: usize = 64;
/// How long read keys count, in seconds. A key that the provider removed counts no longer than this.
pub const KEYS_S: u64 = 3600;
/// Minimum time between two attempts to read keys, in seconds, however many tokens name a key that is
/// not known.
pub const REFRESH_EVERY_S: u64 = 60;

const WHAT: &str = "the list of keys of the provider";

/// The keys of a provider that can verify ID tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads published keys, JSON. Keys of other kinds and for other uses are left out, symmetric
    /// ones among them.
    ///
    /// # Errors
    /// [`NotAccepted::Malformed`]: no such list, too long, two keys with one name, or no key that can
    /// verify ID tokens.
    pub fn read(json: &[u8]) -> Result<Self, NotAccepted> {
        let malformed = || NotAccepted::Malformed(WHAT);
        if json.len() > SET_MAX {
            return Err(malformed());
        }
        let set = members(json, WHAT)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or_else(malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(malformed());
        }
        let keys: Vec<_> = keys.iter().filter_map(Value::as_object).filter_map(Key::read).collect();
        let mut names = BTreeSet::new();
        let is_unique = keys.iter().filter_map(|key| key.name.as_ref()).all(|n| names.insert(n));
        if keys.is_empty() || !is_unique {
            return Err(malformed());
        }
        Ok(Self(keys))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true of keys that were read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of a name for an algorithm. A token without a name is only accepted if one key is for
    /// its algorithm (OpenID Connect Core, 10.1).
    pub(super) fn get(
        &self,
        name: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Key, NotAccepted> {
        if let Some(name) = name {
            let key = self.0.iter().find(|key| key.name.as_deref() == Some(name));
            let key = key.ok_or(NotAccepted::UnknownKey)?;
            return if key.is_for(algorithm) { Ok(key) } else { Err(NotAccepted::Algorithm) };
        }
        let mut all = self.0.iter().filter(|key| key.is_for(algorithm));
        match (all.next(), all.next()) {
            (Some(key), None) => Ok(key),
            (None, _) | (Some(_), Some(_)) => Err(NotAccepted::UnknownKey),
        }
    }
}

/// Keys of a provider that were read, and when. Pure: the caller reads them, and says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachedKeys {
    known: Option<(KeySet, u64)>,
    tried_s: Option<u64>,
}

impl CachedKeys {
    /// The keys, while they count.
    #[must_use]
    pub fn keys(&self, now_s: u64) -> Option<&KeySet> {
        let known = self.known.as_ref();
        known.filter(|(_, read_s)| now_s < read_s.saturating_add(KEYS_S)).map(|(keys, _)| keys)
    }

    /// Whether the caller must read the keys now: either the cache has no valid keys, or a token names
    /// an unknown one. Records the attempt: the answer is `false` until [`REFRESH_EVERY_S`] have
    /// passed, even if the attempt fails.
    pub fn is_due(&mut self, now_s: u64, names_unknown: bool) -> bool {
        let is_wanted = names_unknown || self.keys(now_s).is_none();
        let may = |tried_s: u64| now_s >= tried_s.saturating_add(REFRESH_EVERY_S);
        let is_due = is_wanted && self.tried_s.is_none_or(may);
        if is_due {
            self.tried_s = Some(now_s);
        }
        is_due
    }

    /// Notes keys that were read.
    pub fn set(&mut self, keys: KeySet, now_s: u64) {
        self.known = Some((keys, now_s));
    }
}
