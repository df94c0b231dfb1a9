//! Certificate revocation lists (RFC 5280, 5).

use crate::certificate::Authority;
use crate::signer::{X509Signer, der_of};
use crate::{Error, OrMalformed};
use der::asn1::BitString;
use der::referenced::OwnedToRef;
use spki::DynSignatureAlgorithmIdentifier;
use std::time::{Duration, UNIX_EPOCH};
use x509_cert::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::ToExtension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Time;

/// A revoked certificate.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// Its serial, hexadecimal.
    pub serial: String,
    /// When, Unix seconds.
    pub revoked_s: u64,
}

/// A signed list, DER. `number` must grow with every list of this authority.
///
/// # Errors
/// [`Error::Malformed`] for a serial that is none; [`Error::Backend`] when the key cannot sign.
pub fn create(authority: &Authority<'_>, revoked: &[Revoked], number: u64, now_s: u64, valid_s: u64) -> Result<Vec<u8>, Error> {
    let time = |s: u64| Time::try_from(UNIX_EPOCH + Duration::from_secs(s)).or_malformed("time");
    let entries = revoked
        .iter()
        .map(|r| {
            let serial = hex::decode(&r.serial).or_malformed("serial")?;
            Ok(RevokedCert::<x509_cert::certificate::Rfc5280> {
                serial_number: SerialNumber::new(&serial).or_malformed("serial")?,
                revocation_date: time(r.revoked_s)?,
                crl_entry_extensions: None,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let issuer = authority.certificate.tbs_certificate().subject().clone();
    // Not x509-cert's CrlBuilder: it copies the authority's own authorityKeyIdentifier, which names the
    // key above an intermediate instead of the intermediate's.
    let key = authority.certificate.tbs_certificate().subject_public_key_info().owned_to_ref();
    let mut extensions = Vec::new();
    let number = CrlNumber::try_from(number).or_malformed("CRL number")?;
    extensions.push(number.to_extension(&issuer, &extensions).or_malformed("CRL number")?);
    let identifier = AuthorityKeyIdentifier::try_from(key).or_malformed("public key")?;
    extensions.push(identifier.to_extension(&issuer, &extensions).or_malformed("authority key identifier")?);
    let signer = X509Signer::new(authority.signer);
    let algorithm = signer.signature_algorithm_identifier().or_malformed("algorithm")?;
    let tbs = TbsCertList {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer,
        this_update: time(now_s)?,
        next_update: Some(time(now_s + valid_s)?),
        // An empty list must be absent, not an empty sequence (RFC 5280, 5.1.2.6).
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(extensions),
    };
    let signature = authority.signer.sign(&der_of(&tbs, "CRL")?)?;
    let signature = BitString::from_bytes(&signature).or_malformed("signature")?;
    let list = CertificateList { tbs_cert_list: tbs, signature_algorithm: algorithm, signature };
    der_of(&list, "CRL")
}
