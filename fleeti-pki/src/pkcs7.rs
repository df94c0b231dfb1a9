//! SignedData (RFC 2315, 9) in the form that firmware reads: one signer, RSA with SHA-256, with its
//! certificate.
//!
//! Only signatures of this module verify: content, certificate and signature have exactly one
//! encoding here, and the bytes must equal it. So there is no parser that could skip hidden data.

use crate::certificate::to_der;
use crate::signer::{Algorithm, Signer, verify_rsa};
use crate::{Error, OrMalformed};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode, Tag, TagNumber};
use x509_cert::Certificate;

pub(crate) const SIGNED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(crate) const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
pub(crate) const SHA_256: ObjectIdentifier = const_oid::db::rfc5912::ID_SHA_256;
const RSA_ENCRYPTION: ObjectIdentifier = const_oid::db::rfc5912::RSA_ENCRYPTION;
/// Length of an RSA-2048 signature in bytes.
const SIGNATURE: usize = 256;

pub(crate) fn tlv(tag: Tag, content: Vec<u8>) -> Result<Vec<u8>, Error> {
    Any::new(tag, content).and_then(|any| any.to_der()).or_malformed("DER")
}
pub(crate) fn sequence(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    tlv(Tag::Sequence, parts.concat())
}
pub(crate) fn set(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    tlv(Tag::Set, parts.concat())
}
pub(crate) fn context(number: u32, constructed: bool, content: Vec<u8>) -> Result<Vec<u8>, Error> {
    tlv(Tag::ContextSpecific { constructed, number: TagNumber(number) }, content)
}
pub(crate) fn encoded<T: Encode>(value: &T) -> Result<Vec<u8>, Error> {
    value.to_der().or_malformed("DER")
}
pub(crate) fn octets(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    encoded(&OctetString::new(bytes).or_malformed("DER")?)
}
/// The AlgorithmIdentifier of SHA-256, with the NULL that firmware expects.
pub(crate) fn sha_256() -> Result<Vec<u8>, Error> {
    sequence(&[&encoded(&SHA_256)?, &encoded(&Any::null())?])
}

/// The signed content and its encoding.
pub(crate) struct Content {
    /// The inner ContentInfo.
    pub encapsulated: Vec<u8>,
    /// The signed SET OF Attribute (RFC 2315, 9.2), if there are attributes.
    pub attributes: Option<Vec<u8>>,
    /// The bytes to sign: the attributes, or the content.
    pub to_sign: Vec<u8>,
}

/// Signs the content.
pub(crate) fn sign(
    content: &Content,
    certificate: &Certificate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, Error> {
    if signer.algorithm() != Algorithm::Rsa2048 {
        return Err(Error::Refused("UEFI firmware accepts RSA keys only"));
    }
    assemble(content, certificate, &signer.sign(&content.to_sign)?)
}

/// Verifies that [`sign`] made these bytes for this content with the key of this certificate.
pub(crate) fn verify(
    signed: &[u8],
    content: &Content,
    certificate: &Certificate,
) -> Result<(), Error> {
    const NOT_OURS: Error = Error::Refused("the key of this certificate did not sign this content");
    // The signature is the last element.
    let signature = signed.len().checked_sub(SIGNATURE).map(|at| &signed[at..]).ok_or(NOT_OURS)?;
    if assemble(content, certificate, signature)? != signed {
        return Err(NOT_OURS);
    }
    verify_rsa(&crate::certificate::public_key_der(certificate)?, &content.to_sign, signature)
}

fn assemble(
    content: &Content,
    certificate: &Certificate,
    signature: &[u8],
) -> Result<Vec<u8>, Error> {
    let (null, sha_256) = (encoded(&Any::null())?, sha_256()?);
    let tbs = certificate.tbs_certificate();
    let issuer_and_serial = sequence(&[&encoded(tbs.issuer())?, &encoded(tbs.serial_number())?])?;
    let one = [0x02, 0x01, 0x01];
    let mut implicit = content.attributes.clone().unwrap_or_default();
    if let Some(tag) = implicit.first_mut() {
        *tag = 0xa0; // [0] IMPLICIT SET OF Attribute
    }
    let rsa = sequence(&[&encoded(&RSA_ENCRYPTION)?, &null])?;
    let signer_info =
        sequence(&[&one, &issuer_and_serial, &sha_256, &implicit, &rsa, &octets(signature)?])?;
    let certificates = context(0, true, to_der(certificate)?)?;
    sequence(&[
        &one,
        &set(&[&sha_256])?,
        &content.encapsulated,
        &certificates,
        &set(&[&signer_info])?,
    ])
}
