//! Authenticode signatures of EFI binaries (Microsoft, "Windows Authenticode Portable Executable
//! Signature Format", 2008; UEFI 2.10, 32.2.4).
//!
//! RSA-2048 with SHA-256, which all firmware supports. The digest does not cover checksum and
//! certificate table, so signing does not change it.

use crate::pe::{self, certificate_table, certificate_table_entry, check_layout};
use crate::pkcs7::{
    self, Content, SIGNED_DATA, context, encoded, octets, sequence, set, sha_256, tlv,
};
use crate::signer::Signer;
use crate::{Error, OrMalformed};
use der::Tag;
use der::asn1::{Any, ObjectIdentifier, SetOfVec};
use object::ObjectSection;
use object::read::pe::PeFile64;
use sha2_010::Digest;
use x509_cert::Certificate;

const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// WIN_CERT_REVISION_2_0 and WIN_CERT_TYPE_PKCS_SIGNED_DATA (UEFI 2.10, 32.2.4).
const WIN_CERTIFICATE_REVISION: u16 = 0x0200;
const WIN_CERTIFICATE_PKCS7: u16 = 0x0002;
/// Maximum number of signatures that are checked.
const SIGNATURES_MAX: usize = 16;
/// Sections that a UKI must contain. Without `.initrd` the stub would accept an unsigned initrd,
/// without `.cmdline` an unsigned command line.
const UKI_SECTIONS: [&str; 4] = [".linux", ".osrel", ".cmdline", ".initrd"];

/// The Authenticode digest of a PE32+ file, SHA-256.
///
/// # Errors
/// [`Error::Malformed`] for another kind of file.
pub fn digest(pe: &[u8]) -> Result<[u8; 32], Error> {
    let file = PeFile64::parse(pe).or_malformed("EFI binary")?;
    check_layout(&file, pe)?;
    let mut hash = sha2_010::Sha256::new();
    authenticode::authenticode_digest(&file, &mut hash).or_malformed("EFI binary")?;
    Ok(hash.finalize().into())
}

/// Checks that a UKI contains everything that it boots, and boots in only one way: profiles would
/// add command lines for which PCR 11 is not predicted.
///
/// # Errors
/// [`Error::Malformed`] naming the section that is missing, empty, duplicate, or not allowed.
pub fn check_uki(pe: &[u8]) -> Result<(), Error> {
    let file = PeFile64::parse(pe).or_malformed("UKI")?;
    for section in file.section_table().iter() {
        let name = section.raw_name();
        // A section that looks measured, or like a PCR policy, but whose name no stub knows, would
        // be neither.
        if name == b".profile"
            || name.starts_with(b".pcr") && name != b".pcrsig" && name != b".pcrpkey"
        {
            let name = String::from_utf8_lossy(name);
            return Err(Error::Malformed {
                what: "UKI",
                detail: format!("it must not have a section {name}"),
            });
        }
    }
    for wanted in UKI_SECTIONS {
        let mut found = pe::named(&file, wanted);
        let is_there = found.next().is_some_and(|s| s.size() > 0);
        if !is_there || found.next().is_some() {
            return Err(Error::Malformed {
                what: "UKI",
                detail: format!(
                    "it needs one section {wanted} that is not empty: else it would boot with one that is not signed"
                ),
            });
        }
    }
    Ok(())
}

/// Checks that the command line of a UKI is one of Fleeti's: it contains this root hash and
/// everything that Fleeti sets, and otherwise only arguments that a profile may set
/// ([`fleeti_core::command_line::check`]).
///
/// # Errors
/// [`Error::Malformed`] naming the first wrong word.
pub fn check_command_line(pe: &[u8], root_hash: &str) -> Result<(), Error> {
    const WHAT: &str = "UKI";
    let file = PeFile64::parse(pe).or_malformed(WHAT)?;
    let data = pe::section(&file, ".cmdline")?.unwrap_or_default();
    let text = std::str::from_utf8(data).or_malformed("command line")?.trim_end_matches('\0');
    fleeti_core::command_line::check(text, root_hash)
        .map_err(|e| Error::Malformed { what: WHAT, detail: e.to_string() })
}

/// Pads an EFI binary to a multiple of 8, where the certificate table begins. The digest covers the
/// padding.
#[must_use]
pub fn padded(pe: &[u8]) -> Vec<u8> {
    let mut padded = pe.to_vec();
    padded.resize(padded.len().next_multiple_of(8), 0);
    padded
}

