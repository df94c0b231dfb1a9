//! The trust bundle: the intermediate CAs that count, with the root's CRL, signed by the root. Its
//! version only grows, so an old bundle cannot restore a removed intermediate. A server accepts
//! only clients of an intermediate in the bundle. A device trusts its server's intermediate unless
//! the root has revoked it, so that it can reconnect after a rotation that it missed.

use crate::certificate::{self, Purpose, fingerprint, from_pem, to_der};
use crate::crl::VerifiedCrl;
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
/// Maximum number of intermediates in a bundle.
pub const INTERMEDIATES_MAX: usize = 32;
/// Maximum size of a bundle, bytes.
pub const BYTES_MAX: usize = 256 * 1024;

/// The signed document, as canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The version: grows with every bundle; 1 for the first.
    pub version: u64,
    /// When it was issued, Unix seconds.
    pub issued_s: u64,
    /// SHA-256 of the root, DER, hexadecimal.
    pub root_sha256: String,
    /// Certificates of the intermediates, PEM; the newest of a purpose last.
    pub intermediates: Vec<String>,
    /// The root's CRL, DER, base64.
    pub crl: String,
}

/// A bundle with a verified signature of the root. Only [`read`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedBundle {
    version: u64,
    sha256: String,
    intermediates: Vec<(Purpose, Certificate)>,
    crl: Vec<u8>,
}

impl VerifiedBundle {
    /// The version: grows with every bundle.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
    /// SHA-256 of the signed bytes, hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
    /// Intermediates of one purpose; the newest last.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Certificate> {
        self.intermediates.iter().filter(move |(p, _)| *p == purpose).map(|(_, c)| c)
    }
    /// The root's CRL, DER.
    #[must_use]
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }
}

/// Signs a bundle with the root's key.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign.
pub fn sign(bundle: &Bundle, root: &dyn Signer) -> Result<SignedBundle, Error> {
    let bytes = canonical::to_vec(bundle).or_malformed("trust bundle")?;
    let signature = base64_text(&root.sign(&bytes)?);
    Ok(SignedBundle { bundle: String::from_utf8(bytes).or_malformed("trust bundle")?, signature })
}

/// Verifies a bundle: the root's signature, the root's CRL, and that every intermediate is signed
/// by this root and not on its CRL. No other function makes a bundle trusted.
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
        .or_malformed("CRL of the root")?;
    let list = VerifiedCrl::read(&crl, root)?;
    let mut intermediates = Vec::new();
    for pem in &bundle.intermediates {
        let certificate = from_pem(pem)?;
        let tbs = certificate.tbs_certificate();
        let signature = certificate.signature().as_bytes().ok_or(Error::Refused(
            "the signature of an intermediate is not a whole number of bytes",
        ))?;
        verify(&root_key, &crate::signer::der_of(tbs, "certificate")?, signature)?;
        // Regardless of the CRL's age, which does not affect its entries.
        if list.check(&certificate, 0).is_err() {
            return Err(Error::Refused(
                "the trust bundle contains an intermediate that is revoked, or is of another issuer",
            ));
        }
        // A CRL is found by its issuer's name, which contains the id of its key.
        if intermediates.iter().any(|(_, other): &(Purpose, Certificate)| {
            other.tbs_certificate().subject() == tbs.subject()
        }) {
            return Err(Error::Refused(
                "the trust bundle contains two intermediates with the same key",
            ));
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

/// SHA-256 of an intermediate's certificate, by which it is selected, and the id of its key, which
/// is in the path of its CRL.
///
/// # Errors
/// [`Error::Malformed`].
pub fn names(certificate: &Certificate) -> Result<(String, String), Error> {
    Ok((sha256_hex(&to_der(certificate)?), key_id(&certificate::public_key_der(certificate)?)))
}
