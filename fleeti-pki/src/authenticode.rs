//! Authenticode signatures of UEFI programs (Microsoft, "Windows Authenticode Portable Executable
//! Signature Format", 2008; UEFI 2.10, 32.2.4).
//!
//! RSA-2048 with SHA-256, which every firmware knows. The digest leaves out checksum and certificate
//! table, so a signed program has the digest of the unsigned one.

use crate::certificate::to_der;
use crate::signer::{Algorithm, Signer};
use crate::{Error, OrMalformed};
use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use der::{Encode, Tag, TagNumber};
use sha2_010::Digest;
use x509_cert::Certificate;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
const SHA_256: ObjectIdentifier = const_oid::db::rfc5912::ID_SHA_256;
const RSA_ENCRYPTION: ObjectIdentifier = const_oid::db::rfc5912::RSA_ENCRYPTION;
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// WIN_CERT_REVISION_2_0 and WIN_CERT_TYPE_PKCS_SIGNED_DATA (UEFI 2.10, 32.2.4).
const WIN_CERTIFICATE_REVISION: u16 = 0x0200;
const WIN_CERTIFICATE_PKCS7: u16 = 0x0002;
/// Offset of the certificate table entry in the optional header of PE32+ (PE format, "Optional Header
/// Data Directories").
const CERTIFICATE_TABLE_OFFSET: usize = 144;

/// The Authenticode digest of a PE32+ program, SHA-256.
///
/// # Errors
/// [`Error::Malformed`] for another kind of file.
pub fn digest(pe: &[u8]) -> Result<[u8; 32], Error> {
    let file = object::read::pe::PeFile64::parse(pe).or_malformed("PE program")?;
    let mut hash = sha2_010::Sha256::new();
    authenticode::authenticode_digest(&file, &mut hash).or_malformed("PE program")?;
    Ok(hash.finalize().into())
}

/// A program with a signature attached.
///
/// # Errors
/// [`Error::Malformed`] for a program that is no PE32+ or is signed already; [`Error::Refused`] for a key
/// that firmware would not accept.
pub fn sign(pe: &[u8], certificate: &Certificate, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    if signer.algorithm() != Algorithm::Rsa2048 {
        return Err(Error::Refused("UEFI firmware accepts RSA keys only"));
    }
    let entry = certificate_table_entry(pe)?;
    if pe[entry..entry + 8] != [0; 8] {
        return Err(Error::Refused("the program is signed already"));
    }
    let mut signed = pe.to_vec();
    // The table starts at a multiple of 8, and padding is part of what is hashed.
    signed.resize(signed.len().next_multiple_of(8), 0);
    let pkcs7 = signed_data(&digest(&signed)?, certificate, signer)?;
    let (start, unpadded) = (signed.len(), 8 + pkcs7.len());
    let length = unpadded.next_multiple_of(8);
    let too_large = |_| Error::Refused("the program is larger than 4 GiB");
    signed.extend(u32::try_from(length).map_err(too_large)?.to_le_bytes());
    signed.extend(WIN_CERTIFICATE_REVISION.to_le_bytes());
    signed.extend(WIN_CERTIFICATE_PKCS7.to_le_bytes());
    signed.extend(pkcs7);
    signed.resize(start + length, 0);
    signed[entry..entry + 4].copy_from_slice(&u32::try_from(start).map_err(too_large)?.to_le_bytes());
    signed[entry + 4..entry + 8].copy_from_slice(&u32::try_from(length).map_err(too_large)?.to_le_bytes());
    Ok(signed)
}

fn certificate_table_entry(pe: &[u8]) -> Result<usize, Error> {
    object::read::pe::PeFile64::parse(pe).or_malformed("PE program")?;
    let at = pe.get(0x3c..0x40).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    // "PE\0\0", the COFF header of 20 bytes, then the optional header.
    let entry = at.map(|header| header as usize + 4 + 20 + CERTIFICATE_TABLE_OFFSET);
    entry.filter(|e| e + 8 <= pe.len()).ok_or(Error::Refused("the program has no certificate table entry"))
}

fn tlv(tag: Tag, content: Vec<u8>) -> Result<Vec<u8>, Error> {
    Any::new(tag, content).and_then(|any| any.to_der()).or_malformed("DER")
}
fn sequence(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    tlv(Tag::Sequence, parts.concat())
}
fn set(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    tlv(Tag::Set, parts.concat())
}
fn context(number: u32, constructed: bool, content: Vec<u8>) -> Result<Vec<u8>, Error> {
    tlv(Tag::ContextSpecific { constructed, number: TagNumber(number) }, content)
}
fn encoded<T: Encode>(value: &T) -> Result<Vec<u8>, Error> {
    value.to_der().or_malformed("DER")
}

/// ContentInfo with SignedData (RFC 2315, 9.1), one signer, the digest of the program as content.
fn signed_data(digest: &[u8; 32], certificate: &Certificate, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let null = encoded(&Any::null())?;
    let sha_256 = sequence(&[&encoded(&SHA_256)?, &null])?;
    // SpcPeImageData: no flags, file [0] -> [2] -> unicode [0] "".
    let file = context(0, true, context(2, true, context(0, false, vec![])?)?)?;
    let image_data = sequence(&[&[0x03, 0x01, 0x00], &file])?;
    let attribute = sequence(&[&encoded(&SPC_PE_IMAGE_DATA)?, &image_data])?;
    let digest_info = sequence(&[&sha_256, &encoded(&OctetString::new(digest.to_vec()).or_malformed("DER")?)?])?;
    let content_parts = [attribute, digest_info].concat();
    let content = tlv(Tag::Sequence, content_parts.clone())?;
    let encapsulated = sequence(&[&encoded(&SPC_INDIRECT_DATA)?, &context(0, true, content)?])?;

    // The message digest covers the content without its outer tag and length (RFC 2315, 9.3).
    let message_digest = OctetString::new(sha2_010::Sha256::digest(&content_parts).to_vec()).or_malformed("DER")?;
    let attributes = [
        sequence(&[&encoded(&CONTENT_TYPE)?, &set(&[&encoded(&SPC_INDIRECT_DATA)?])?])?,
        sequence(&[&encoded(&MESSAGE_DIGEST)?, &set(&[&encoded(&message_digest)?])?])?,
    ];
    // A SET OF in DER is sorted by its encodings.
    let sorted: SetOfVec<Any> = attributes
        .iter()
        .map(|a| der::Decode::from_der(a))
        .collect::<der::Result<Vec<Any>>>()
        .and_then(SetOfVec::try_from)
        .or_malformed("DER")?;
    let to_sign = encoded(&sorted)?;
    let signature = OctetString::new(signer.sign(&to_sign)?).or_malformed("DER")?;
    let mut implicit = to_sign;
    implicit[0] = 0xa0; // [0] IMPLICIT SET OF Attribute

    let tbs = certificate.tbs_certificate();
    let issuer_and_serial = sequence(&[&encoded(tbs.issuer())?, &encoded(tbs.serial_number())?])?;
    let one = [0x02, 0x01, 0x01];
    let signer_info = sequence(&[
        &one,
        &issuer_and_serial,
        &sha_256,
        &implicit,
        &sequence(&[&encoded(&RSA_ENCRYPTION)?, &null])?,
        &encoded(&signature)?,
    ])?;
    let data = sequence(&[&one, &set(&[&sha_256])?, &encapsulated, &context(0, true, to_der(certificate)?)?, &set(&[&signer_info])?])?;
    sequence(&[&encoded(&SIGNED_DATA)?, &context(0, true, data)?])
}
