//! CRLs (RFC 5280, 5).

use crate::certificate::{Authority, public_key_der};
use crate::signer::{X509Signer, der_of, verify};
use crate::{Error, OrMalformed};
use const_oid::AssociatedOid;
use der::asn1::{BitString, OctetString};
use der::referenced::OwnedToRef;
use der::{Decode, Encode, Header, Length, Tag, TagNumber};
use fleeti_core::wire::api::RevocationReason;
use spki::DynSignatureAlgorithmIdentifier;
use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Time;
use x509_cert::{Certificate, Version};

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial, hexadecimal.
    pub serial: String,
    /// When it was revoked, Unix seconds.
    pub revoked_s: u64,
    /// The reason.
    pub reason: RevocationReason,
}

fn reason_code(reason: RevocationReason) -> Option<CrlReason> {
    match reason {
        // Must be absent (RFC 5280, 5.3.1).
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(CrlReason::KeyCompromise),
        RevocationReason::CessationOfOperation => Some(CrlReason::CessationOfOperation),
        RevocationReason::PrivilegeWithdrawn => Some(CrlReason::PrivilegeWithdrawn),
        RevocationReason::CertificateHold => Some(CrlReason::CertificateHold),
    }
}

/// Maximum number of certificates on one CRL.
pub const ENTRIES_MAX: usize = 500_000;

/// The entries of a CRL as encoded there: concatenated DER. An entry has about 50 bytes. A large
/// CRL is assembled from parts, so that signing it costs little more than hashing it.
#[derive(Debug, Default, Clone)]
pub struct Entries {
    der: Vec<u8>,
    count: usize,
}

impl Entries {
    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds certificates.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an invalid serial; [`Error::Refused`] for more than [`ENTRIES_MAX`]
    /// in total. After an error, the entries must not be used.
    pub fn extend(&mut self, revoked: &[Revoked]) -> Result<(), Error> {
        if self.count + revoked.len() > ENTRIES_MAX {
            return Err(Error::Refused("a CRL has at most 500000 certificates"));
        }
        for r in revoked {
            let serial = hex::decode(&r.serial).or_malformed("serial")?;
            let entry = RevokedCert::<x509_cert::certificate::Rfc5280> {
                serial_number: SerialNumber::new(&serial).or_malformed("serial")?,
                revocation_date: time(r.revoked_s)?,
                crl_entry_extensions: match reason_code(r.reason) {
                    Some(code) => Some(vec![reason_extension(code)?]),
                    None => None,
                },
            };
            entry.encode_to_vec(&mut self.der).or_malformed("CRL entry")?;
        }
        self.count += revoked.len();
        Ok(())
    }
}

fn time(s: u64) -> Result<Time, Error> {
    Time::try_from(UNIX_EPOCH + Duration::from_secs(s)).or_malformed("time")
}

fn reason_extension(code: CrlReason) -> Result<Extension, Error> {
    let extn_value = OctetString::new(der_of(&code, "reason")?).or_malformed("reason")?;
    Ok(Extension { extn_id: CrlReason::OID, critical: false, extn_value })
}

/// Number and times of a CRL.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// cRLNumber (5.2.3): grows with every CRL of its CA.
    pub number: u64,
    /// thisUpdate, Unix seconds.
    pub this_s: u64,
    /// nextUpdate, Unix seconds.
    pub next_s: u64,
}

/// Creates a signed CRL, DER.
///
/// # Errors
/// [`Error::Malformed`] for an invalid serial; [`Error::Backend`] if the key cannot sign.
pub fn create(
    authority: &Authority<'_>,
    revoked: &[Revoked],
    update: Update,
) -> Result<Vec<u8>, Error> {
    let mut entries = Entries::default();
    entries.extend(revoked)?;
    create_of(authority, &entries, update)
}

