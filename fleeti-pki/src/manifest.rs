//! Signing and verifying release manifests. Only [`verify`] makes a [`Verified`].

use crate::signer::{Algorithm, Signer, key_id, verify as verify_signature};
use crate::{Error, OrMalformed};
use base64::Engine;
use der::{Decode, Document};
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::manifest::{Manifest, ManifestError};
use std::collections::BTreeSet;

/// Maximum number of signatures that are checked.
pub const SIGNATURES_MAX: usize = 16;

/// The public half of a release key: P-384.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// The public half of a signing key.
    ///
    /// # Errors
    /// [`Error::Refused`] for an algorithm other than P-384.
    pub fn of(signer: &dyn Signer) -> Result<Self, Error> {
        match signer.algorithm() {
            Algorithm::P384 => Ok(Self { der: signer.public_key_der().to_vec() }),
            Algorithm::P256 | Algorithm::Rsa2048 | Algorithm::Ed25519 => {
                Err(Error::Refused("a release key is a P-384 key"))
            }
        }
    }
    /// The key's id.
    #[must_use]
    pub fn id(&self) -> String {
        key_id(&self.der)
    }
    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    /// PEM `PUBLIC KEY`.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn to_pem(&self) -> Result<String, Error> {
        let document = Document::from_der(&self.der).or_malformed("public key")?;
        document.to_pem("PUBLIC KEY", der::pem::LineEnding::LF).or_malformed("public key")
    }
}

/// The release keys, and how many of them must sign.
#[derive(Debug, Clone)]
pub struct ReleaseKeys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl ReleaseKeys {
    /// Keys with a threshold.
    ///
    /// # Errors
    /// [`Error::Refused`] for a threshold of zero, or of more than there are keys.
    pub fn new(keys: Vec<PublicKey>, threshold: usize) -> Result<Self, Error> {
        let distinct: BTreeSet<_> = keys.iter().map(PublicKey::id).collect();
        if threshold == 0 || threshold > distinct.len() {
            return Err(Error::Refused(
                "the threshold must be between 1 and the number of release keys",
            ));
        }
        Ok(Self { keys, threshold })
    }

    /// Parses one or more PEM public keys. A line `Threshold: N` may precede them; without it, one
    /// signature is enough.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Refused`] for anything else in the text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
        const END: &str = "-----END PUBLIC KEY-----";
        let (mut keys, mut rest) = (Vec::new(), text.trim());
        let mut threshold = 1;
        if let Some(line) = rest.strip_prefix(THRESHOLD) {
            let (number, keys) = line.split_once('\n').unwrap_or((line, ""));
            threshold = number.trim().parse().or_malformed("threshold of release keys")?;
            rest = keys.trim_start();
        }
        while let Some(end) =
            rest.find(END).map(|at| at + END.len()).filter(|_| rest.starts_with(BEGIN))
        {
            let (label, document) = Document::from_pem(&rest[..end]).or_malformed("release key")?;
            let der = document.into_vec();
            // Only one encoding is accepted, so that a key has one id: a point can be encoded in
            // two ways.
            let parsed = <p384::PublicKey as spki::DecodePublicKey>::from_public_key_der(&der);
            let canonical =
                parsed.ok().and_then(|key| spki::EncodePublicKey::to_public_key_der(&key).ok());
            if label != "PUBLIC KEY" || canonical.is_none_or(|c| c.as_bytes() != der) {
                return Err(Error::Refused(
                    "a release key is a P-384 public key, its point not compressed",
                ));
            }
            keys.push(PublicKey { der });
            rest = rest[end..].trim_start();
        }
        // Unknown text may be a threshold that was intended.
        if !rest.is_empty() {
            return Err(Error::Refused(
                "there is something beside `Threshold: N` and PEM public keys",
            ));
        }
        Self::new(keys, threshold)
    }

    /// The text that [`ReleaseKeys::from_pem`] parses.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn to_pem(&self) -> Result<String, Error> {
        let keys = self.keys.iter().map(PublicKey::to_pem).collect::<Result<String, _>>()?;
        Ok(if self.threshold == 1 {
            keys
        } else {
            format!("{THRESHOLD}{}\n{keys}", self.threshold)
        })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The number of different keys that must have signed.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

