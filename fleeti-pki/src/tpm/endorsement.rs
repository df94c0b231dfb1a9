//! Who made a TPM: the certificate of its endorsement key, up to a maker that an operator chose to believe (TCG "EK
//! Credential Profile for TPM Family 2.0", version 2.5, 3.2).

use super::public::{EndorsementKey, Key};
use crate::certificate::{self, Parsed};
use crate::{Error, OrMalformed};
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::Uint;
use der::{Decode, Reader};
use fleeti_core::canonical::sha256_hex;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage, SubjectAltName};

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
/// The same, as webpki takes it: the contents of its DER.
const EK_CERTIFICATE_DER: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
const MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.1");
const MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.2");
const VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.3");
/// Some makers name the key's purpose in its algorithm (RFC 4055, 4.1).
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
/// Most certificates between a TPM and its maker.
pub const INTERMEDIATES_MAX: usize = 8;
/// Bytes of the largest certificate.
pub const CERTIFICATE_MAX: usize = 8 * 1024;

/// What a maker makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TPMs in the processor: nobody sits on a bus between the two, nor resets one of them alone.
    Processor,
    /// Chips beside it, or anything of which nobody says that it is in the processor.
    Hardware,
    /// TPMs in software: whoever runs the host has their secrets.
    Virtual,
}

impl Kind {
    /// Each of them.
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

/// Makers whose TPMs are believed, and what they have taken back. Empty is a choice too: nothing is then genuine.
#[derive(Debug, Default)]
pub struct Makers {
    makers: Vec<Maker>,
    /// The newest first: webpki looks into the first one that is about a certificate.
    lists: Vec<List>,
    digest: String,
}

#[derive(Debug)]
struct Maker {
    anchor: TrustAnchor<'static>,
    kind: Kind,
    /// Issuer and serial number of its own certificate, as webpki has them.
    named: (Vec<u8>, Vec<u8>),
}

#[derive(Debug)]
struct List {
    issuer: String,
    /// How new it is: its number, and when it was made, Unix seconds.
    newness: (Option<Uint>, u64),
    ends_s: u64,
    list: webpki::CertRevocationList<'static>,
}

/// What a certificate says of a TPM that one of the [`Makers`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// What kind of maker.
    pub kind: Kind,
    /// As in `id:49465800`.
    pub manufacturer: String,
    /// As in `SLB9670`.
    pub model: String,
    /// As in `id:0007`.
    pub version: String,
}

/// Why nobody vouches for a TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEndorsed {
    /// The certificate is for another key.
    #[error("the endorsement certificate is for another key")]
    OtherKey,
    /// The certificate is none of an endorsement key.
    #[error("the certificate is none of an endorsement key: {0}")]
    NotOne(&'static str),
    /// Whoever made it takes it back.
    #[error("the endorsement certificate, or one between it and its maker, is revoked")]
    Revoked,
    /// Whether it is revoked cannot be told.
    #[error("the revocation list of the TPM's maker has ended: a newer one is needed")]
    OldList,
    /// It leads to no maker that is believed.
    #[error("the endorsement certificate leads to no maker that is believed: {0}")]
    Chain(String),
    /// It cannot be read.
    #[error("the endorsement certificate cannot be read: {0}")]
    Unreadable(String),
}

/// Certificates (DER) that lie one behind the other, up to the first byte that begins none.
pub fn each_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut reader = der::SliceReader::new(rest).ok()?;
        let one = Some(reader.tlv_bytes().ok()?).filter(|one| one.first() == Some(&0x30))?;
        rest = rest.get(one.len()..)?;
        Some(one)
    })
}

