//! Which manufacturer made a TPM: the chain from the certificate of its endorsement key to a
//! manufacturer that an operator trusts (TCG "EK Credential Profile for TPM Family 2.0", version
//! 2.5, 3.2).

use super::path::names::{self, Attribute, DIRECTORY};
use super::path::{self, Certificate, List, Lists, Refused, Search};
use super::public::{EndorsementKey, Key};
use crate::Error;
use fleeti_core::canonical::sha256_hex;

/// tcg-kp-EKCertificate, the contents of its OBJECT IDENTIFIER.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// anyExtendedKeyUsage (RFC 5280, 4.2.1.12).
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// Attributes that name a TPM: tpmManufacturer, tpmModel and tpmVersion.
const MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
const MODEL: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x02];
const VERSION: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x03];
/// The attributes of a TPM whose certificate does not state them.
const NOT_NAMED: &str = "not named";
/// Maximum length of each, in characters.
const NAME_MAX: usize = 64;
/// keyEncipherment, dataEncipherment and keyAgreement, in the first eight bits of a key usage. An
/// endorsement key does any of them, and issuers differ in which one they state for which
/// algorithm.
const DECRYPTS: u8 = 0x20 | 0x10 | 0x08;
/// Maximum number of manufacturer certificates.
pub const MANUFACTURERS_MAX: usize = 1024;
/// Maximum number of certificates between a TPM's and its manufacturer's.
pub const INTERMEDIATES_MAX: usize = 8;
/// Maximum size of a certificate in bytes.
pub const CERTIFICATE_MAX: usize = 8 * 1024;

/// What kind of TPM a manufacturer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TPMs in the processor: no attacker can tap a bus between them, or reset one of them alone.
    Processor,
    /// Discrete chips, and any TPM that is not known to be in the processor.
    Hardware,
    /// TPMs in software: an attacker who controls the host has their secrets.
    Virtual,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Processor, Self::Hardware, Self::Virtual];

    /// As in `hardware`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Hardware => "hardware",
            Self::Virtual => "virtual",
        }
    }
}

/// The trusted TPM manufacturers, and their CRLs. Without any, no TPM is endorsed.
#[derive(Debug, Default)]
pub struct Manufacturers {
    manufacturers: Vec<Manufacturer>,
    lists: Lists,
    left_out: Vec<(String, String)>,
    digest: String,
}

#[derive(Debug)]
struct Manufacturer {
    der: Vec<u8>,
    kind: Kind,
    source: String,
}

/// What the endorsement certificate of a trusted manufacturer states about a TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// What kind of TPM the manufacturer makes.
    pub kind: Kind,
    /// As in `id:49465800`.
    pub manufacturer: String,
    /// As in `SLB9670`.
    pub model: String,
    /// As in `id:0007`.
    pub version: String,
}

/// Why a TPM is not endorsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEndorsed {
    /// The certificate is for another key.
    #[error("the endorsement certificate is for another key")]
    OtherKey,
    /// The certificate is not one of an endorsement key.
    #[error("the certificate is not an endorsement certificate: {0}")]
    NotOne(&'static str),
    /// Its issuer has revoked it.
    #[error("the endorsement certificate, or one between it and its manufacturer's, is revoked")]
    Revoked,
    /// Its revocation status is unknown.
    #[error("the CRL of the TPM manufacturer has expired: a newer one is needed")]
    OldList,
    /// It does not chain to a trusted manufacturer.
    #[error("the endorsement certificate does not chain to a trusted manufacturer: {0}")]
    Chain(String),
    /// It cannot be parsed.
    #[error("the endorsement certificate cannot be parsed: {0}")]
    Unreadable(String),
}

/// Concatenated certificates (DER), up to the first byte that starts none. Padding of a TPM's
/// memory after one (zeros, or bytes of `ff`) is skipped.
pub fn each_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        while let [0x00 | 0xff, more @ ..] = rest {
            rest = more;
        }
        let mut reader = der::SliceReader::new(rest).ok()?;
        let one = Some(der::Reader::tlv_bytes(&mut reader).ok()?)
            .filter(|one| one.first() == Some(&0x30))?;
        rest = rest.get(one.len()..)?;
        Some(one)
    })
}

/// A certificate without the padding of a TPM's memory; other bytes unchanged.
#[must_use]
pub fn unpadded(bytes: &[u8]) -> &[u8] {
    let one =
        der::SliceReader::new(bytes).ok().and_then(|mut r| der::Reader::tlv_bytes(&mut r).ok());
    one.filter(|one| {
        bytes[one.len()..].iter().all(|b| *b == 0) || bytes[one.len()..].iter().all(|b| *b == 0xff)
    })
    .unwrap_or(bytes)
}