const THRESHOLD: &str = "Threshold: ";

/// One signature file: `manifest.<key id>.sig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key id in the file's name.
    pub key_id: String,
    /// ECDSA, DER.
    pub der: Vec<u8>,
}

impl Signature {
    /// The file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("manifest.{}.sig", self.key_id)
    }
    /// Parses signatures in wire format: key id and signature (DER, base64) of each signer. Invalid
    /// base64 gives no signature.
    #[must_use]
    pub fn all_of(wire: &[(String, String)]) -> Vec<Self> {
        let decoded = |(key_id, text): &(String, String)| {
            let der = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(Self { key_id: key_id.clone(), der })
        };
        wire.iter().filter_map(decoded).collect()
    }
    /// The key id in a file name; `None` if it is not the name of a signature file.
    #[must_use]
    pub fn key_id_of(file_name: &str) -> Option<&str> {
        let id = file_name.strip_prefix("manifest.")?.strip_suffix(".sig")?;
        (id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}

/// Why a manifest is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Too few valid signatures by release keys.
    #[error("{good} of {threshold} release signatures are valid; trusted keys: {}", .trusted.join(", "))]
    Signatures {
        /// The number of valid ones.
        good: usize,
        /// The threshold.
        threshold: usize,
        /// Ids of the trusted keys.
        trusted: Vec<String>,
    },
    /// The manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A manifest whose signatures were verified. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    manifest: Manifest,
    sha256: String,
}

