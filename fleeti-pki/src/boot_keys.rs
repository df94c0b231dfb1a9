//! Secure Boot keys of one device: a platform key, a key exchange key, and the keys of db, one for
//! each epoch.
//!
//! The signing service creates and uses them. Otherwise the server stores them wrapped
//! ([`WrapKey`]), bound to their device. The device gets signatures, never a private key.

use crate::certificate::{Period, Role, from_der, self_signed, to_der};
use crate::signer::{Algorithm, SoftKey};
use crate::uefi::{AuthenticatedWrite, SignatureList, Variable, write};
use crate::wrap::{WrapKey, Wrapped};
use crate::{Error, OrMalformed, authenticode};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::boot::VariableWrite;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use zeroize::{Zeroize, Zeroizing};

/// Firmware does not check it.
const VALIDITY_S: u64 = 20 * 365 * 86_400;
/// Maximum number of epochs of db at the same time: the fallback slot is signed with the previous
/// key.
pub const EPOCHS_MAX: usize = 2;
/// Maximum number of digests that one write forbids.
pub const FORBIDDEN_MAX: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    key: String,
    certificate: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A key and its certificate, ready for use.
struct Opened {
    key: SoftKey,
    certificate: Certificate,
}

impl Pair {
    fn generate(variable: &'static str, now_s: u64) -> Result<Self, Error> {
        let key = SoftKey::generate(Algorithm::Rsa2048)?;
        let certificate =
            self_signed(Role::SecureBoot { variable }, Period::starting(now_s, VALIDITY_S), &key)?;
        Ok(Self {
            key: crate::base64_text(&key.to_pkcs8_der()?),
            certificate: crate::base64_text(&to_der(&certificate)?),
        })
    }
    fn bytes(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Zeroizing::new)
            .or_malformed("wrapped key")
    }
    fn certificate_der(&self) -> Result<Vec<u8>, Error> {
        Ok(Self::bytes(&self.certificate)?.to_vec())
    }
    fn open(&self) -> Result<Opened, Error> {
        let key = SoftKey::from_pkcs8_der(&Self::bytes(&self.key)?)?;
        Ok(Opened { key, certificate: from_der(&self.certificate_der()?)? })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    pk: Pair,
    kek: Pair,
    /// Number of the first key in `db`.
    epoch: u32,
    db: Vec<Pair>,
    /// Time of the last write; the next one must be newer.
    written_s: u64,
}

/// The Secure Boot keys of one device.
pub struct BootKeys {
    device: DeviceId,
    content: Content,
}

/// Contents of a device's variables after every signed write is applied. Certificates, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// PK.
    pub pk: Vec<u8>,
    /// KEK.
    pub kek: Vec<u8>,
    /// db, oldest first.
    pub db: Vec<Vec<u8>>,
    /// Epoch of the newest key in db.
    pub epoch: u32,
}

impl BootKeys {
    /// Creates the keys of a device: three RSA-2048 keys, which takes most of a second.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn generate(device: &DeviceId, now_s: u64) -> Result<Self, Error> {
        let pair = |variable| Pair::generate(variable, now_s);
        let content = Content {
            pk: pair("PK")?,
            kek: pair("KEK")?,
            epoch: 1,
            db: vec![pair("db")?],
            written_s: 0,
        };
        Ok(Self { device: device.clone(), content })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Wraps the keys for their device.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn wrap(&self, key: &WrapKey) -> Result<Vec<u8>, Error> {
        let plain = Zeroizing::new(serde_json::to_vec(&self.content).or_malformed("boot keys")?);
        key.wrap(Wrapped::BootKeys(&self.device), &plain)
    }

    /// Unwraps what [`BootKeys::wrap`] made for the same device.
    ///
    /// # Errors
    /// [`Error::Refused`] for another device, another wrapping key, or changed bytes.
    pub fn unwrap(wrapped: &[u8], device: &DeviceId, key: &WrapKey) -> Result<Self, Error> {
        const NOT_OURS: Error =
            Error::Refused("these are not the wrapped boot keys of this device");
        let plain = key.unwrap(Wrapped::BootKeys(device), wrapped).map_err(|_| NOT_OURS)?;
        let content: Content = serde_json::from_slice(&plain).or_malformed("boot keys")?;
        if content.db.is_empty() || content.db.len() > EPOCHS_MAX {
            return Err(NOT_OURS);
        }
        Ok(Self { device: device.clone(), content })
    }

