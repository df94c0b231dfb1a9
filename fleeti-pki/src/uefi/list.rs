//! EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1).

use super::OWNER;
use crate::Error;

/// A GUID as UEFI stores it (UEFI 2.10, appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// A GUID from its fields.
    #[must_use]
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let b = &self.0;
        let head = [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]].map(|b| format!("{b:02x}"));
        write!(f, "{}-{}-{}-", head[..4].concat(), head[4..6].concat(), head[6..].concat())?;
        write!(f, "{}-{}", hex::encode(&b[8..10]), hex::encode(&b[10..]))
    }
}

/// EFI_CERT_X509_GUID.
const X509: Guid =
    Guid::new(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
/// EFI_CERT_SHA256_GUID.
const SHA256: Guid =
    Guid::new(0xc1c4_1626, 0x504c, 0x4092, [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28]);
/// SignatureType, SignatureListSize, SignatureHeaderSize, SignatureSize.
const HEADER: usize = 28;
/// Maximum size of a variable; NVRAM is smaller.
const BYTES_MAX: usize = 1 << 20;

/// A list with entries of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureList {
    /// One certificate, DER.
    Certificate(Vec<u8>),
    /// Digests of EFI binaries.
    Digests(Vec<[u8; 32]>),
    /// A type that Fleeti does not write.
    Other(Guid),
}

impl SignatureList {
    /// The encoding for firmware.
    ///
    /// # Errors
    /// [`Error::Refused`] for a list that cannot be encoded: empty, too large, or of another type.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let (kind, size, entries): (_, usize, Vec<&[u8]>) = match self {
            Self::Certificate(der) => (X509, 16 + der.len(), vec![der]),
            Self::Digests(digests) => (SHA256, 16 + 32, digests.iter().map(|d| &d[..]).collect()),
            Self::Other(_) => {
                return Err(Error::Refused(
                    "a signature list of a type that Fleeti does not write",
                ));
            }
        };
        let total = HEADER + entries.len() * size;
        if entries.is_empty() || total > BYTES_MAX {
            return Err(Error::Refused(
                "a signature list must have at least one entry, and at most 1 MiB",
            ));
        }
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(total);
        bytes.extend(kind.0);
        for n in [total, 0, size] {
            bytes.extend(word(n));
        }
        for entry in entries {
            bytes.extend(OWNER.0);
            bytes.extend_from_slice(entry);
        }
        Ok(bytes)
    }
}

/// Parses the value of a variable: concatenated lists.
///
/// # Errors
/// [`Error::Malformed`] for inconsistent sizes or trailing bytes.
pub fn parse(bytes: &[u8]) -> Result<Vec<SignatureList>, Error> {
    let malformed = |detail: String| Error::Malformed { what: "signature list", detail };
    if bytes.len() > BYTES_MAX {
        return Err(malformed(format!("it has {} bytes, more than {BYTES_MAX}", bytes.len())));
    }
    let (mut lists, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let word = |offset: usize| {
            rest.get(offset..offset + 4)
                .map_or(0, |b| b.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b)))
        };
        let (total, header, size) = (word(16), word(20), word(24));
        // Every subtraction is checked, because the sizes are untrusted.
        let entries = total.checked_sub(HEADER).and_then(|n| n.checked_sub(header));
        let Some(entries) = entries
            .filter(|n| total <= rest.len() && size > 16 && *n > 0 && n.is_multiple_of(size))
        else {
            return Err(malformed(format!(
                "the list at {at} has size {total}, header {header}, entries of {size}"
            )));
        };
        let mut kind = [0; 16];
        kind.copy_from_slice(&rest[..16]);
        let data: Vec<&[u8]> =
            rest[total - entries..total].chunks_exact(size).map(|entry| &entry[16..]).collect();
        match Guid(kind) {
            X509 if header == 0 => {
                lists.extend(data.iter().map(|d| SignatureList::Certificate(d.to_vec())))
            }
            SHA256 if header == 0 && size == 48 => {
                lists.push(SignatureList::Digests(
                    data.iter().filter_map(|d| d.first_chunk().copied()).collect(),
                ));
            }
            other => lists.push(SignatureList::Other(other)),
        }
        rest = &rest[total..];
    }
    Ok(lists)
}

/// The certificates of a variable, DER.
///
/// # Errors
/// As [`parse`].
pub fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let certificate =
        |list| if let SignatureList::Certificate(der) = list { Some(der) } else { None };
    Ok(parse(bytes)?.into_iter().filter_map(certificate).collect())
}

/// The digests of a variable.
///
/// # Errors
/// As [`parse`].
pub fn digests(bytes: &[u8]) -> Result<Vec<[u8; 32]>, Error> {
    let digests = |list| if let SignatureList::Digests(digests) = list { digests } else { vec![] };
    Ok(parse(bytes)?.into_iter().flat_map(digests).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_reads_as_people_write_it() {
        assert_eq!(OWNER.to_string(), "6b1d6f3a-5c1c-4e0d-9f6b-3f1f5f0c7a11");
    }

    #[test]
    fn what_is_written_is_read() {
        let lists = [
            SignatureList::Certificate(vec![7; 700]),
            SignatureList::Digests(vec![[1; 32], [2; 32]]),
        ];
        let bytes: Vec<u8> = lists.iter().flat_map(|l| l.to_bytes().unwrap()).collect();
        assert_eq!(parse(&bytes).unwrap(), lists);
        assert_eq!(digests(&bytes).unwrap(), [[1; 32], [2; 32]]);
        assert!(SignatureList::Digests(vec![]).to_bytes().is_err());
    }

    #[test]
    fn every_truncation_is_noticed_and_every_wrong_size_refused() {
        let good = SignatureList::Digests(vec![[1; 32]]).to_bytes().unwrap();
        for n in 1..good.len() {
            assert!(parse(&good[..n]).is_err(), "{n} of {} bytes", good.len());
        }
        for (offset, size) in [
            (16, 0),
            (16, 27),
            (16, u32::MAX),
            (20, 1),
            (20, u32::MAX),
            (24, 0),
            (24, 15),
            (24, 16),
            (24, u32::MAX),
        ] {
            let mut bad = good.clone();
            bad[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(size));
            assert!(parse(&bad).is_err(), "{size} at {offset}");
        }
    }
}