/// As [`create`], from prepared entries.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign.
pub fn create_of(
    authority: &Authority<'_>,
    entries: &Entries,
    update: Update,
) -> Result<Vec<u8>, Error> {
    let issuer = authority.certificate.tbs_certificate().subject().clone();
    // Not x509-cert's CrlBuilder: for an intermediate it copies the authorityKeyIdentifier of its
    // certificate, which names the key above it instead of its own.
    let key = authority.certificate.tbs_certificate().subject_public_key_info().owned_to_ref();
    let mut extensions = Vec::new();
    let number = CrlNumber::try_from(update.number).or_malformed("CRL number")?;
    extensions.push(number.to_extension(&issuer, &extensions).or_malformed("CRL number")?);
    let identifier = AuthorityKeyIdentifier::try_from(key).or_malformed("public key")?;
    extensions.push(
        identifier.to_extension(&issuer, &extensions).or_malformed("authority key identifier")?,
    );
    let signer = X509Signer::new(authority.signer);
    let algorithm = signer.signature_algorithm_identifier().or_malformed("algorithm")?;
    let mut head = der_of(&Version::V2, "CRL")?;
    head.extend(der_of(&algorithm, "CRL")?);
    head.extend(der_of(&issuer, "CRL")?);
    head.extend(der_of(&time(update.this_s)?, "CRL")?);
    head.extend(der_of(&time(update.next_s)?, "CRL")?);
    // An empty list of entries must be absent (RFC 5280, 5.1.2.6).
    let list_header =
        if entries.count == 0 { vec![] } else { header(Tag::Sequence, entries.der.len())? };
    let extensions = der_of(&extensions, "CRL")?;
    let tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    let extensions_header = header(tag, extensions.len())?;
    // Assembled by hand: the entries are DER already, and there may be very many.
    let tbs = sequence(&[&head, &list_header, &entries.der, &extensions_header, &extensions])?;
    let signature = authority.signer.sign(&tbs)?;
    let signature = BitString::from_bytes(&signature).or_malformed("signature")?;
    sequence(&[&tbs, &der_of(&algorithm, "CRL")?, &der_of(&signature, "CRL")?])
}

fn header(tag: Tag, length: usize) -> Result<Vec<u8>, Error> {
    der_of(&Header::new(tag, Length::try_from(length).or_malformed("CRL")?), "CRL")
}

fn sequence(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut whole = header(Tag::Sequence, length)?;
    whole.reserve_exact(length);
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    Ok(whole)
}

/// The entries of a CRL. The signature is not verified.
///
/// # Errors
/// [`Error::Malformed`].
pub fn entries(list: &[u8]) -> Result<Vec<Revoked>, Error> {
    let list =
        CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list).or_malformed("CRL")?;
    let entry = |r: &RevokedCert| {
        let reason = r.crl_entry_extensions.iter().flatten().find(|e| e.extn_id == CrlReason::OID);
        let code = reason
            .map(|e| CrlReason::from_der(e.extn_value.as_bytes()).or_malformed("reason"))
            .transpose()?;
        let known = RevocationReason::ALL.into_iter().find(|known| reason_code(*known) == code);
        Ok(Revoked {
            serial: hex::encode(r.serial_number.as_bytes()),
            revoked_s: r.revocation_date.to_unix_duration().as_secs(),
            reason: known.unwrap_or_default(),
        })
    };
    list.tbs_cert_list.revoked_certificates.iter().flatten().map(entry).collect()
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is on the CRL.
    #[error("the certificate is revoked")]
    Revoked,
    /// The CRL has expired, so the status of the certificate is unknown.
    #[error("the CRL expired at {next_update_s}")]
    Stale {
        /// Its nextUpdate, Unix seconds.
        next_update_s: u64,
    },
    /// The CRL does not cover this certificate.
    #[error("the CRL is not of the certificate's issuer")]
    OtherIssuer,
}

/// A CRL whose signature was verified, and which covers its issuer's certificates until its
/// nextUpdate. Only [`VerifiedCrl::read`] makes one.
#[derive(Debug)]
pub struct VerifiedCrl {
    issuer: Name,
    number: CrlNumber,
    next_update_s: u64,
    serials: HashSet<Vec<u8>>,
}