impl Makers {
    /// Believes the maker whose certificate (DER) this is: a root, or an intermediate that signs endorsement certificates.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the certificate of an authority.
    pub fn believe(&mut self, der: &[u8], kind: Kind) -> Result<(), Error> {
        let parsed = certificate::from_der(der)?;
        let constraints = parsed.tbs_certificate().get_extension::<BasicConstraints>().or_malformed("certificate of a maker")?;
        if !constraints.is_some_and(|(_, c)| c.ca) {
            return Err(Error::Malformed { what: "certificate of a maker", detail: "it is not an authority's".into() });
        }
        let der = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&der).or_malformed("certificate of a maker")?.to_owned();
        let own = webpki::EndEntityCert::try_from(&der).or_malformed("certificate of a maker")?;
        let named = (own.issuer().to_vec(), own.serial().to_vec());
        self.makers.push(Maker { anchor, kind, named });
        self.grown(kind.as_str(), &der);
        Ok(())
    }

    /// Looks at a revocation list (DER) of a maker, or of an authority below one, from now on; of several by one issuer, at the
    /// newest. Its signature is verified when it is of use. Where it has ended, nothing that it is about is endorsed.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Refused`] for anything but a whole list that says when the next one comes (RFC 5280,
    /// 5): a part of one, and an addition to one, too.
    pub fn look_at(&mut self, list: &[u8]) -> Result<(), Error> {
        const WHAT: &str = "revocation list of a maker";
        let read = CertificateList::<Rfc5280>::from_der(list).or_malformed(WHAT)?.tbs_cert_list;
        let ends = read.next_update.ok_or(Error::Refused("the list of a maker does not say when the next one comes"))?;
        let number = read.crl_extensions.iter().flatten().find(|e| e.extn_id == CrlNumber::OID);
        let number = number.map(|e| CrlNumber::from_der(e.extn_value.as_bytes())).transpose().or_malformed(WHAT)?.map(|n| n.0);
        let (since_s, ends_s) = (read.this_update.to_unix_duration().as_secs(), ends.to_unix_duration().as_secs());
        let owned = webpki::OwnedCertRevocationList::from_der(list).or_malformed(WHAT)?;
        self.lists.push(List { issuer: read.issuer.to_string(), newness: (number, since_s), ends_s, list: owned.into() });
        self.lists.sort_by(|a, b| b.newness.cmp(&a.newness));
        self.grown("list", list);
        Ok(())
    }

    /// Whose lists are looked at, and when each ends, Unix seconds.
    pub fn lists(&self) -> impl Iterator<Item = (&str, u64)> {
        self.lists.iter().map(|list| (list.issuer.as_str(), list.ends_s))
    }

    /// SHA-256, hexadecimal, of whom is believed now: another one for other makers and lists, for the same in another order,
    /// and once a list has ended.
    #[must_use]
    pub fn digest(&self, now_s: u64) -> String {
        let ended = self.lists.iter().filter(|list| list.ends_s <= now_s).count();
        sha256_hex(format!("{} {ended}", self.digest).as_bytes())
    }

    fn grown(&mut self, what: &str, der: &[u8]) {
        self.digest = sha256_hex(&[self.digest.as_bytes(), what.as_bytes(), der].concat());
    }

    /// Whether a maker's own certificate is on a list: no certificate leads to it through that one.
    fn is_revoked(&self, maker: &Maker) -> bool {
        let (issuer, serial) = &maker.named;
        self.lists.iter().any(|l| l.list.issuer() == issuer.as_slice() && !matches!(l.list.find_serial(serial), Ok(None)))
    }

    /// Who made the TPM that `key` is in. `certificates`: that of the key, then those between it and its maker, DER.
    ///
    /// # Errors
    /// [`NotEndorsed`].
    pub fn verify(&self, key: &EndorsementKey, certificates: &[Vec<u8>], now_s: u64) -> Result<Endorsement, NotEndorsed> {
        let (leaf, between) = certificates.split_first().ok_or(NotEndorsed::NotOne("there is none"))?;
        if between.len() > INTERMEDIATES_MAX || certificates.iter().any(|c| c.len() > CERTIFICATE_MAX) {
            return Err(NotEndorsed::Unreadable(format!("more than {INTERMEDIATES_MAX} between, or one above {CERTIFICATE_MAX} bytes")));
        }
        let parsed = certificate::from_der(leaf).map_err(|e| NotEndorsed::Unreadable(e.to_string()))?;
        is_for(&parsed, key)?;
        is_endorsement(&parsed, key)?;
        let kind = self.path(leaf, between, now_s)?;
        let [manufacturer, model, version] = described(&parsed)?;
        Ok(Endorsement { kind, manufacturer, model, version })
    }

    fn path(&self, leaf: &[u8], between: &[Vec<u8>], now_s: u64) -> Result<Kind, NotEndorsed> {
        let chain = |e: webpki::Error| match e {
            webpki::Error::CertRevoked => NotEndorsed::Revoked,
            webpki::Error::CrlExpired { .. } => NotEndorsed::OldList,
            e => NotEndorsed::Chain(e.to_string()),
        };
        let leaf = CertificateDer::from(leaf);
        let end = webpki::EndEntityCert::try_from(&leaf).map_err(chain)?;
        let believed: Vec<_> = self.makers.iter().filter(|maker| !self.is_revoked(maker)).collect();
        let anchors: Vec<_> = believed.iter().map(|maker| maker.anchor.clone()).collect();
        let between: Vec<_> = between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        // Not `required`: the certificates between have no such usage, and need none.
        let usage = webpki::KeyUsage::required_if_present(EK_CERTIFICATE_DER);
        let lists: Vec<_> = self.lists.iter().map(|l| &l.list).collect();
        // Who publishes none revokes none.
        let revocation = webpki::RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(webpki::RevocationCheckDepth::Chain)
                .with_status_policy(webpki::UnknownStatusPolicy::Allow)
                .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
                .build()
        });
        let path = end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &between, now, usage, revocation, None).map_err(chain)?;
        let found = believed.iter().find(|maker| maker.anchor == *path.anchor());
        found.map(|maker| maker.kind).ok_or_else(|| NotEndorsed::Chain("its end is no maker's".into()))
    }
}

