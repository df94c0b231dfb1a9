//! Passkeys: verifies what an authenticator and a browser say, for a relying party (Web
//! Authentication, level 3: <https://www.w3.org/TR/webauthn-3/>).
//!
//! A passkey is accepted from any authenticator that verified its user: statements of attestation
//! are not looked at. Signatures are ES256, EdDSA and RS256, as browsers and Windows Hello make
//! them.
//!
//! Code map: `client_data` (what the browser says) · `authenticator_data` (what the authenticator
//! says) · `key` (keys and their signatures) · `cbor` (the form of both).

mod authenticator_data;
mod cbor;
mod client_data;
mod key;

pub use key::{ALGORITHMS, CredentialKey};

use authenticator_data::AuthenticatorData;
use aws_lc_rs::digest;
use cbor::Reader;
use client_data::Ceremony;

/// Maximum length of the id of a credential, bytes (4, "Credential ID").
pub const CREDENTIAL_ID_MAX: usize = 1023;
/// Maximum length of each part of an answer, bytes.
pub const PART_MAX: usize = 8192;

/// Why an answer of a browser is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The part is too long, or not in its form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The browser answered for the other ceremony.
    #[error("the answer is of another ceremony")]
    Ceremony,
    /// The answer is to another challenge.
    #[error("the answer is to another challenge")]
    Challenge,
    /// The page has another origin, or is in a frame of another site.
    #[error("the page of the answer has another origin than this server")]
    Origin,
    /// The credential is of another relying party.
    #[error("the passkey is of another server")]
    RelyingParty,
    /// Nobody touched the authenticator.
    #[error("the authenticator has not seen its user")]
    NotPresent,
    /// The authenticator has not verified its user.
    #[error("the authenticator has not verified its user by PIN, fingerprint or face")]
    NotVerified,
    /// A new credential has no key, or its key is of another kind.
    #[error("the key of the passkey is of a kind that is not accepted")]
    Key,
    /// The signature is not by the key of the credential.
    #[error("the signature is not by the key of the passkey")]
    Signature,
    /// A credential that could not leave its authenticator now can, or the other way round.
    #[error("the passkey is kept in another way than when it was added")]
    Backup,
    /// The counter did not grow: two authenticators have the key.
    #[error("the counter of the passkey did not grow from {known}: it may have been copied")]
    Counter {
        /// The last known value.
        known: u32,
    },
}

/// The server, as browsers and authenticators know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    /// The origin of its pages, such as `https://fleet.example.com`.
    pub origin: String,
    /// The host of its pages. Authenticators keep passkeys by it.
    pub id: String,
}

/// A new credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// Its id, chosen by the authenticator.
    pub id: Vec<u8>,
    /// Its key.
    pub key: CredentialKey,
    /// How often it has signed; 0 for an authenticator that does not count.
    pub counter: u32,
    /// Whether the authenticator may copy it to others of its user.
    pub is_synced: bool,
}

/// What is known of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCredential {
    /// Its key.
    pub key: CredentialKey,
    /// The last known counter.
    pub counter: u32,
    /// Whether the authenticator may copy it to others of its user.
    pub is_synced: bool,
}

/// The answer of a browser to a request to sign in.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// What the browser says, JSON.
    pub client_data: &'a [u8],
    /// What the authenticator says.
    pub authenticator_data: &'a [u8],
    /// The signature over both.
    pub signature: &'a [u8],
}

/// The challenge that an answer claims to be to. Nothing else of it is checked.
///
/// # Errors
/// [`NotAccepted::Malformed`].
pub fn claimed_challenge(client_data: &[u8]) -> Result<Vec<u8>, NotAccepted> {
    client_data::read(client_data)?.challenge()
}

/// Verifies the answer to a request for a new credential (7.1). `attestation` is the attestation
/// object, CBOR.
///
/// # Errors
/// [`NotAccepted`].
pub fn verify_new(
    party: &RelyingParty,
    challenge: &[u8],
    client_data: &[u8],
    attestation: &[u8],
) -> Result<NewCredential, NotAccepted> {
    client_data::read(client_data)?.check(Ceremony::Create, party, challenge)?;
    let data = AuthenticatorData::read(authenticator_data_of(attestation)?)?;
    data.check(party)?;
    let attested = data.attested.as_ref().ok_or(NotAccepted::Key)?;
    Ok(NewCredential {
        id: attested.credential_id.to_vec(),
        key: CredentialKey::read(attested.key)?,
        counter: data.counter,
        is_synced: data.may_be_copied(),
    })
}

/// Verifies the answer to a request to sign in (7.2), by a credential that is known. Returns its
/// counter.
///
/// # Errors
/// [`NotAccepted`]. [`NotAccepted::Counter`] only if everything else is right.
pub fn verify_assertion(
    party: &RelyingParty,
    challenge: &[u8],
    known: &KnownCredential,
    given: &Assertion<'_>,
) -> Result<u32, NotAccepted> {
    client_data::read(given.client_data)?.check(Ceremony::Get, party, challenge)?;
    let data = AuthenticatorData::read(given.authenticator_data)?;
    data.check(party)?;
    let client_data = digest::digest(&digest::SHA256, given.client_data);
    let signed = [given.authenticator_data, client_data.as_ref()].concat();
    known.key.verify(&signed, given.signature)?;
    if data.may_be_copied() != known.is_synced {
        return Err(NotAccepted::Backup);
    }
    // 6.1.1: an authenticator that does not count says 0, always.
    let counts = data.counter != 0 || known.counter != 0;
    if counts && data.counter <= known.counter {
        return Err(NotAccepted::Counter { known: known.counter });
    }
    Ok(data.counter)
}

/// The authenticator data in an attestation object (6.5.4).
fn authenticator_data_of(attestation: &[u8]) -> Result<&[u8], NotAccepted> {
    const WHAT: &str = "the attestation object";
    let read = || {
        let mut reader = Reader::new(attestation)?;
        let (mut format, mut statement, mut data) = (None, None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "fmt" if format.is_none() => format = Some(reader.text()?),
                "attStmt" if statement.is_none() => statement = Some(reader.skip()?),
                "authData" if data.is_none() => data = Some(reader.bytes()?),
                _ => return None,
            }
        }
        let (Some(_), Some(_), Some(data)) = (format, statement, data) else { return None };
        reader.is_at_end().then_some(data)
    };
    read().ok_or(NotAccepted::Malformed(WHAT))
}