impl Manufacturers {
    /// Trusts the manufacturer with this certificate (DER): a root, or an intermediate that signs
    /// endorsement certificates.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but a CA certificate; [`Error::Refused`] for more than
    /// [`MANUFACTURERS_MAX`].
    pub fn believe(&mut self, der: &[u8], kind: Kind) -> Result<(), Error> {
        self.believe_from(der, kind, "")
    }

    /// Like [`Manufacturers::believe`], for a certificate in a file, `source`.
    ///
    /// # Errors
    /// As [`Manufacturers::believe`].
    pub fn believe_from(&mut self, der: &[u8], kind: Kind, source: &str) -> Result<(), Error> {
        let wrong = |detail: &str| Error::Malformed {
            what: "certificate of a TPM manufacturer",
            detail: detail.into(),
        };
        if der.len() > CERTIFICATE_MAX {
            return Err(wrong("it is larger than 8 KiB"));
        }
        let certificate = Certificate::read(der).map_err(wrong)?;
        if !path::is_authority(&certificate).map_err(wrong)? {
            return Err(wrong("it is not a CA certificate"));
        }
        if self.manufacturers.len() == MANUFACTURERS_MAX {
            return Err(Error::Refused(
                "there are more than 1024 certificates of TPM manufacturers",
            ));
        }
        self.manufacturers.push(Manufacturer {
            der: der.to_vec(),
            kind,
            source: source.to_owned(),
        });
        self.grown(kind.as_str(), der);
        Ok(())
    }

    /// Uses a CRL (DER) of a manufacturer, or of a CA below one, from now on; of several by one
    /// issuer, the newest. Its signature is verified when the CRL is used. When it has expired, the
    /// certificates that it covers endorse nothing.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Refused`] for a CRL without a nextUpdate (RFC 5280, 5), and
    /// for an indirect one, a delta, or one of only some reasons. One with another issuing
    /// distribution point counts for the certificates that it covers.
    pub fn look_at(&mut self, list: &[u8]) -> Result<(), Error> {
        self.lists.push(List::read(list)?);
        self.grown("list", list);
        Ok(())
    }

    /// The issuers of the CRLs in use, and when each expires, Unix seconds.
    pub fn lists(&self) -> impl Iterator<Item = (String, u64)> {
        self.lists.iter().map(|list| (list.issuer_shown(), list.ends_s))
    }

    /// The trusted manufacturers.
    #[must_use]
    pub fn all(&self) -> Vec<Believed> {
        let certificates: Vec<_> = self
            .manufacturers
            .iter()
            .filter_map(|m| Some((m, Certificate::read(&m.der).ok()?)))
            .collect();
        let mut all = Vec::new();
        for (manufacturer, certificate) in &certificates {
            all.push(Believed {
                kind: manufacturer.kind,
                source: manufacturer.source.clone(),
                subject: names::shown(certificate.subject),
                issuer: names::shown(certificate.issuer),
                chain: path::above(certificate, certificates.iter().map(|(_, c)| c)),
                not_before_s: certificate.not_before_s,
                not_after_s: certificate.not_after_s,
                sha256: sha256_hex(&manufacturer.der),
            });
        }
        all
    }

    /// Records that a file is not used, and why.
    pub fn leave_out(&mut self, source: &str, problem: String) {
        self.left_out.push((source.to_owned(), problem));
    }

    /// Files that are not used, and why.
    #[must_use]
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// SHA-256, hexadecimal, of the current trust: it differs for other manufacturers and CRLs, for
    /// another order, and once a CRL has expired.
    #[must_use]
    pub fn digest(&self, now_s: u64) -> String {
        let ended = self.lists.iter().filter(|list| list.ends_s <= now_s).count();
        sha256_hex(format!("{} {ended}", self.digest).as_bytes())
    }

    fn grown(&mut self, what: &str, der: &[u8]) {
        self.digest = sha256_hex(&[self.digest.as_bytes(), what.as_bytes(), der].concat());
    }

    /// Which manufacturer made the TPM that `key` is in. `certificates`: that of the key, then
    /// those between it and the manufacturer's, DER.
    ///
    /// # Errors
    /// [`NotEndorsed`].
    pub fn verify(
        &self,
        key: &EndorsementKey,
        certificates: &[Vec<u8>],
        now_s: u64,
    ) -> Result<Endorsement, NotEndorsed> {
        let (leaf, between) =
            certificates.split_first().ok_or(NotEndorsed::NotOne("there is no certificate"))?;
        if between.len() > INTERMEDIATES_MAX
            || certificates.iter().any(|c| c.len() > CERTIFICATE_MAX)
        {
            return Err(NotEndorsed::Unreadable(format!(
                "more than {INTERMEDIATES_MAX} intermediate certificates, or one larger than {CERTIFICATE_MAX} bytes"
            )));
        }
        let leaf = Certificate::read(leaf).map_err(unreadable)?;
        is_for(&leaf, key)?;
        is_endorsement(&leaf)?;
        let kind = self.path(&leaf, between, now_s)?;
        let [manufacturer, model, version] = described(&leaf);
        Ok(Endorsement { kind, manufacturer, model, version })
    }

