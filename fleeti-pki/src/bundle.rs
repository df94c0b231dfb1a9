//! Which intermediates count: a list that the root signs, with the root's own revocation list. Its
//! version only grows, so an old list cannot bring back what was taken off. A server lets nobody in
//! but by an intermediate of the list; a device takes its server's for good unless the root has
//! revoked it, so that it finds back after a rotation that it slept through.

use crate::certificate::{self, Purpose, fingerprint, from_pem, to_der};
use crate::crl::VerifiedList;
use crate::signer::{Signer, key_id, verify};
use crate::{Error, OrMalformed, base64_text};
use base64::Engine;
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::strict;
use fleeti_core::wire::device::SignedBundle;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;

/// The `type` of a bundle.
pub const KIND: &str = "fleeti.trust-bundle.v1";
/// Most intermediates of a bundle.
pub const INTERMEDIATES_MAX: usize = 32;
/// Largest bundle, bytes.
pub const BYTES_MAX: usize = 256 * 1024;

/// The document that is signed, as canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Grows with every bundle; 1 for the first.
    pub version: u64,
    /// When, Unix seconds.
    pub issued_s: u64,
    /// SHA-256 of the root, DER, hexadecimal.
    pub root_sha256: String,
    /// Certificates of the intermediates, PEM; of one purpose the newest last.
    pub intermediates: Vec<String>,
    /// The root's revocation list, DER, base64.
    pub crl: String,
}

/// A bundle that the root has signed. Only [`read`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedBundle {
    version: u64,
    sha256: String,
    intermediates: Vec<(Purpose, Certificate)>,
    crl: Vec<u8>,
}

impl VerifiedBundle {
    /// Grows with every bundle.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Of the signed bytes, hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
    /// Intermediates of one purpose; the newest last.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Certificate> {
        self.intermediates.iter().filter(move |(p, _)| *p == purpose).map(|(_, c)| c)
    }
    /// The root's revocation list, DER.
    #[must_use]
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }
}

/// Signs a bundle by the root's key.
///
/// # Errors
/// [`Error::Backend`] when the key cannot sign.
pub fn sign(bundle: &Bundle, root: &dyn Signer) -> Result<SignedBundle, Error> {
    let bytes = canonical::to_vec(bundle).or_malformed("trust bundle")?;
    let signature = base64_text(&root.sign(&bytes)?);
    Ok(SignedBundle { bundle: String::from_utf8(bytes).or_malformed("trust bundle")?, signature })
}

/// Checks a bundle: the root's signature, the root's revocation list, and that every intermediate
/// is one of this root and not on that list. The one place where a bundle becomes trusted.
///
/// # Errors
/// [`Error::Refused`], [`Error::Malformed`].
pub fn read(signed: &SignedBundle, root: &Certificate) -> Result<VerifiedBundle, Error> {
    if signed.bundle.len() > BYTES_MAX {
        return Err(Error::Malformed {
            what: "trust bundle",
            detail: format!("it has more than {BYTES_MAX} bytes"),
        });
    }
    let signature = base64::engine::general_purpose::STANDARD
        .decode(&signed.signature)
        .or_malformed("signature of the trust bundle")?;
    let root_key = certificate::public_key_der(root)?;
    verify(&root_key, signed.bundle.as_bytes(), &signature)?;
    let bundle: Bundle =
        strict::from_slice(signed.bundle.as_bytes()).or_malformed("trust bundle")?;
    if bundle.kind != KIND
        || canonical::to_vec(&bundle).or_malformed("trust bundle")? != signed.bundle.as_bytes()
    {
        return Err(Error::Malformed {
            what: "trust bundle",
            detail: format!("it is not canonical JSON of type {KIND}"),
        });
    }
    if bundle.root_sha256 != fingerprint(root)? {
        return Err(Error::Refused("the trust bundle is of another root"));
    }
    if bundle.intermediates.len() > INTERMEDIATES_MAX {
        return Err(Error::Refused("the trust bundle has more than 32 intermediates"));
    }
    let crl = base64::engine::general_purpose::STANDARD
        .decode(&bundle.crl)
        .or_malformed("revocation list of the root")?;
    let list = VerifiedList::read(&crl, root)?;
    let mut intermediates = Vec::new();
    for pem in &bundle.intermediates {
        let certificate = from_pem(pem)?;
        let tbs = certificate.tbs_certificate();
        let signature = certificate
            .signature()
            .as_bytes()
            .ok_or(Error::Refused("a signature is not whole bytes"))?;
        verify(&root_key, &crate::signer::der_of(tbs, "certificate")?, signature)?;
        // At the list's own time: how old it is says nothing about what is on it.
        if list.check(&certificate, 0).is_err() {
            return Err(Error::Refused(
                "the trust bundle has an intermediate that the root has revoked, or that is of another issuer",
            ));
        }
        // A list is found by its issuer's name, which is made of its key.
        if intermediates.iter().any(|(_, other): &(Purpose, Certificate)| {
            other.tbs_certificate().subject() == tbs.subject()
        }) {
            return Err(Error::Refused("the trust bundle has two intermediates of one key"));
        }
        let purpose = Purpose::of(&certificate)?;
        intermediates.push((purpose, certificate));
    }
    Ok(VerifiedBundle {
        version: bundle.version,
        sha256: sha256_hex(signed.bundle.as_bytes()),
        intermediates,
        crl,
    })
}

/// SHA-256 of an intermediate's certificate and the id of its key: by the first it is chosen, by
/// the second it is named where its revocation list is.
///
/// # Errors
/// [`Error::Malformed`].
pub fn names(certificate: &Certificate) -> Result<(String, String), Error> {
    Ok((sha256_hex(&to_der(certificate)?), key_id(&certificate::public_key_der(certificate)?)))
}