    /// The expected contents of the variables.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn expected(&self) -> Result<Expected, Error> {
        let c = &self.content;
        let db = c.db.iter().map(Pair::certificate_der).collect::<Result<Vec<_>, _>>()?;
        let epoch = c.epoch + u32::try_from(db.len()).unwrap_or(1) - 1;
        Ok(Expected { pk: c.pk.certificate_der()?, kek: c.kek.certificate_der()?, db, epoch })
    }

    /// A time later than that of every earlier write. The wrapped keys store it.
    fn moment(&mut self, now_s: u64) -> u64 {
        self.content.written_s = now_s.max(self.content.written_s + 1);
        self.content.written_s
    }

    fn change(
        &mut self,
        variable: Variable,
        append: bool,
        value: &[u8],
        now_s: u64,
    ) -> Result<VariableWrite, Error> {
        let time_s = self.moment(now_s);
        let by = if matches!(variable, Variable::Pk | Variable::Kek) {
            &self.content.pk
        } else {
            &self.content.kek
        };
        let by = by.open()?;
        let auth = write(
            &AuthenticatedWrite { variable, append, time_s, value },
            &by.certificate,
            &by.key,
        )?;
        Ok(VariableWrite { variable, append, auth: crate::base64_text(&auth) })
    }

    /// Signs the writes that turn Secure Boot on, in the order of writing: db, KEK, PK.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn enroll(&mut self, now_s: u64) -> Result<[VariableWrite; 3], Error> {
        let one = |der: Vec<u8>| SignatureList::Certificate(der).to_bytes();
        let (pk, kek) =
            (one(self.content.pk.certificate_der()?)?, one(self.content.kek.certificate_der()?)?);
        let db = self.change_db(now_s)?;
        let kek = self.change(Variable::Kek, false, &kek, now_s)?;
        Ok([db, kek, self.change(Variable::Pk, false, &pk, now_s)?])
    }

    fn change_db(&mut self, now_s: u64) -> Result<VariableWrite, Error> {
        let mut value = Vec::new();
        for pair in &self.content.db {
            value.extend(SignatureList::Certificate(pair.certificate_der()?).to_bytes()?);
        }
        self.change(Variable::Db, false, &value, now_s)
    }

    /// Starts an epoch: adds a new key of db, which signs from now on. Earlier signatures still
    /// boot.
    ///
    /// # Errors
    /// [`Error::Refused`] while the previous epoch has not ended.
    pub fn begin_epoch(&mut self, now_s: u64) -> Result<VariableWrite, Error> {
        if self.content.db.len() >= EPOCHS_MAX {
            return Err(Error::Refused("the previous epoch has not ended: end it first"));
        }
        self.content.db.push(Pair::generate("db", now_s)?);
        self.change_db(now_s)
    }

    /// Ends every epoch but the newest one: earlier signatures no longer boot.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is only one.
    pub fn end_epoch(&mut self, now_s: u64) -> Result<VariableWrite, Error> {
        if self.content.db.len() < 2 {
            return Err(Error::Refused("there is only one epoch: start the next one first"));
        }
        self.content.db.remove(0);
        self.content.epoch += 1;
        self.change_db(now_s)
    }

    /// Forbids EFI binaries by their Authenticode digests, regardless of signatures.
    ///
    /// # Errors
    /// [`Error::Refused`] for no digest or too many.
    pub fn forbid(&mut self, digests: &[[u8; 32]], now_s: u64) -> Result<VariableWrite, Error> {
        if digests.len() > FORBIDDEN_MAX {
            return Err(Error::Refused(
                "too many digests for one write: firmware has little space",
            ));
        }
        let value = SignatureList::Digests(digests.to_vec()).to_bytes()?;
        self.change(Variable::Dbx, true, &value, now_s)
    }

    /// Signs EFI binaries, by their Authenticode digests, for this device only.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn sign(&self, digests: &[[u8; 32]]) -> Result<Vec<Vec<u8>>, Error> {
        let newest = self.content.db.last().ok_or(Error::Refused("there is no db key"))?.open()?;
        digests
            .iter()
            .map(|d| authenticode::signature(d, &newest.certificate, &newest.key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (BootKeys, WrapKey) {
        let keys = BootKeys::generate(&"dev-a".parse().unwrap(), 1_800_000_000).unwrap();
        (keys, WrapKey::from_bytes(&[7; 32]).unwrap())
    }

    #[test]
    fn wrapped_keys_open_for_their_device_and_key_only() {
        let (keys, wrap) = keys();
        let wrapped = keys.wrap(&wrap).unwrap();
        let (a, b): (DeviceId, DeviceId) = ("dev-a".parse().unwrap(), "dev-b".parse().unwrap());
        assert_eq!(
            BootKeys::unwrap(&wrapped, &a, &wrap).unwrap().expected().unwrap(),
            keys.expected().unwrap()
        );
        assert!(BootKeys::unwrap(&wrapped, &b, &wrap).is_err());
        assert!(BootKeys::unwrap(&wrapped, &a, &WrapKey::from_bytes(&[8; 32]).unwrap()).is_err());
        for at in [0, 24, wrapped.len() - 1] {
            let mut bad = wrapped.clone();
            bad[at] ^= 1;
            assert!(BootKeys::unwrap(&bad, &a, &wrap).is_err(), "{at}");
        }
        assert!(BootKeys::unwrap(&wrapped[..24], &a, &wrap).is_err());
    }

    #[test]
    fn every_write_is_newer_than_the_one_before_also_when_the_clock_goes_back() {
        let (mut keys, _) = keys();
        let kek = from_der(&keys.expected().unwrap().kek).unwrap();
        let mut last = 0;
        for now_s in [1_800_000_000, 1_800_000_000, 1_700_000_000] {
            let change = keys.forbid(&[[1; 32]], now_s).unwrap();
            let auth = Pair::bytes(&change.auth).unwrap();
            let read = AuthenticatedWrite::verify(&auth, Variable::Dbx, true, &kek).unwrap();
            assert!(read.time_s > last);
            last = read.time_s;
        }
    }

    #[test]
    fn an_epoch_ends_only_when_the_next_one_has_begun() {
        let (mut keys, _) = keys();
        assert!(keys.end_epoch(1).is_err());
        let (first, digest) = (keys.expected().unwrap(), [5; 32]);
        let old = keys.sign(&[digest]).unwrap().remove(0);
        keys.begin_epoch(2).unwrap();
        assert!(keys.begin_epoch(3).is_err());
        let both = keys.expected().unwrap();
        assert_eq!((both.db.len(), both.epoch, &both.db[0]), (2, 2, &first.db[0]));
        let new = keys.sign(&[digest]).unwrap().remove(0);
        keys.end_epoch(4).unwrap();
        let last = keys.expected().unwrap();
        assert_eq!((last.db.len(), last.epoch, &last.db[0]), (1, 2, &both.db[1]));
        let certificate = from_der(&last.db[0]).unwrap();
        authenticode::verify(&new, &digest, &certificate).unwrap();
        assert!(authenticode::verify(&old, &digest, &certificate).is_err());
    }
}