/// A signature over an EFI binary's digest, to be attached to it: PKCS#7, DER.
///
/// # Errors
/// [`Error::Refused`] for a key that firmware would not accept.
pub fn signature(
    digest: &[u8; 32],
    certificate: &Certificate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, Error> {
    let signed = pkcs7::sign(&content(digest)?, certificate, signer)?;
    sequence(&[&encoded(&SIGNED_DATA)?, &context(0, true, signed)?])
}

/// Verifies that [`fn@signature`] made this signature over this digest with the key of this
/// certificate.
///
/// # Errors
/// [`Error::Refused`].
pub fn verify(signature: &[u8], digest: &[u8; 32], certificate: &Certificate) -> Result<(), Error> {
    const NOT_OURS: Error = Error::Refused("this is not a signature of an EFI binary");
    let prefix = encoded(&SIGNED_DATA)?;
    // ContentInfo: SEQUENCE { OID, [0] EXPLICIT SignedData }, both lengths in two bytes.
    let inner = signature.get(4 + prefix.len() + 4..).ok_or(NOT_OURS)?;
    if sequence(&[&prefix, &context(0, true, inner.to_vec())?])? != signature {
        return Err(NOT_OURS);
    }
    pkcs7::verify(inner, &content(digest)?, certificate)
}

/// Attaches one more signature to an EFI binary.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+, is not padded, or whose certificate table is
/// not at its end.
pub fn attach(pe: &[u8], signature: &[u8]) -> Result<Vec<u8>, Error> {
    let entry = certificate_table_entry(pe)?;
    let (start, length) = certificate_table(pe)?;
    let (start, unpadded) = (if length == 0 { pe.len() } else { start }, 8 + signature.len());
    if !start.is_multiple_of(8) {
        return Err(Error::Refused("the EFI binary is not padded to a multiple of 8"));
    }
    let too_large = |_| Error::Refused("the EFI binary is larger than 4 GiB");
    let added = unpadded.next_multiple_of(8);
    let mut signed = Vec::with_capacity(pe.len() + added);
    signed.extend_from_slice(pe);
    // The length without padding, as signtool and sbsign write it; readers round up.
    signed.extend(u32::try_from(added).map_err(too_large)?.to_le_bytes());
    signed.extend(WIN_CERTIFICATE_REVISION.to_le_bytes());
    signed.extend(WIN_CERTIFICATE_PKCS7.to_le_bytes());
    signed.extend_from_slice(signature);
    signed.resize(pe.len() + added, 0);
    signed[entry..entry + 4]
        .copy_from_slice(&u32::try_from(start).map_err(too_large)?.to_le_bytes());
    signed[entry + 4..entry + 8]
        .copy_from_slice(&u32::try_from(length + added).map_err(too_large)?.to_le_bytes());
    Ok(signed)
}

/// An EFI binary without its signatures.
///
/// # Errors
/// As [`signatures`].
pub fn stripped(pe: &[u8]) -> Result<Vec<u8>, Error> {
    let (entry, (start, length)) = (certificate_table_entry(pe)?, certificate_table(pe)?);
    let mut body = pe[..if length == 0 { pe.len() } else { start }].to_vec();
    body[entry..entry + 8].fill(0);
    Ok(body)
}

/// The signatures of an EFI binary, without padding.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+, or an invalid certificate table.
pub fn signatures(pe: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let (start, length) = certificate_table(pe)?;
    let malformed =
        |detail: &str| Error::Malformed { what: "certificate table", detail: detail.to_owned() };
    let mut rest = &pe[start..start + length];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let size = rest.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b) as usize);
        let padded = size.next_multiple_of(8);
        if size <= 8 || padded > rest.len() || found.len() == SIGNATURES_MAX {
            return Err(malformed(
                "an entry is shorter than its header, ends outside the table, or exceeds the limit",
            ));
        }
        if rest[4..6] == WIN_CERTIFICATE_REVISION.to_le_bytes()
            && rest[6..8] == WIN_CERTIFICATE_PKCS7.to_le_bytes()
        {
            let body = &rest[8..size];
            let der = der_length(body).ok_or_else(|| malformed("an entry is not DER"))?;
            found.push(body[..der].to_vec());
        }
        rest = &rest[padded..];
    }
    Ok(found)
}

/// Length of the DER value at the start of `bytes` (X.690, 8.1.3).
fn der_length(bytes: &[u8]) -> Option<usize> {
    let (tag_and_length, rest) = bytes.split_at_checked(2)?;
    let length = match tag_and_length[1] {
        short @ 0..=0x7f => 2 + usize::from(short),
        0x81 => 3 + usize::from(*rest.first()?),
        0x82 => 4 + usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// Signs an EFI binary.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+ or is signed already; [`Error::Refused`] for a
/// key that firmware would not accept.
pub fn sign(pe: &[u8], certificate: &Certificate, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    if certificate_table(pe)?.1 != 0 {
        return Err(Error::Refused("the EFI binary is signed already"));
    }
    let padded = padded(pe);
    attach(&padded, &signature(&digest(&padded)?, certificate, signer)?)
}

/// The digest of the EFI binary as SignedData content.
fn content(digest: &[u8; 32]) -> Result<Content, Error> {
    // SpcPeImageData: no flags, file [0] -> [2] -> unicode [0] "".
    let file = context(0, true, context(2, true, context(0, false, vec![])?)?)?;
    let image_data = sequence(&[&[0x03, 0x01, 0x00], &file])?;
    let attribute = sequence(&[&encoded(&SPC_PE_IMAGE_DATA)?, &image_data])?;
    let content_parts = [attribute, sequence(&[&sha_256()?, &octets(digest)?])?].concat();
    let content = tlv(Tag::Sequence, content_parts.clone())?;
    let encapsulated = sequence(&[&encoded(&SPC_INDIRECT_DATA)?, &context(0, true, content)?])?;
    // The message digest covers the content without its outer tag and length (RFC 2315, 9.3).
    let attributes = [
        sequence(&[&encoded(&CONTENT_TYPE)?, &set(&[&encoded(&SPC_INDIRECT_DATA)?])?])?,
        sequence(&[
            &encoded(&MESSAGE_DIGEST)?,
            &set(&[&octets(&sha2_010::Sha256::digest(&content_parts))?])?,
        ])?,
    ];
    // In DER, a SET OF is sorted by encoding.
    let sorted: SetOfVec<Any> = attributes
        .iter()
        .map(|a| der::Decode::from_der(a))
        .collect::<der::Result<Vec<Any>>>()
        .and_then(SetOfVec::try_from)
        .or_malformed("DER")?;
    let to_sign = encoded(&sorted)?;
    Ok(Content { encapsulated, attributes: Some(to_sign.clone()), to_sign })
}
