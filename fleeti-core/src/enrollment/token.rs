//! An enrollment token: one device uses it once, with one key.
//!
//! The server applies [`Event::Request`] before the signing service signs, so that an invalid token
//! costs it nothing, and [`Event::Certified`] in the transaction that stores the certificate: the
//! token may have been used, or the device revoked, in between.

use super::KeyOwner;
use crate::id::DeviceId;

/// An enrollment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its state.
    pub state: State,
    /// Who may use it. This never changes.
    pub terms: Terms,
}

/// State of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No device has used it.
    Unused,
    /// A device has used it. The device may repeat its request, because a response can be lost.
    Used {
        /// The device.
        device: DeviceId,
        /// SHA-256 of its key.
        key_sha256: String,
    },
}

/// Who may use a token, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Last second of its validity, Unix seconds.
    pub expires_s: u64,
    /// The device that it is reserved for.
    pub reserved: Option<DeviceId>,
    /// SHA-256 of the endorsement key of the TPM that it is reserved for.
    pub ek_sha256: Option<String>,
    /// SHA-256 of the only key that may use it.
    pub for_key_sha256: Option<String>,
}

/// A device that uses a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer<'a> {
    /// SHA-256 of the key that it requests a certificate for.
    pub key_sha256: &'a str,
    /// Whom that key belongs to.
    pub key_owner: KeyOwner,
    /// SHA-256 of the endorsement key of the TPM that it has proved.
    pub ek_sha256: Option<&'a str>,
}

/// A device that the server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownDevice {
    /// It uses this key, by its SHA-256.
    Uses(String),
    /// It is revoked.
    Revoked,
}

/// A certificate for the bearer of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified<'a> {
    /// Who gets the certificate.
    pub bearer: Bearer<'a>,
    /// The device that the certificate names.
    pub device: &'a DeviceId,
    /// What the server knows of that device; `None` for a new one.
    pub known: Option<KnownDevice>,
}

/// What happened to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A device presents its TPM, by the SHA-256 of its endorsement key, before it enrolls.
    PresentTpm(&'a str),
    /// A device requests a certificate.
    Request(Bearer<'a>),
    /// The certificate is signed.
    Certified(Certified<'a>),
}

/// What the server must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Challenge the TPM to decrypt a secret.
    ChallengeTpm,
    /// Issue a certificate, or repeat the one that the device has for this key.
    Certify {
        /// The device; `None` for a new one, which gets a new id.
        device: Option<DeviceId>,
    },
    /// Store the certificate and the use of the token.
    Store,
}

/// An event that does not apply to a token. The token does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is for another key.
    #[error("the token is for another key")]
    KeyMismatch,
    /// The token is for another TPM, or the device has proved none.
    #[error("the token is for another TPM")]
    TpmMismatch,
    /// Another device, or another key, has used the token.
    #[error("the token was used")]
    Used,
    /// The certificate names a device that the token is not for.
    #[error("the certificate is for another device")]
    DeviceMismatch,
    /// The device is revoked, or has renewed its key since.
    #[error("the device is revoked, or has renewed its key since")]
    Superseded,
    /// The key belongs to another device.
    #[error("the key belongs to another device")]
    KeyOfOther,
}

/// Applies an event to a token.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its token.
pub fn step(token: &Token, event: Event<'_>, now_s: u64) -> Result<(Token, Vec<Effect>), Rejected> {
    if token.has_expired(now_s) {
        return Err(Rejected::Expired);
    }
    match event {
        Event::PresentTpm(ek_sha256) => {
            token.terms.check_tpm(Some(ek_sha256))?;
            Ok((token.clone(), vec![Effect::ChallengeTpm]))
        }
        Event::Request(bearer) => {
            token.check(&bearer)?;
            check_owner(bearer.key_owner)?;
            let device = token.device().cloned();
            Ok((token.clone(), vec![Effect::Certify { device }]))
        }
        Event::Certified(certified) => token.certified(&certified),
    }
}

fn check_owner(owner: KeyOwner) -> Result<(), Rejected> {
    match owner {
        KeyOwner::NoOther => Ok(()),
        KeyOwner::OtherDevice => Err(Rejected::KeyOfOther),
    }
}

impl Terms {
    /// Terms of a token for any device, key and TPM.
    #[must_use]
    pub fn until(expires_s: u64) -> Self {
        Self { expires_s, reserved: None, ek_sha256: None, for_key_sha256: None }
    }

    fn check_tpm(&self, ek_sha256: Option<&str>) -> Result<(), Rejected> {
        match &self.ek_sha256 {
            Some(reserved) if Some(reserved.as_str()) != ek_sha256 => Err(Rejected::TpmMismatch),
            Some(_) | None => Ok(()),
        }
    }
}

impl Token {
    /// Whether its validity is over.
    #[must_use]
    pub fn has_expired(&self, now_s: u64) -> bool {
        self.terms.expires_s < now_s
    }

    /// The device that has used the token, or that it is reserved for.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceId> {
        match &self.state {
            State::Unused => self.terms.reserved.as_ref(),
            State::Used { device, .. } => Some(device),
        }
    }

    fn check(&self, bearer: &Bearer<'_>) -> Result<(), Rejected> {
        if self.terms.for_key_sha256.as_ref().is_some_and(|key| key != bearer.key_sha256) {
            return Err(Rejected::KeyMismatch);
        }
        self.terms.check_tpm(bearer.ek_sha256)?;
        match &self.state {
            State::Used { key_sha256, .. } if key_sha256 != bearer.key_sha256 => {
                Err(Rejected::Used)
            }
            State::Used { .. } | State::Unused => Ok(()),
        }
    }

    fn certified(&self, certified: &Certified<'_>) -> Result<(Self, Vec<Effect>), Rejected> {
        let Certified { bearer, device, known } = certified;
        self.check(bearer)?;
        if self.device().is_some_and(|own| own != *device) {
            return Err(Rejected::DeviceMismatch);
        }
        match known {
            None => {}
            Some(KnownDevice::Uses(key)) if key == bearer.key_sha256 => {}
            Some(KnownDevice::Uses(_) | KnownDevice::Revoked) => return Err(Rejected::Superseded),
        }
        check_owner(bearer.key_owner)?;
        let state =
            State::Used { device: (*device).clone(), key_sha256: bearer.key_sha256.to_owned() };
        Ok((Self { state, terms: self.terms.clone() }, vec![Effect::Store]))
    }
}

#[cfg(test)]
mod tests;
