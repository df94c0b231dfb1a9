//! OpenID Connect: verifies the ID token of a provider, for the relying party that asked for it
//! (OpenID Connect Core 1.0, 3.1.3.7: <https://openid.net/specs/openid-connect-core-1_0.html>).
//!
//! Only signatures by a public key of the provider count: neither `none` nor a MAC is in the list of
//! algorithms. A key that a token brings along, or an address of one, is not read.
//!
//! Code map: `key` (keys and their signatures) · `keys` (the keys of a provider, and when to read
//! them again) · `token` (what an ID token says) · `groups` (the groups of a person in it).

mod groups;
mod key;
mod keys;
mod token;

pub use groups::{GROUP_MAX, GROUPS_MAX, Groups};
pub use key::Algorithm;
pub use keys::{CachedKeys, KEYS_MAX, KEYS_S, KeySet, REFRESH_EVERY_S, SET_MAX};
pub use token::{AGE_MAX_S, Expected, ID_TOKEN_MAX, IdToken, SKEW_S, SUBJECT_MAX, verify};

use fleeti_core::strict;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Why an answer of a provider is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The part is too long, or not in its form.
    #[error("{0} is malformed or too long")]
    Malformed(&'static str),
    /// The token is signed by an algorithm that is not accepted, such as `none` or a MAC.
    #[error("the ID token is signed by an algorithm that is not accepted")]
    Algorithm,
    /// The token names an extension that a reader has to know, or is of another type.
    #[error("the ID token is of another type, or has extensions that are not known")]
    Type,
    /// The provider has no key of this name.
    #[error("the provider does not publish the key that the ID token names")]
    UnknownKey,
    /// The signature is not by the key of the provider.
    #[error("the signature of the ID token is not by the key of the provider")]
    Signature,
    /// The token is of another provider.
    #[error("the ID token is of another issuer than the configured one")]
    Issuer,
    /// The token is for another client, or also for one.
    #[error("the ID token is for another client, or for several")]
    Audience,
    /// The token has expired, is not valid yet, or is too old.
    #[error("the ID token is not valid at this time: compare the clocks of server and provider")]
    Time,
    /// The token answers another request.
    #[error("the ID token answers another request to sign in")]
    Nonce,
    /// The token was issued with another access token.
    #[error("the ID token was issued with another access token")]
    AccessToken,
}

/// A JSON object in which no name occurs twice.
#[derive(Deserialize)]
#[serde(transparent)]
struct Members(#[serde(deserialize_with = "strict::unique")] BTreeMap<String, Value>);

/// Reads a JSON object in which no name occurs twice, and nothing behind it.
fn members(bytes: &[u8], what: &'static str) -> Result<BTreeMap<String, Value>, NotAccepted> {
    let read: Result<Members, _> = serde_json::from_slice(bytes);
    read.map(|members| members.0).map_err(|_| NotAccepted::Malformed(what))
}
