//! The certificates of one device after its enrollment: once in the renewal window of the
//! certificate in use, and a few more times, because responses get lost and devices lose new keys.
//!
//! A device renews with its certificate, by its TPM, or by readmission: see [`Authority`]. The
//! server counts a certificate before it is signed ([`Event::Request`]), because requests can be
//! concurrent, and stores it afterwards ([`Event::Issued`]). The new key replaces the old one when
//! the device first uses it ([`Event::Use`]).
//!
//! INVARIANT: a revoked device gets no certificate; a key belongs to one device; a device whose key
//! was in its TPM gets no certificate for a key in a file.

use super::KeyOwner;
use crate::wire::enrollment::RenewalWindow;

/// Lifetime of a device certificate, seconds.
pub const CERTIFICATE_S: u64 = 30 * 86_400;
/// Largest number of certificates for one device within [`AGAIN_S`]: the renewal, and two more in
/// case responses and keys are lost.
pub const SUCCESSORS_MAX: u32 = 3;
/// The period of [`SUCCESSORS_MAX`], seconds.
pub const AGAIN_S: u64 = 86_400;

/// The renewal window of a certificate with this expiry: from one third to one half of its
/// lifetime. At the end of the window 15 days are left, so that no device goes offline when the
/// signing service is away for two weeks.
#[must_use]
pub fn window_of(not_after_s: u64) -> RenewalWindow {
    let start_s = not_after_s.saturating_sub(CERTIFICATE_S / 3 * 2);
    RenewalWindow { start_s, end_s: start_s + CERTIFICATE_S / 6 }
}

/// The certificates of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// State of its keys.
    pub state: State,
    /// Where the keys that it has used were.
    pub place: KeyPlace,
    /// Expiry of its newest certificate, Unix seconds.
    pub not_after_s: u64,
    /// The certificates that it got recently.
    pub successors: Successors,
}

/// State of the keys of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The device uses the key of its newest certificate.
    Current {
        /// SHA-256 of the key.
        key_sha256: String,
    },
    /// A certificate for the next key was issued. The device has not used it yet.
    Renewed {
        /// SHA-256 of the key in use.
        key_sha256: String,
        /// SHA-256 of the next key.
        next_sha256: String,
    },
    /// The device is revoked.
    Revoked,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file.
    File,
    /// In the TPM of the device.
    Tpm,
}

/// Certificates that were issued for a device within [`AGAIN_S`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Successors {
    /// Their number.
    pub count: u32,
    /// When the last one was requested, Unix seconds.
    pub last_s: u64,
}

/// By what right a device renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Its valid certificate.
    Certificate,
    /// The TPM that is bound to it, whatever became of its certificate.
    Tpm(Anchor),
    /// The key of its expired certificate, while an operator readmits its fleet.
    Readmission {
        /// SHA-256 of the key that signed the request.
        key_sha256: String,
        /// Last second of the readmission of its fleet, Unix seconds; `None` without one.
        until_s: Option<u64>,
    },
}

/// Whether an intermediate CA that counts has signed the newest certificate of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It has: the certificate is valid until its own expiry.
    Counts,
    /// It has not: the certificate counts as expired.
    Ended,
}

/// A request for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// SHA-256 of the key.
    pub key_sha256: String,
    /// Whom the key belongs to.
    pub key_owner: KeyOwner,
    /// Where the key is.
    pub place: KeyPlace,
    /// By what right the device requests it.
    pub authority: Authority,
    /// Whether the server has an unexpired certificate of this device for this key.
    pub stored: Stored,
    /// Whether an operator requested it.
    pub commanded: Commanded,
}

/// Whether an operator has commanded the device to replace its key now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commanded {
    /// A command to do so is not answered yet: renewal is due.
    Yes,
    /// There is none.
    No,
}

/// Whether the server has an unexpired certificate for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It has one.
    Yes,
    /// It has none.
    No,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The device requests a certificate.
    Request(Request),
    /// Signing a certificate failed: it does not count.
    SigningFailed,
    /// A certificate is signed.
    Issued {
        /// SHA-256 of its key.
        key_sha256: String,
        /// Whom the key belongs to now.
        key_owner: KeyOwner,
        /// Its expiry, Unix seconds.
        not_after_s: u64,
    },
    /// The device connects with this key, by its SHA-256.
    Use(String),
}

/// What the server must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer with the certificate that the device has for this key.
    Repeat,
    /// Let the signing service sign a certificate.
    Certify,
    /// Store the new certificate.
    Store,
    /// Revoke the certificate for this key, by its SHA-256, which was never used.
    Supersede(String),
    /// Refuse this key, by its SHA-256, from now on, and end the device's connections.
    ReplaceKey(String),
}

/// An event that does not apply. The certificates do not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The device is revoked.
    #[error("this device is revoked")]
    Revoked,
    /// The fleet is not readmitted, or the key is not of an expired certificate in a file.
    #[error("this device is not readmitted")]
    NotReadmitted,
    /// The key of the device was in its TPM, and the next one is not.
    #[error("the key of this device is in its TPM, so the next key must be as well")]
    KeyLeavesTpm,
    /// The key belongs to another device.
    #[error("this key belongs, or belonged, to another device")]
    KeyOfOther,
    /// Renewal is not due.
    #[error("the certificate cannot be renewed before second {at_s}")]
    Early {
        /// When it is due, Unix seconds.
        at_s: u64,
    },
    /// The device uses another key.
    #[error("this device uses another key")]
    KeyMismatch,
}

