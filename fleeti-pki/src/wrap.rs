//! Wrapping: encrypts what the server stores and only the signing service may decrypt, with
//! XChaCha20-Poly1305, bound to its purpose.

use crate::{Error, OrMalformed};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use fleeti_core::id::{DeviceId, FleetId};
use zeroize::Zeroizing;

const NONCE: usize = 24;

/// What is wrapped. Data that was wrapped for one purpose does not unwrap for another.
#[derive(Debug, Clone, Copy)]
pub enum Wrapped<'a> {
    /// The Secure Boot keys of a device.
    BootKeys(&'a DeviceId),
    /// The recovery key of a device's data partition.
    RecoveryKey(&'a DeviceId),
    /// A secret of a fleet, by name.
    FleetSecret(&'a FleetId, &'a str),
    /// The secret of a webhook, with where it sends what. The server's own key wraps it.
    Webhook(&'a str),
    /// The answer to a request, by its id. A key of the server's own wraps it.
    Answer(&'a str),
}

impl Wrapped<'_> {
    fn associated(self) -> Vec<u8> {
        match self {
            Self::BootKeys(device) => format!("fleeti boot keys of {device}"),
            Self::RecoveryKey(device) => format!("fleeti recovery key of {device}"),
            Self::FleetSecret(fleet, name) => format!("fleeti secret of fleet {fleet}: {name}"),
            Self::Webhook(target) => format!("fleeti secret of a webhook: {target}"),
            Self::Answer(id) => format!("fleeti answer to request {id}"),
        }
        .into_bytes()
    }
}

/// A wrapping key.
pub struct WrapKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for WrapKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrapKey")
    }
}

impl WrapKey {
    /// Generates a key.
    #[must_use]
    pub fn generate() -> Zeroizing<[u8; 32]> {
        Zeroizing::new(rand::random())
    }
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`Error::Refused`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let key =
            bytes.try_into().map_err(|_| Error::Refused("a wrapping key must have 32 bytes"))?;
        Ok(Self(Zeroizing::new(key)))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0))
    }

    /// Wraps data for a purpose.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn wrap(&self, what: Wrapped<'_>, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: plain, aad: &what.associated() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).or_backend("wrapping")?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Unwraps data that was wrapped for the same purpose.
    ///
    /// # Errors
    /// [`Error::Refused`] for another purpose, another key, or changed bytes.
    pub fn unwrap(&self, what: Wrapped<'_>, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        const NOT_OURS: Error =
            Error::Refused("this was not wrapped with this key for this purpose");
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE>().ok_or(NOT_OURS)?;
        let payload = Payload { msg: sealed, aad: &what.associated() };
        self.cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| NOT_OURS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_opens_as_what_it_is_and_by_its_key_alone() {
        let key = WrapKey::from_bytes(&[7; 32]).unwrap();
        let (a, b): (DeviceId, DeviceId) = ("dev-a".parse().unwrap(), "dev-b".parse().unwrap());
        let fleet: FleetId = "demo".parse().unwrap();
        let wrapped = key.wrap(Wrapped::RecoveryKey(&a), b"secret").unwrap();
        assert_eq!(key.unwrap(Wrapped::RecoveryKey(&a), &wrapped).unwrap().as_slice(), b"secret");
        for other in
            [Wrapped::RecoveryKey(&b), Wrapped::BootKeys(&a), Wrapped::FleetSecret(&fleet, "dev-a")]
        {
            assert!(key.unwrap(other, &wrapped).is_err(), "{other:?}");
        }
        assert!(
            WrapKey::from_bytes(&[8; 32])
                .unwrap()
                .unwrap(Wrapped::RecoveryKey(&a), &wrapped)
                .is_err()
        );
        let mut changed = wrapped.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(key.unwrap(Wrapped::RecoveryKey(&a), &changed).is_err());
        assert!(key.unwrap(Wrapped::RecoveryKey(&a), &wrapped[..NONCE]).is_err());
    }
}