impl VerifiedCrl {
    /// Parses a complete CRL (no delta, no partition) and verifies that `issuer` signed it.
    ///
    /// # Errors
    /// [`Error::Refused`] for another issuer, a wrong signature, a CRL without number or
    /// nextUpdate, or one with a critical extension (RFC 5280, 5.2: extensions that narrow the
    /// scope are critical); [`Error::Malformed`].
    pub fn read(list: &[u8], issuer: &Certificate) -> Result<Self, Error> {
        let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list)
            .or_malformed("CRL")?;
        let tbs = &list.tbs_cert_list;
        let name = issuer.tbs_certificate().subject();
        if tbs.issuer != *name {
            return Err(Error::Refused("the CRL is of another issuer"));
        }
        if tbs.signature != list.signature_algorithm {
            return Err(Error::Refused("the CRL names two signature algorithms"));
        }
        let signature = list
            .signature
            .as_bytes()
            .ok_or(Error::Refused("the signature of the CRL is not a whole number of bytes"))?;
        verify(&public_key_der(issuer)?, &der_of(tbs, "CRL")?, signature)?;
        let extensions = tbs.crl_extensions.as_deref().unwrap_or_default();
        if extensions.iter().any(|e| e.critical) {
            return Err(Error::Refused(
                "the CRL has a critical extension, so it is not a complete one",
            ));
        }
        let number = extensions
            .iter()
            .find(|e| e.extn_id == CrlNumber::OID)
            .ok_or(Error::Refused("the CRL has no number"))?;
        let number =
            CrlNumber::from_der(number.extn_value.as_bytes()).or_malformed("CRL number")?;
        let next_update = tbs.next_update.ok_or(Error::Refused("the CRL has no nextUpdate"))?;
        let serials = tbs
            .revoked_certificates
            .iter()
            .flatten()
            .map(|r| r.serial_number.as_bytes().to_vec())
            .collect();
        Ok(Self {
            issuer: name.clone(),
            number,
            next_update_s: next_update.to_unix_duration().as_secs(),
            serials,
        })
    }

    /// When it expires, Unix seconds.
    #[must_use]
    pub fn next_update_s(&self) -> u64 {
        self.next_update_s
    }

    /// Whether two CRLs are of one issuer.
    #[must_use]
    pub fn is_of_same_issuer(&self, other: &Self) -> bool {
        self.issuer == other.issuer
    }

    /// Whether this CRL is newer than another one, or the same.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        self.number.0 >= other.number.0
    }

    /// Checks that a certificate of this CRL's issuer is not revoked, and that the CRL is current.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, certificate: &Certificate, now_s: u64) -> Result<(), Refusal> {
        let tbs = certificate.tbs_certificate();
        if *tbs.issuer() != self.issuer {
            return Err(Refusal::OtherIssuer);
        }
        // Entries count even if the CRL has expired: a revoked certificate stays revoked.
        if self.serials.contains(tbs.serial_number().as_bytes()) {
            return Err(Refusal::Revoked);
        }
        if now_s >= self.next_update_s {
            return Err(Refusal::Stale { next_update_s: self.next_update_s });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{Period, Purpose, Role, issue, self_signed, serial};
    use crate::signer::{Algorithm, Signer, SoftKey};

    const NOW_S: u64 = 1_800_000_000;
    const UPDATE: Update = Update { number: 7, this_s: NOW_S, next_s: NOW_S + 3600 };

    struct Issuer {
        key: SoftKey,
        certificate: Certificate,
    }

    impl Issuer {
        fn new(purpose: Purpose) -> Self {
            let key = SoftKey::generate(Algorithm::P384).unwrap();
            let certificate =
                self_signed(Role::Intermediate { purpose }, Period::starting(NOW_S, 86_400), &key)
                    .unwrap();
            Self { key, certificate }
        }
        fn authority(&self) -> Authority<'_> {
            Authority { certificate: &self.certificate, signer: &self.key }
        }
        fn device(&self, id: &str) -> Certificate {
            let key = SoftKey::generate(Algorithm::P256).unwrap();
            let role = Role::Device { id: id.parse().unwrap() };
            issue(role, Period::starting(NOW_S, 3600), key.public_key_der(), &self.authority())
                .unwrap()
        }
        fn list(&self, revoked: &[&Certificate], number: u64) -> Vec<u8> {
            let revoked: Vec<_> = revoked
                .iter()
                .map(|c| Revoked {
                    serial: serial(c),
                    revoked_s: NOW_S,
                    reason: RevocationReason::KeyCompromise,
                })
                .collect();
            create(&self.authority(), &revoked, Update { number, ..UPDATE }).unwrap()
        }
    }

    #[test]
    fn a_list_answers_for_its_issuers_certificates_until_its_next_update() {
        let issuer = Issuer::new(Purpose::Device);
        let (good, bad) = (issuer.device("good"), issuer.device("bad"));
        let list = VerifiedCrl::read(&issuer.list(&[&bad], 7), &issuer.certificate).unwrap();
        assert_eq!(list.check(&good, NOW_S + 3599), Ok(()));
        assert_eq!(list.check(&bad, NOW_S), Err(Refusal::Revoked));
        assert_eq!(
            list.check(&good, NOW_S + 3600),
            Err(Refusal::Stale { next_update_s: NOW_S + 3600 })
        );
        assert_eq!(
            list.check(&bad, NOW_S + 3600),
            Err(Refusal::Revoked),
            "a revoked certificate stays revoked"
        );
        let server = Issuer::new(Purpose::Server);
        assert_eq!(list.check(&server.device("good"), NOW_S), Err(Refusal::OtherIssuer));
    }

    #[test]
    fn a_list_by_another_key_or_with_a_flipped_bit_is_refused() {
        let (issuer, mallory) = (Issuer::new(Purpose::Device), Issuer::new(Purpose::Device));
        assert!(
            VerifiedCrl::read(&mallory.list(&[], 1), &issuer.certificate).is_err(),
            "the same name, another key"
        );
        assert!(
            VerifiedCrl::read(&issuer.list(&[], 1), &Issuer::new(Purpose::Server).certificate)
                .is_err(),
            "another name"
        );
        let good = issuer.list(&[&issuer.device("bad")], 1);
        for at in 0..good.len() {
            let mut list = good.clone();
            list[at] ^= 1;
            assert!(VerifiedCrl::read(&list, &issuer.certificate).is_err(), "byte {at}");
        }
    }

    /// Assembling the parts gives the CRL that x509-cert makes.
    #[test]
    fn a_list_in_parts_is_the_list_in_one_and_reads_as_it_was_written() {
        let issuer = Issuer::new(Purpose::Device);
        let revoked: Vec<_> = (1..=300u32)
            .map(|i| Revoked {
                serial: hex::encode([&[0x7f], &i.to_be_bytes()[..]].concat()),
                revoked_s: NOW_S - u64::from(i),
                reason: RevocationReason::ALL[i as usize % RevocationReason::ALL.len()],
            })
            .collect();
        let mut entries = Entries::default();
        revoked.chunks(7).for_each(|some| entries.extend(some).unwrap());
        assert_eq!(entries.count(), 300);
        let list = create_of(&issuer.authority(), &entries, UPDATE).unwrap();
        let parsed = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&list).unwrap();
        assert_eq!(der_of(&parsed, "CRL").unwrap(), list, "there is one encoding of it");
        assert_eq!(super::entries(&list).unwrap(), revoked);
        VerifiedCrl::read(&list, &issuer.certificate).unwrap();
        let too_many = vec![revoked[0].clone(); ENTRIES_MAX - 299];
        assert!(matches!(entries.extend(&too_many), Err(Error::Refused(_))));
    }

    #[test]
    fn a_list_that_covers_only_a_part_is_refused() {
        let issuer = Issuer::new(Purpose::Device);
        let mut list =
            CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&issuer.list(&[], 1))
                .unwrap();
        for extension in list.tbs_cert_list.crl_extensions.iter_mut().flatten() {
            extension.critical = true;
        }
        let signature = issuer.key.sign(&der_of(&list.tbs_cert_list, "CRL").unwrap()).unwrap();
        list.signature = BitString::from_bytes(&signature).unwrap();
        let read = VerifiedCrl::read(&der_of(&list, "CRL").unwrap(), &issuer.certificate);
        assert!(matches!(read, Err(Error::Refused(text)) if text.contains("critical")));
    }

    #[test]
    fn an_older_list_does_not_follow_a_newer_one() {
        let issuer = Issuer::new(Purpose::Device);
        let read =
            |number| VerifiedCrl::read(&issuer.list(&[], number), &issuer.certificate).unwrap();
        assert!(
            read(300).follows(&read(299))
                && read(300).follows(&read(300))
                && read(256).follows(&read(255))
        );
        assert!(!read(299).follows(&read(300)));
    }
}