fn is_for(certificate: &Parsed, key: &EndorsementKey) -> Result<(), NotEndorsed> {
    let wanted = key.public().to_spki_der().map_err(|_| NotEndorsed::OtherKey)?;
    let wanted = spki::SubjectPublicKeyInfoOwned::from_der(&wanted).map_err(|_| NotEndorsed::OtherKey)?;
    let found = certificate.tbs_certificate().subject_public_key_info();
    let same_kind =
        found.algorithm == wanted.algorithm || (matches!(key.public().key, Key::Rsa { .. }) && found.algorithm.oid == RSAES_OAEP);
    if same_kind && found.subject_public_key == wanted.subject_public_key { Ok(()) } else { Err(NotEndorsed::OtherKey) }
}

fn is_endorsement(certificate: &Parsed, key: &EndorsementKey) -> Result<(), NotEndorsed> {
    let tbs = certificate.tbs_certificate();
    let unreadable = |e: der::Error| NotEndorsed::Unreadable(e.to_string());
    let usages = tbs.get_extension::<ExtendedKeyUsage>().map_err(unreadable)?;
    if !usages.is_some_and(|(_, usages)| usages.0.contains(&EK_CERTIFICATE)) {
        return Err(NotEndorsed::NotOne("its extended key usage does not say so"));
    }
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(unreadable)?;
    if constraints.is_some_and(|(_, c)| c.ca) {
        return Err(NotEndorsed::NotOne("it is an authority's"));
    }
    let usage = tbs.get_extension::<KeyUsage>().map_err(unreadable)?;
    let fits = usage.is_none_or(|(_, usage)| match key.public().key {
        Key::Rsa { .. } => usage.key_encipherment(),
        Key::Ecc { .. } => usage.key_agreement(),
    });
    if fits { Ok(()) } else { Err(NotEndorsed::NotOne("its key usage is another")) }
}

/// Manufacturer, model and version (EK Credential Profile, 3.2.9).
fn described(certificate: &Parsed) -> Result<[String; 3], NotEndorsed> {
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().map_err(|e| NotEndorsed::Unreadable(e.to_string()))?;
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    let attributes: Vec<_> = names
        .iter()
        .filter_map(|name| if let GeneralName::DirectoryName(name) = name { Some(name) } else { None })
        .flat_map(|name| name.iter())
        .collect();
    let found = |oid| {
        let attribute = attributes.iter().find(|a| a.oid == oid)?;
        let text = std::str::from_utf8(attribute.value.value()).ok()?;
        Some(text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect())
    };
    [MANUFACTURER, MODEL, VERSION]
        .map(|oid| found(oid).ok_or(NotEndorsed::NotOne("it does not name manufacturer, model and version")))
        .into_iter()
        .collect::<Result<Vec<String>, _>>()
        .and_then(|three| three.try_into().map_err(|_| NotEndorsed::NotOne("it names too much")))
}