/// The new certificates and the effects, or the rejection of an event.
pub type Step = Result<(Certificates, Vec<Effect>), Rejected>;

/// Applies an event to the certificates of a device.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its certificates.
pub fn step(certificates: &Certificates, event: Event, now_s: u64) -> Step {
    let keys = Keys::of(&certificates.state);
    match (keys, event) {
        (_, Event::SigningFailed) => {
            let successors = certificates.successors.one_less();
            Ok((Certificates { successors, ..certificates.clone() }, Vec::new()))
        }
        (None, Event::Request(_) | Event::Issued { .. } | Event::Use(_)) => Err(Rejected::Revoked),
        (Some(keys), Event::Request(request)) => requested(certificates, keys, &request, now_s),
        (Some(keys), Event::Issued { key_sha256, key_owner, not_after_s }) => {
            check_owner(key_owner)?;
            let superseded = keys.next.filter(|next| **next != key_sha256);
            let mut effects: Vec<_> =
                superseded.into_iter().map(|next| Effect::Supersede(next.clone())).collect();
            effects.push(Effect::Store);
            let state = keys.with_certificate_for(key_sha256);
            Ok((Certificates { state, not_after_s, ..certificates.clone() }, effects))
        }
        (Some(keys), Event::Use(key)) => used(certificates, keys, key),
    }
}

/// The keys of a device that is not revoked.
#[derive(Clone, Copy)]
struct Keys<'a> {
    current: &'a String,
    next: Option<&'a String>,
}

impl<'a> Keys<'a> {
    fn of(state: &'a State) -> Option<Self> {
        match state {
            State::Current { key_sha256 } => Some(Self { current: key_sha256, next: None }),
            State::Renewed { key_sha256, next_sha256 } => {
                Some(Self { current: key_sha256, next: Some(next_sha256) })
            }
            State::Revoked => None,
        }
    }

    /// A certificate for the key in use replaces the next key, which was never used.
    fn with_certificate_for(self, key_sha256: String) -> State {
        if *self.current == key_sha256 {
            State::Current { key_sha256 }
        } else {
            State::Renewed { key_sha256: self.current.clone(), next_sha256: key_sha256 }
        }
    }

    fn has(self, key_sha256: &str) -> bool {
        self.current == key_sha256 || self.next.is_some_and(|next| next == key_sha256)
    }
}

fn check_owner(owner: KeyOwner) -> Result<(), Rejected> {
    match owner {
        KeyOwner::NoOther => Ok(()),
        KeyOwner::OtherDevice => Err(Rejected::KeyOfOther),
    }
}

fn requested(certificates: &Certificates, keys: Keys<'_>, request: &Request, now_s: u64) -> Step {
    // From when on the newest certificate can be renewed.
    let start_s = match &request.authority {
        Authority::Certificate | Authority::Tpm(Anchor::Counts) => match request.commanded {
            Commanded::Yes => 0,
            Commanded::No => window_of(certificates.not_after_s).start_s,
        },
        Authority::Tpm(Anchor::Ended) => 0,
        Authority::Readmission { key_sha256, until_s } => {
            let is_open = until_s.is_some_and(|until_s| now_s <= until_s);
            if !is_open || certificates.place == KeyPlace::Tpm || !keys.has(key_sha256) {
                return Err(Rejected::NotReadmitted);
            }
            0
        }
    };
    // Otherwise an attacker with root on a device could move its identity into a file and copy it.
    if certificates.place == KeyPlace::Tpm && request.place == KeyPlace::File {
        return Err(Rejected::KeyLeavesTpm);
    }
    check_owner(request.key_owner)?;
    let newest = keys.next.unwrap_or(keys.current);
    if now_s < start_s {
        match (*newest == request.key_sha256, request.stored) {
            (true, Stored::Yes) => return Ok((certificates.clone(), vec![Effect::Repeat])),
            (true, Stored::No) => {}
            // The newest certificate is in use, and renewal is not due.
            (false, Stored::Yes | Stored::No) if keys.next.is_none() => {
                return Err(Rejected::Early { at_s: start_s });
            }
            (false, Stored::Yes | Stored::No) => {}
        }
    }
    let successors = certificates.successors.one_more(now_s)?;
    Ok((Certificates { successors, ..certificates.clone() }, vec![Effect::Certify]))
}

/// The first use of the next key: from now on the device's earlier key is refused everywhere.
fn used(certificates: &Certificates, keys: Keys<'_>, key_sha256: String) -> Step {
    if *keys.current == key_sha256 {
        return Ok((certificates.clone(), Vec::new()));
    }
    if keys.next != Some(&key_sha256) {
        return Err(Rejected::KeyMismatch);
    }
    let effects = vec![Effect::ReplaceKey(keys.current.clone())];
    Ok((Certificates { state: State::Current { key_sha256 }, ..certificates.clone() }, effects))
}

impl Successors {
    fn one_more(self, now_s: u64) -> Result<Self, Rejected> {
        let again_s = self.last_s.saturating_add(AGAIN_S);
        if now_s >= again_s {
            return Ok(Self { count: 1, last_s: now_s });
        }
        if self.count >= SUCCESSORS_MAX {
            return Err(Rejected::Early { at_s: again_s });
        }
        Ok(Self { count: self.count + 1, last_s: now_s })
    }

    /// Another request may have counted since, so nothing else is restored.
    fn one_less(self) -> Self {
        Self { count: self.count.saturating_sub(1), ..self }
    }
}

#[cfg(test)]
mod tests;
