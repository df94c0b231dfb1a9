//! Authenticated writes of variables: `EFI_VARIABLE_AUTHENTICATION_2` (UEFI 2.10, 8.2.2), the
//! content of an `.auth` file.

use super::list::Guid;
use crate::pkcs7::{self, Content, DATA, encoded, sequence};
use crate::signer::Signer;
use crate::{Error, OrMalformed};
use der::DateTime;
pub use fleeti_core::wire::boot::BootVariable as Variable;
use std::time::Duration;
use x509_cert::Certificate;

/// EFI_GLOBAL_VARIABLE.
pub(crate) const GLOBAL: Guid =
    Guid::new(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
pub(crate) const SECURITY_DATABASE: Guid =
    Guid::new(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// EFI_CERT_TYPE_PKCS7_GUID.
const PKCS7: Guid =
    Guid::new(0x4aaf_d29d, 0x68df, 0x49ee, [0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7]);
const WIN_CERTIFICATE_REVISION: u16 = 0x0200;
/// WIN_CERT_TYPE_EFI_GUID.
const WIN_CERTIFICATE_GUID: u16 = 0x0ef1;
/// EFI_TIME, then dwLength, wRevision, wCertificateType, CertType.
const TIME: usize = 16;
const HEADER: usize = TIME + 8 + 16;
/// NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS, TIME_BASED_AUTHENTICATED_WRITE_ACCESS.
const ATTRIBUTES: u32 = 0x27;
const APPEND_WRITE: u32 = 0x40;

/// The variable's name in firmware.
#[must_use]
pub const fn name(variable: Variable) -> &'static str {
    match variable {
        Variable::Pk => "PK",
        Variable::Kek => "KEK",
        Variable::Db => "db",
        Variable::Dbx => "dbx",
    }
}

const fn guid(variable: Variable) -> Guid {
    match variable {
        Variable::Pk | Variable::Kek => GLOBAL,
        Variable::Db | Variable::Dbx => SECURITY_DATABASE,
    }
}

/// The variable's file in efivarfs.
#[must_use]
pub fn file_name(variable: Variable) -> String {
    format!("{}-{}", name(variable), guid(variable))
}

/// The file of a global variable in efivarfs, such as `SetupMode`.
#[must_use]
pub fn global_file_name(name: &str) -> String {
    format!("{name}-{GLOBAL}")
}

/// A write that firmware accepts if its signer is enrolled and its time is later than that of the
/// variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthenticatedWrite<'a> {
    /// The variable.
    pub variable: Variable,
    /// Whether the value is appended instead of replacing the variable.
    pub append: bool,
    /// Unix seconds; later than the last write, unless it appends.
    pub time_s: u64,
    /// Signature lists.
    pub value: &'a [u8],
}

impl AuthenticatedWrite<'_> {
    /// The attributes of SetVariable.
    #[must_use]
    pub const fn attributes(&self) -> u32 {
        if self.append { ATTRIBUTES | APPEND_WRITE } else { ATTRIBUTES }
    }

    /// SignedData without content: the signature covers name, vendor, attributes, time and value
    /// (UEFI 2.10, 8.2.2).
    fn content(&self) -> Result<Content, Error> {
        let mut to_sign: Vec<u8> =
            name(self.variable).encode_utf16().flat_map(u16::to_le_bytes).collect();
        to_sign.extend(guid(self.variable).0);
        to_sign.extend(self.attributes().to_le_bytes());
        to_sign.extend(efi_time(self.time_s)?);
        to_sign.extend_from_slice(self.value);
        Ok(Content { encapsulated: sequence(&[&encoded(&DATA)?])?, attributes: None, to_sign })
    }
}

/// EFI_TIME in UTC; unused fields are zero, as firmware requires.
fn efi_time(time_s: u64) -> Result<[u8; TIME], Error> {
    let t = DateTime::from_unix_duration(Duration::from_secs(time_s)).or_malformed("time")?;
    let mut bytes = [0; TIME];
    bytes[..2].copy_from_slice(&t.year().to_le_bytes());
    bytes[2..7].copy_from_slice(&[t.month(), t.day(), t.hour(), t.minutes(), t.seconds()]);
    Ok(bytes)
}

/// Signs a write: the bytes of an `.auth` file. Bare SignedData without ContentInfo, because
/// firmware refuses ContentInfo for PK.
///
/// # Errors
/// [`Error::Refused`] for a key that firmware would not accept.
pub fn write(
    write: &AuthenticatedWrite<'_>,
    certificate: &Certificate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, Error> {
    let signed = pkcs7::sign(&write.content()?, certificate, signer)?;
    let length = u32::try_from(8 + 16 + signed.len())
        .map_err(|_| Error::Refused("the signature is too large"))?;
    let mut bytes = efi_time(write.time_s)?.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(WIN_CERTIFICATE_REVISION.to_le_bytes());
    bytes.extend(WIN_CERTIFICATE_GUID.to_le_bytes());
    bytes.extend(PKCS7.0);
    bytes.extend(signed);
    bytes.extend_from_slice(write.value);
    Ok(bytes)
}

/// The value in an `.auth` file; the signature is not verified.
///
/// # Errors
/// [`Error::Malformed`] for another format.
pub fn value(bytes: &[u8]) -> Result<&[u8], Error> {
    parts(bytes).map(|parts| parts.value)
}

struct Parts<'a> {
    /// EFI_VARIABLE_AUTHENTICATION_2 up to its certificate.
    header: &'a [u8],
    /// PKCS#7.
    signed: &'a [u8],
    /// The value.
    value: &'a [u8],
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>, Error> {
    let malformed =
        |detail: &str| Error::Malformed { what: "authenticated write", detail: detail.to_owned() };
    let header = bytes.get(..HEADER).ok_or_else(|| malformed("it is shorter than its header"))?;
    let length = header[TIME..TIME + 4].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    let kind = [
        &WIN_CERTIFICATE_REVISION.to_le_bytes()[..],
        &WIN_CERTIFICATE_GUID.to_le_bytes(),
        &PKCS7.0,
    ]
    .concat();
    if header[TIME + 4..] != kind {
        return Err(malformed("its certificate is not PKCS#7"));
    }
    let end = length.checked_add(TIME).filter(|end| (HEADER..=bytes.len()).contains(end));
    let end = end.ok_or_else(|| malformed("its certificate ends outside the file"))?;
    Ok(Parts { header, signed: &bytes[HEADER..end], value: &bytes[end..] })
}

impl<'a> AuthenticatedWrite<'a> {
    /// Parses an `.auth` file, and verifies that the key of this certificate signed it for this
    /// variable.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another format, [`Error::Refused`] for another signer, variable or
    /// kind of write.
    pub fn verify(
        bytes: &'a [u8],
        variable: Variable,
        append: bool,
        certificate: &Certificate,
    ) -> Result<Self, Error> {
        let malformed = |detail: &str| Error::Malformed {
            what: "authenticated write",
            detail: detail.to_owned(),
        };
        let Parts { header, signed, value } = parts(bytes)?;
        let year = u16::from_le_bytes([header[0], header[1]]);
        let [month, day, hour, minute, second] = [2, 3, 4, 5, 6].map(|at| header[at]);
        let time = DateTime::new(year, month, day, hour, minute, second)
            .or_malformed("authenticated write")?;
        let write = Self { variable, append, time_s: time.unix_duration().as_secs(), value };
        if efi_time(write.time_s)? != header[..TIME] {
            return Err(malformed("its time has fields beyond seconds"));
        }
        super::parse(write.value)?;
        pkcs7::verify(signed, &write.content()?, certificate)?;
        Ok(write)
    }
}
