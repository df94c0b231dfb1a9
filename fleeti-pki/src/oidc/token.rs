//! What an ID token says (OpenID Connect Core 1.0, 2 and 3.1.3.7; RFC 7519; RFC 8725).

use super::groups::Groups;
use super::key::{Algorithm, NAME_MAX};
use super::{KeySet, NotAccepted, members};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum length of an ID token, bytes.
pub const ID_TOKEN_MAX: usize = 32 * 1024;
/// Maximum length of a subject, bytes (OpenID Connect Core, 2).
pub const SUBJECT_MAX: usize = 255;
/// How far the clocks of server and provider may differ, in seconds.
pub const SKEW_S: u64 = 60;
/// Maximum age of an ID token, in seconds. It answers a request of a few minutes ago.
pub const AGE_MAX_S: u64 = 600;

const WHAT: &str = "the ID token";

/// What the relying party knows of the ID token that it asked for.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The configured issuer.
    pub issuer: &'a str,
    /// The id of the relying party at the provider.
    pub client_id: &'a str,
    /// The nonce of the request.
    pub nonce: &'a str,
    /// The access token that came with the ID token.
    pub access_token: &'a str,
    /// The time, in Unix seconds.
    pub now_s: u64,
}

/// A verified ID token. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdToken {
    issuer: String,
    subject: String,
    claims: BTreeMap<String, Value>,
}

impl IdToken {
    /// The issuer. With the subject, it is the only thing by which a person is known.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The name of the person at the issuer, which is never given to another one.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The groups of the person, by the name of their claim.
    #[must_use]
    pub fn groups(&self, claim: &str) -> Groups {
        Groups::of(&self.claims, claim)
    }

    /// A claim that is a text, only to show it: it may change, and others may have the same.
    #[must_use]
    pub fn shown(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }
}

/// The parts of a token: what is signed, its header and claims, and the signature.
struct Parts<'a> {
    signed: &'a [u8],
    header: BTreeMap<String, Value>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

fn parts(token: &str) -> Result<Parts<'_>, NotAccepted> {
    let malformed = || NotAccepted::Malformed(WHAT);
    if token.len() > ID_TOKEN_MAX {
        return Err(malformed());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |text| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
    Ok(Parts {
        signed: signed.as_bytes(),
        header: members(&decode(header)?, WHAT)?,
        claims: decode(claims)?,
        signature: decode(signature)?,
    })
}

/// The algorithm and the name of the key of a header.
fn read_header(header: &BTreeMap<String, Value>) -> Result<(Algorithm, Option<&str>), NotAccepted> {
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.and_then(Algorithm::from_name).ok_or(NotAccepted::Algorithm)?;
    // RFC 8725, 3.11: a token of another type is no ID token. RFC 7515, 4.1.11.
    let is_jwt = |of: &Value| of.as_str().is_some_and(|of| of.eq_ignore_ascii_case("JWT"));
    if header.contains_key("crit") || !header.get("typ").is_none_or(is_jwt) {
        return Err(NotAccepted::Type);
    }
    let name = match header.get("kid") {
        Some(name) => {
            let name = name.as_str().filter(|name| name.len() <= NAME_MAX);
            Some(name.ok_or(NotAccepted::Malformed(WHAT))?)
        }
        None => None,
    };
    Ok((algorithm, name))
}

/// Verifies an ID token.
///
/// # Errors
/// [`NotAccepted`]. [`NotAccepted::UnknownKey`] may be a sign that the provider has a new key: read
/// its keys again if [`super::CachedKeys::is_due`] says so. No claim is looked at before the signature
/// is verified.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<IdToken, NotAccepted> {
    let parts = parts(token)?;
    let (algorithm, name) = read_header(&parts.header)?;
    keys.get(name, algorithm)?.verify(algorithm, parts.signed, &parts.signature)?;
    let claims = members(&parts.claims, WHAT)?;
    check_parties(&claims, expected)?;
    check_time(&claims, expected.now_s)?;
    let is_nonce = text(&claims, "nonce")
        .is_some_and(|nonce| is_equal(nonce.as_bytes(), expected.nonce.as_bytes()));
    if expected.nonce.is_empty() || !is_nonce {
        return Err(NotAccepted::Nonce);
    }
    check_access_token(&claims, algorithm, expected.access_token)?;
    let subject = text(&claims, "sub").filter(|subject| is_subject(subject));
    let subject = subject.ok_or(NotAccepted::Malformed(WHAT))?.to_owned();
    Ok(IdToken { issuer: expected.issuer.to_owned(), subject, claims })
}

fn text<'a>(claims: &'a BTreeMap<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

fn is_equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

fn is_subject(text: &str) -> bool {
    let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    (1..=SUBJECT_MAX).contains(&text.len()) && text.bytes().all(is_shown)
}

/// Checks issuer and audience. A token that is also for others is refused (3.1.3.7, 3): nothing says
/// that they are trusted.
fn check_parties(
    claims: &BTreeMap<String, Value>,
    expected: &Expected<'_>,
) -> Result<(), NotAccepted> {
    if text(claims, "iss") != Some(expected.issuer) {
        return Err(NotAccepted::Issuer);
    }
    let audience = match claims.get("aud") {
        Some(Value::Array(list)) if list.len() == 1 => list.first(),
        other => other,
    };
    let is_client = |of: &Value| of.as_str() == Some(expected.client_id);
    if !audience.is_some_and(is_client) || !claims.get("azp").is_none_or(is_client) {
        return Err(NotAccepted::Audience);
    }
    Ok(())
}

/// Checks the times, in whole seconds.
fn check_time(claims: &BTreeMap<String, Value>, now_s: u64) -> Result<(), NotAccepted> {
    let time = |name| claims.get(name).and_then(Value::as_u64).ok_or(NotAccepted::Time);
    let (expires_s, issued_s) = (time("exp")?, time("iat")?);
    let begins_s = if claims.contains_key("nbf") { time("nbf")? } else { 0 };
    let latest_s = now_s.saturating_add(SKEW_S);
    let is_over = now_s >= expires_s.saturating_add(SKEW_S);
    let is_old = now_s > issued_s.saturating_add(AGE_MAX_S + SKEW_S);
    if is_over || is_old || issued_s > latest_s || begins_s > latest_s {
        return Err(NotAccepted::Time);
    }
    Ok(())
}

/// Checks `at_hash`, which a provider may leave out (3.1.3.6).
fn check_access_token(
    claims: &BTreeMap<String, Value>,
    algorithm: Algorithm,
    access_token: &str,
) -> Result<(), NotAccepted> {
    let Some(given) = claims.get("at_hash") else { return Ok(()) };
    let hash = digest::digest(algorithm.hash(), access_token.as_bytes());
    let half = hash.as_ref().split_at(hash.as_ref().len() / 2).0;
    let expected = URL_SAFE_NO_PAD.encode(half);
    let is_right =
        given.as_str().is_some_and(|given| is_equal(given.as_bytes(), expected.as_bytes()));
    if is_right { Ok(()) } else { Err(NotAccepted::AccessToken) }
}
