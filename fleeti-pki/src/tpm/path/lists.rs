//! CRLs of manufacturers (RFC 5280, 5).

use super::names;
use super::read::{Certificate, Element, Elements, Read, SEQUENCE, Signed};
use super::signed;
use super::{PublicKey, Refused};
use crate::{Error, OrMalformed};
use const_oid::AssociatedOid;
use der::Decode;
use der::asn1::Uint;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;

/// cRLSign, in the first eight bits of a key usage.
const CRL_SIGN: u8 = 0x02;

/// A CRL.
#[derive(Debug)]
pub(in crate::tpm) struct List {
    der: Vec<u8>,
    /// Contents of the issuer's name.
    issuer: Vec<u8>,
    /// How new the CRL is: its number, and its thisUpdate, Unix seconds.
    newness: (Option<Uint>, u64),
    pub(in crate::tpm) ends_s: u64,
    /// The issuing distribution point, as encoded: which of the issuer's certificates it covers;
    /// empty for all.
    scope: Vec<u8>,
    only_authorities: bool,
    only_others: bool,
    list: webpki::CertRevocationList<'static>,
}

impl List {
    pub(in crate::tpm) fn read(der: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "CRL of a TPM manufacturer";
        let read = CertificateList::<Rfc5280>::from_der(der).or_malformed(WHAT)?.tbs_cert_list;
        let ends = read
            .next_update
            .ok_or(Error::Refused("the CRL of the TPM manufacturer has no nextUpdate"))?;
        let extension = |oid| {
            read.crl_extensions
                .iter()
                .flatten()
                .find(|e| e.extn_id == oid)
                .map(|e| e.extn_value.as_bytes())
        };
        let number = extension(CrlNumber::OID)
            .map(CrlNumber::from_der)
            .transpose()
            .or_malformed(WHAT)?
            .map(|n| n.0);
        let point = extension(IssuingDistributionPoint::OID);
        let said = point.map(IssuingDistributionPoint::from_der).transpose().or_malformed(WHAT)?;
        let of_point = |is: fn(&IssuingDistributionPoint) -> bool| said.as_ref().is_some_and(is);
        if of_point(|p| {
            p.indirect_crl || p.only_contains_attribute_certs || p.only_some_reasons.is_some()
        }) {
            return Err(Error::Refused(
                "the CRL of the TPM manufacturer covers attribute certificates, other issuers, or only some reasons",
            ));
        }
        let list = webpki::OwnedCertRevocationList::from_der(der).or_malformed(WHAT)?;
        Ok(Self {
            issuer: list_issuer(der).or_malformed(WHAT)?.to_vec(),
            newness: (number, read.this_update.to_unix_duration().as_secs()),
            ends_s: ends.to_unix_duration().as_secs(),
            scope: point.unwrap_or_default().to_vec(),
            only_authorities: of_point(|p| p.only_contains_ca_certs),
            only_others: of_point(|p| p.only_contains_user_certs),
            list: list.into(),
            der: der.to_vec(),
        })
    }

    pub(in crate::tpm) fn issuer_shown(&self) -> String {
        names::shown(&self.issuer)
    }

    /// Whether it covers certificates like this one.
    fn is_about(&self, certificate: &Certificate<'_>) -> Read<bool> {
        // An unreadable extension says nothing; an intermediate CA must have a readable one (6.1.4
        // k).
        let (is_authority, _) = certificate.authority().unwrap_or_default();
        let is_of_kind = if is_authority { !self.only_others } else { !self.only_authorities };
        Ok(is_of_kind && names::are_same(&self.issuer, certificate.issuer))
    }
}

/// The issuer of a certificate, as its CRLs are checked.
#[derive(Clone, Copy)]
pub(super) struct Issuer<'a> {
    pub(super) key: &'a PublicKey<'a>,
    /// `None` for a certificate without the extension, and for a trusted one, which may sign CRLs
    /// whatever its key usage is.
    pub(super) key_usage: Option<u8>,
}

/// The CRLs in use, the newest first.
#[derive(Debug, Default)]
pub(in crate::tpm) struct Lists(Vec<List>);

impl Lists {
    pub(in crate::tpm) fn push(&mut self, list: List) {
        self.0.push(list);
        self.0.sort_by(|a, b| b.newness.cmp(&a.newness));
    }

    pub(in crate::tpm) fn iter(&self) -> impl Iterator<Item = &List> {
        self.0.iter()
    }

    /// Whether a manufacturer's own certificate is on a CRL. The signature cannot be checked: the
    /// key of its issuer is unknown.
    pub(in crate::tpm) fn names(&self, certificate: &Certificate<'_>) -> bool {
        let on = |list: &&List| !matches!(list.list.find_serial(certificate.serial), Ok(None));
        self.0.iter().filter(on).any(|list| list.is_about(certificate).unwrap_or(true))
    }

    /// Checks that a certificate is not revoked by its issuer. An issuer without a CRL revokes
    /// nothing.
    pub(super) fn check(
        &self,
        certificate: &Certificate<'_>,
        issuer: Issuer<'_>,
        now_s: u64,
    ) -> Result<(), Refused> {
        let mut scopes = Vec::new();
        for list in &self.0 {
            if !list.is_about(certificate)? || scopes.contains(&&list.scope) {
                continue;
            }
            scopes.push(&list.scope);
            let (_, signed) = Signed::read(&list.der, "a CRL cannot be read")?;
            let of_list = |e| Refused::Other(format!("the CRL of its issuer is invalid: {e}"));
            signed::verify(&signed, issuer.key).map_err(of_list)?;
            if issuer.key_usage.is_some_and(|usage| usage & CRL_SIGN == 0) {
                return Err(of_list("its issuer may not sign CRLs".into()));
            }
            if list.ends_s <= now_s {
                return Err(Refused::OldList);
            }
            match list.list.find_serial(certificate.serial) {
                Ok(None) => {}
                Ok(Some(_)) => return Err(Refused::Revoked),
                Err(e) => return Err(of_list(e.to_string())),
            }
        }
        Ok(())
    }
}

/// Contents of the issuer's name in a CertificateList (5.1).
fn list_issuer(der: &[u8]) -> Read<&[u8]> {
    const WHAT: &str = "its issuer";
    let (list, _): (Element<'_>, _) = Signed::read(der, WHAT)?;
    let mut fields = Elements::new(list.content);
    fields.optional(super::read::INTEGER, WHAT)?;
    fields.expect(SEQUENCE, WHAT)?;
    Ok(fields.expect(SEQUENCE, WHAT)?.content)
}