    fn path(
        &self,
        leaf: &Certificate<'_>,
        between: &[Vec<u8>],
        now_s: u64,
    ) -> Result<Kind, NotEndorsed> {
        // Unreadable certificates are not part of a chain.
        let between: Vec<_> =
            between.iter().filter_map(|der| Certificate::read(der).ok()).collect();
        let readable = self.manufacturers.iter().filter_map(|manufacturer| {
            Some((Certificate::read(&manufacturer.der).ok()?, manufacturer.kind))
        });
        let (believed, kinds): (Vec<_>, Vec<_>) =
            readable.filter(|(certificate, _)| !self.lists.names(certificate)).unzip();
        let purposes: &[&[u8]] = &[EK_CERTIFICATE, ANY_PURPOSE];
        let search =
            Search { between: &between, believed: &believed, lists: &self.lists, purposes, now_s };
        let found = search.from(leaf).map_err(|e| match e {
            Refused::Revoked => NotEndorsed::Revoked,
            Refused::OldList => NotEndorsed::OldList,
            Refused::NoIssuer(words) | Refused::Other(words) => NotEndorsed::Chain(words),
        })?;
        kinds.get(found).copied().ok_or_else(|| {
            NotEndorsed::Chain("its last certificate is not a manufacturer's".into())
        })
    }
}

/// A trusted manufacturer's certificate, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// What kind of TPM the manufacturer makes.
    pub kind: Kind,
    /// The file that contains it.
    pub source: String,
    /// As in `CN=Root CA 1, O=Somebody`.
    pub subject: String,
    /// The same as the subject for a root.
    pub issuer: String,
    /// Subjects of the trusted certificates above it.
    pub chain: Vec<String>,
    /// Unix seconds.
    pub not_before_s: u64,
    /// Unix seconds, inclusive.
    pub not_after_s: u64,
    /// SHA-256 of the certificate (DER), hexadecimal.
    pub sha256: String,
}

fn unreadable(what: &'static str) -> NotEndorsed {
    NotEndorsed::Unreadable(what.into())
}

/// Checks that the certificate's key is the TPM's: its numbers are the same, in any encoding that
/// issuers use.
fn is_for(certificate: &Certificate<'_>, key: &EndorsementKey) -> Result<(), NotEndorsed> {
    let wanted = key.public().to_spki_der().map_err(|_| NotEndorsed::OtherKey)?;
    if path::is_key(&certificate.key, &wanted, matches!(key.public().key, Key::Rsa { .. })) {
        Ok(())
    } else {
        Err(NotEndorsed::OtherKey)
    }
}

/// Checks that nothing in the certificate states another purpose. A secret that only the TPM can
/// decrypt proves the key, and a device cannot change its certificate. So an absent extension
/// restricts nothing (RFC 5280, 4.2.1.3 and 4.2.1.12), and neither does an unreadable one.
fn is_endorsement(certificate: &Certificate<'_>) -> Result<(), NotEndorsed> {
    let purposes = certificate.purposes().map_err(unreadable)?;
    if purposes.is_some_and(|all| !all.contains(&EK_CERTIFICATE) && !all.contains(&ANY_PURPOSE)) {
        return Err(NotEndorsed::NotOne("its extended key usage is for another purpose"));
    }
    if certificate.authority().is_ok_and(|(is_authority, _)| is_authority) {
        return Err(NotEndorsed::NotOne("it is a CA certificate"));
    }
    if certificate.key_usage().ok().flatten().is_some_and(|usage| usage & DECRYPTS == 0) {
        return Err(NotEndorsed::NotOne("its key usage is for another purpose"));
    }
    Ok(())
}

/// Manufacturer, model and version (EK Credential Profile, 3.2.9).
fn described(certificate: &Certificate<'_>) -> [String; 3] {
    [MANUFACTURER, MODEL, VERSION]
        .map(|kind| attribute(certificate, kind).unwrap_or_else(|| NOT_NAMED.into()))
}

/// An attribute in the certificate's alternative names or subject.
fn attribute(certificate: &Certificate<'_>, kind: &[u8]) -> Option<String> {
    let names = certificate.alternative_names().unwrap_or_default();
    let directories = names
        .into_iter()
        .filter(|name| name.is(DIRECTORY))
        .filter_map(|name| names::directory(name).ok());
    let parts = directories.chain([certificate.subject]).filter_map(|name| names::parts(name).ok());
    let found = parts.flatten().flatten().find(|a: &Attribute<'_>| a.kind == kind)?.text();
    Some(found.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(NAME_MAX).collect())
}