impl Verified {
    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The bytes of `manifest.json`.
///
/// # Errors
/// [`Error::Malformed`].
pub fn to_bytes(manifest: &Manifest) -> Result<Vec<u8>, Error> {
    canonical::to_vec(manifest).or_malformed("manifest")
}

/// Signs the bytes of a manifest. The bytes are parsed first: a release key signs only manifests
/// and boot proofs ([`crate::boot_proof`]), which state their type.
///
/// # Errors
/// [`Error::Malformed`] if the bytes are not a canonical manifest; [`Error::Refused`] for another
/// kind of key.
pub fn sign(bytes: &[u8], signer: &dyn Signer) -> Result<Signature, Error> {
    let manifest = Manifest::parse(bytes).or_malformed("manifest")?;
    if to_bytes(&manifest)? != bytes {
        return Err(Error::Refused("the manifest is not in canonical form"));
    }
    let key_id = PublicKey::of(signer)?.id();
    Ok(Signature { key_id, der: signer.sign(bytes)? })
}

/// Verifies the signatures, then parses the manifest. No other function makes a manifest trusted.
///
/// # Errors
/// [`VerifyError`]; signatures are verified before a byte is parsed.
pub fn verify(
    bytes: &[u8],
    signatures: &[Signature],
    keys: &ReleaseKeys,
) -> Result<Verified, VerifyError> {
    check_signatures(bytes, signatures, keys)?;
    Ok(Verified { manifest: Manifest::parse(bytes)?, sha256: sha256_hex(bytes) })
}

/// Verifies that enough release keys have signed these bytes.
pub(crate) fn check_signatures(
    bytes: &[u8],
    signatures: &[Signature],
    keys: &ReleaseKeys,
) -> Result<(), VerifyError> {
    let mut good = BTreeSet::new();
    for signature in signatures.iter().take(SIGNATURES_MAX) {
        // A key counts once, however many signatures it made.
        let by = keys.keys.iter().find(|k| {
            k.id() == signature.key_id && verify_signature(&k.der, bytes, &signature.der).is_ok()
        });
        good.extend(by.map(PublicKey::id));
    }
    if good.len() < keys.threshold {
        let trusted = keys.keys.iter().map(PublicKey::id).collect();
        return Err(VerifyError::Signatures {
            good: good.len(),
            threshold: keys.threshold,
            trusted,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::SoftKey;
    use fleeti_core::id::Architecture;
    use fleeti_core::manifest::{Artifact, KIND, ReferenceValues};

    fn bytes() -> Vec<u8> {
        to_bytes(&Manifest {
            kind: KIND.to_owned(),
            release: "kiosk@2".parse().unwrap(),
            architecture: Architecture::X86_64,
            revision_digest: "a".into(),
            lock_digest: "b".into(),
            artifacts: vec![Artifact {
                path: "raw/kiosk_2.efi".into(),
                size: 1,
                sha256: "c".into(),
                authenticode: None,
            }],
            root_hash: "d".into(),
            reference_values: ReferenceValues {
                systemd_version: "257".into(),
                ..Default::default()
            },
            minimum_version: "1".parse().unwrap(),
            created_s: 0,
            critical: vec![],
        })
        .unwrap()
    }
    fn key() -> SoftKey {
        SoftKey::generate(Algorithm::P384).unwrap()
    }
    fn keys(keys: &[&SoftKey], threshold: usize) -> ReleaseKeys {
        ReleaseKeys::new(keys.iter().map(|k| PublicKey::of(*k).unwrap()).collect(), threshold)
            .unwrap()
    }

    #[test]
    fn a_signed_manifest_verifies_and_any_flipped_bit_refuses_it() {
        let (key, bytes) = (key(), bytes());
        let signature = sign(&bytes, &key).unwrap();
        let trusted = keys(&[&key], 1);
        assert_eq!(
            verify(&bytes, std::slice::from_ref(&signature), &trusted)
                .unwrap()
                .manifest()
                .release
                .to_string(),
            "kiosk@2"
        );
        for at in (0..bytes.len()).step_by(7) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(matches!(
                verify(&bad, std::slice::from_ref(&signature), &trusted),
                Err(VerifyError::Signatures { .. })
            ));
        }
    }

    #[test]
    fn a_foreign_key_and_a_borrowed_key_id_are_refused() {
        let (key, mallory, bytes) = (key(), key(), bytes());
        let mut signature = sign(&bytes, &mallory).unwrap();
        assert!(verify(&bytes, std::slice::from_ref(&signature), &keys(&[&key], 1)).is_err());
        signature.key_id = PublicKey::of(&key).unwrap().id();
        assert!(verify(&bytes, &[signature], &keys(&[&key], 1)).is_err());
    }

    #[test]
    fn a_key_counts_once_towards_a_threshold() {
        let (a, b, bytes) = (key(), key(), bytes());
        let trusted = keys(&[&a, &b], 2);
        let by_a = sign(&bytes, &a).unwrap();
        let again = sign(&bytes, &a).unwrap();
        assert!(verify(&bytes, &[by_a.clone(), again], &trusted).is_err());
        assert!(verify(&bytes, &[by_a, sign(&bytes, &b).unwrap()], &trusted).is_ok());
    }

    #[test]
    fn keys_survive_the_way_through_pem() {
        let (a, b) = (PublicKey::of(&key()).unwrap(), PublicKey::of(&key()).unwrap());
        let text = format!("{}{}", a.to_pem().unwrap(), b.to_pem().unwrap());
        let one = ReleaseKeys::from_pem(&text).unwrap();
        assert_eq!((one.keys(), one.threshold()), (&[a.clone(), b.clone()][..], 1));
        let two = ReleaseKeys::new(vec![a, b], 2).unwrap();
        let again = ReleaseKeys::from_pem(&two.to_pem().unwrap()).unwrap();
        assert_eq!((again.keys(), again.threshold()), (two.keys(), 2));
        assert_eq!(one.to_pem().unwrap(), text);
    }

    #[test]
    fn a_threshold_that_is_not_understood_is_not_taken_for_one() {
        let a = PublicKey::of(&key()).unwrap().to_pem().unwrap();
        for (before, after) in [
            ("Threshold: 0\n", ""),
            ("Threshold: 2\n", ""),
            ("Threshold: x\n", ""),
            ("threshold: 1\n", ""),
            ("# two\n", ""),
            ("", "Threshold: 2\n"),
        ] {
            assert!(
                ReleaseKeys::from_pem(&format!("{before}{a}{after}")).is_err(),
                "{before:?} {after:?}"
            );
        }
        assert!(ReleaseKeys::from_pem("Threshold: 1\n").is_err());
        assert!(ReleaseKeys::from_pem("").is_err());
    }

    #[test]
    fn a_release_key_signs_nothing_but_canonical_manifests() {
        assert!(sign(b"anything", &key()).is_err());
        let mut spaced = bytes();
        spaced.push(b' ');
        assert!(matches!(sign(&spaced, &key()), Err(Error::Refused(_))));
    }
}
