//! The key of this device's certificate: in its TPM or, without one, in a file (mode 0600).

use crate::privileged::Helper;
use crate::tpm::KeySeed;
use crate::{Paths, kept, write_durably};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_pki::Error;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::tpm::public::Public;
use fleeti_pki::tpm::signature::Signature;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub enum KeptKey {
    /// PKCS#8, base64.
    #[serde(rename = "key_pkcs8")]
    File(String),
    /// In the TPM; the stored fields are not secret.
    #[serde(rename = "key_tpm")]
    Tpm {
        /// The seed from which the TPM derives it, hexadecimal.
        seed: String,
        /// TPMT_PUBLIC, base64.
        public: String,
    },
}

impl KeptKey {
    /// The key in the TPM that this file names; creates one if there is no file. It stays the same
    /// until the file is deleted, because the response to a request can be lost.
    ///
    /// # Errors
    /// If there is no TPM or it does not answer; nothing is stored then.
    pub async fn in_tpm(path: &Path, helper: &Helper) -> Result<Self> {
        if let Some(kept) = Self::kept(path) {
            return Ok(kept);
        }
        let seed: KeySeed = rand::random();
        Self::Tpm { seed: hex::encode(seed), public: helper.device_key(&seed).await? }.keep(path)
    }

    /// The key in this file; creates one if there is no file.
    ///
    /// # Errors
    /// I/O.
    pub fn in_file(path: &Path) -> Result<Self> {
        if let Some(kept) = Self::kept(path) {
            return Ok(kept);
        }
        let key = SoftKey::generate(Algorithm::P256)?;
        Self::File(STANDARD.encode(key.to_pkcs8_der()?.as_slice())).keep(path)
    }

    /// Stores the key in this file: as PKCS#8, or as the seed for the TPM.
    ///
    /// # Errors
    /// I/O.
    pub fn keep(self, path: &Path) -> Result<Self> {
        let bytes = match &self {
            Self::File(pkcs8) => STANDARD.decode(pkcs8).context("the device key")?,
            Self::Tpm { .. } => serde_json::to_vec(&self)?,
        };
        write_durably(path, &bytes)?;
        Ok(self)
    }

    /// The key in this file, if there is one. A file without a valid key is set aside.
    #[must_use]
    pub fn kept(path: &Path) -> Option<Self> {
        kept::read(path, |bytes| {
            if SoftKey::from_pkcs8_der(bytes).is_ok() {
                return Ok(Self::File(STANDARD.encode(bytes)));
            }
            let key: Self = kept::json(bytes)?;
            match &key {
                Self::File(_) => anyhow::bail!("it contains no key"),
                Self::Tpm { seed, public } => {
                    read_seed(seed)?;
                    Public::parse(&STANDARD.decode(public)?)?;
                }
            }
            Ok(key)
        })
    }

    /// Whether the key is in the TPM.
    #[must_use]
    pub const fn is_in_tpm(&self) -> bool {
        matches!(self, Self::Tpm { .. })
    }

    /// The seed from which the TPM derives the key; `None` for a key in a file.
    ///
    /// # Errors
    /// If the stored value is not a seed.
    pub fn seed(&self) -> Result<Option<KeySeed>> {
        match self {
            Self::File(_) => Ok(None),
            Self::Tpm { seed, .. } => read_seed(seed).map(Some),
        }
    }

    /// The key, ready to sign.
    ///
    /// # Errors
    /// If the stored value is not a key.
    pub fn open(&self, paths: &Paths) -> Result<Arc<dyn Signer>> {
        match self {
            Self::File(pkcs8) => Ok(Arc::new(SoftKey::from_pkcs8_der(
                &STANDARD.decode(pkcs8).context("the device key")?,
            )?)),
            Self::Tpm { seed, public } => {
                let public = Public::parse(&STANDARD.decode(public).context("the device key")?)?;
                Ok(Arc::new(TpmKey {
                    helper: Helper::at(paths.socket()),
                    seed: read_seed(seed)?,
                    public_key_der: public.to_spki_der()?,
                }))
            }
        }
    }
}

fn read_seed(text: &str) -> Result<KeySeed> {
    let mut seed = KeySeed::default();
    hex::decode_to_slice(text, &mut seed).context("the seed of the device key")?;
    Ok(seed)
}

/// A key in the TPM, used through the helper.
struct TpmKey {
    helper: Helper,
    seed: KeySeed,
    public_key_der: Vec<u8>,
}

impl Signer for TpmKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::P256
    }
    fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_digest(&Sha256::digest(message))
    }
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |detail: String| Error::Backend { what: "signing in the TPM", detail };
        let signature =
            self.helper.sign(&self.seed, digest).map_err(|e| failed(format!("{e:#}")))?;
        Signature::parse(&signature).and_then(|s| s.to_der()).map_err(|e| failed(e.to_string()))
    }
}

/// A device key as TLS uses it.
#[derive(Clone)]
pub struct TlsKey(pub Arc<dyn Signer>);

impl std::fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsKey").field(&self.0.algorithm()).finish()
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as _)
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

/// Every device key is on P-256.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

impl rustls::sign::Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|e| rustls::Error::General(e.to_string()))
    }
    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}
