//! Adds a section at the end of a PE32+ file, and reads sections (Microsoft, "PE Format").

use crate::{Error, OrMalformed};
use object::pe::ImageSectionHeader;
use object::read::pe::{PeFile64, PeSection64};
use object::{LittleEndian as LE, Object, ObjectSection};

const WHAT: &str = "EFI binary";
/// Size of a section header, bytes.
const HEADER: usize = 40;
/// IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// Maximum alignment in a file (PE format, "Optional Header Windows-Specific Fields"): the new
/// section is padded to it.
const FILE_ALIGNMENT_MAX: u32 = 64 << 10;
/// Offsets in the headers, from "PE\0\0" on: the COFF header has 24 bytes with its magic.
const NUMBER_OF_SECTIONS: usize = 6;
const OPTIONAL: usize = 24;
const INITIALIZED_DATA: usize = OPTIONAL + 8;
const SIZE_OF_IMAGE: usize = OPTIONAL + 56;
const CHECKSUM: usize = OPTIONAL + 64;

/// Offset of the certificate table entry in the optional header of PE32+ (PE format, "Optional
/// Header Data Directories").
const CERTIFICATE_TABLE_OFFSET: usize = 144;
/// Its number in the directory.
const CERTIFICATE_TABLE: u32 = 4;

/// The EFI binary with a read-only section `name` (at most 8 bytes) after its last one. Its
/// checksum, which UEFI firmware does not check, becomes 0.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+, is signed already, has such a section, or has
/// no space for its header.
pub fn with_section(pe: &[u8], name: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
    let malformed = |detail: String| Error::Malformed { what: WHAT, detail };
    let file = PeFile64::parse(pe).or_malformed(WHAT)?;
    check_layout(&file, pe)?;
    if certificate_table(pe)?.1 != 0 {
        return Err(Error::Refused("the EFI binary is signed already"));
    }
    if name.len() > 8 || named(&file, name).next().is_some() {
        return Err(malformed(format!("it has a section {name} already, or the name is invalid")));
    }
    let optional = &file.nt_headers().optional_header;
    let (alignment, file_alignment) =
        (optional.section_alignment.get(LE), optional.file_alignment.get(LE));
    if !alignment.is_power_of_two()
        || !file_alignment.is_power_of_two()
        || file_alignment > FILE_ALIGNMENT_MAX
    {
        return Err(malformed(
            "its alignments are not powers of two, or the file's is more than 64 KiB".into(),
        ));
    }
    let headers = file.dos_header().nt_headers_offset() as usize;
    let sections = file.section_table();
    let entry = end_of_headers(&file);
    let room = pe
        .get(entry..entry + HEADER)
        .filter(|_| entry + HEADER <= optional.size_of_headers.get(LE) as usize);
    if room.is_none_or(|room| room.iter().any(|byte| *byte != 0)) {
        return Err(malformed("there is no space for another section header".into()));
    }
    let too_large = |_| Error::Refused("the EFI binary is larger than 4 GiB");
    let end = sections.iter().map(|s| {
        s.virtual_address
            .get(LE)
            .saturating_add(s.virtual_size.get(LE).max(s.size_of_raw_data.get(LE)))
    });
    let address = end.max().unwrap_or(0).checked_next_multiple_of(alignment);
    let address = address.ok_or(Error::Refused("the EFI binary is larger than 4 GiB"))?;
    let offset = pe.len().next_multiple_of(file_alignment as usize);
    let length = u32::try_from(data.len()).map_err(too_large)?;
    let stored = data.len().next_multiple_of(file_alignment as usize);
    let size_of_image =
        address.checked_add(length).and_then(|end| end.checked_next_multiple_of(alignment));
    let size_of_image =
        size_of_image.ok_or(Error::Refused("the EFI binary is larger than 4 GiB"))?;

    let mut out = pe.to_vec();
    out.resize(offset, 0);
    out.extend_from_slice(data);
    out.resize(offset + stored, 0);
    let stored = u32::try_from(stored).map_err(too_large)?;
    let initialized = optional.size_of_initialized_data.get(LE).saturating_add(stored);
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(entry, name.as_bytes());
    for (at, word) in [
        (8, length),
        (12, address),
        (16, stored),
        (20, u32::try_from(offset).map_err(too_large)?),
        (36, READ_ONLY_DATA),
    ] {
        put(entry + at, &word.to_le_bytes());
    }
    let count = u16::try_from(sections.len() + 1)
        .map_err(|_| malformed("it has too many sections".into()))?;
    put(headers + NUMBER_OF_SECTIONS, &count.to_le_bytes());
    put(headers + INITIALIZED_DATA, &initialized.to_le_bytes());
    put(headers + SIZE_OF_IMAGE, &size_of_image.to_le_bytes());
    put(headers + CHECKSUM, &[0; 4]);
    Ok(out)
}

/// A section in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionRange {
    /// Its name, without padding.
    pub name: String,
    /// Its bytes in the file.
    pub range: std::ops::Range<usize>,
}

/// The sections of an EFI binary, in the order of their headers.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+, or a section beyond its end.
pub fn sections(pe: &[u8]) -> Result<Vec<SectionRange>, Error> {
    let file = PeFile64::parse(pe).or_malformed(WHAT)?;
    let one = |header: &ImageSectionHeader| {
        let (at, length) =
            (header.pointer_to_raw_data.get(LE) as usize, header.size_of_raw_data.get(LE) as usize);
        let name = String::from_utf8_lossy(header.raw_name()).into_owned();
        match at.checked_add(length).filter(|end| *end <= pe.len()) {
            Some(end) => Ok(SectionRange { name, range: at..end }),
            None => Err(Error::Malformed {
                what: WHAT,
                detail: format!("its section {name:?} is beyond its end"),
            }),
        }
    };
    file.section_table().iter().map(one).collect()
}

/// The content of a section, in the length that it has in memory; `None` if there is none, or an
/// empty one.
///
/// # Errors
/// [`Error::Malformed`] for a file that is not PE32+, two such sections, or one that is longer than
/// the file.
pub fn content<'a>(pe: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Error> {
    section(&PeFile64::parse(pe).or_malformed(WHAT)?, name)
}

/// The end of the section headers, which are the last headers.
pub(crate) fn end_of_headers(file: &PeFile64<'_>) -> usize {
    let optional = usize::from(file.nt_headers().file_header.size_of_optional_header.get(LE));
    file.dos_header().nt_headers_offset() as usize
        + OPTIONAL
        + optional
        + HEADER * file.section_table().len()
}

/// The sections with a name, compared like in systemd's stub: by the eight bytes in their headers.
/// Longer names in a string table, which linkers write, do not count.
pub(crate) fn named<'d, 'f>(
    file: &'f PeFile64<'d>,
    name: &str,
) -> impl Iterator<Item = PeSection64<'d, 'f>> {
    file.sections().filter(move |s| s.pe_section().raw_name() == name.as_bytes())
}

/// The content of a section, in the length that it has in memory: the file may contain padding.
/// `None` if there is none, or an empty one.
///
/// # Errors
/// [`Error::Malformed`] for two such sections, or one that is longer than the file.
pub(crate) fn section<'a>(file: &PeFile64<'a>, name: &str) -> Result<Option<&'a [u8]>, Error> {
    let malformed = |detail: String| Error::Malformed { what: "UKI", detail };
    let mut found = named(file, name);
    let Some(section) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(malformed(format!("it has two sections {name}")));
    }
    let length = usize::try_from(section.size()).or_malformed("UKI")?;
    let data = section.data().or_malformed("UKI")?;
    let data =
        data.get(..length).ok_or_else(|| malformed(format!("{name} is longer than the file")))?;
    Ok(Some(data).filter(|d| !d.is_empty()))
}

/// Checks that headers, sections and certificate table do not overlap. If a section reached into
/// the headers, or they into the table, attaching a signature would change the digest.
pub(crate) fn check_layout(file: &PeFile64<'_>, binary: &[u8]) -> Result<(), Error> {
    let (start, length) = certificate_table(binary)?;
    let end = if length == 0 { binary.len() } else { start };
    let range = |s: &ImageSectionHeader| {
        let (at, size) =
            (s.pointer_to_raw_data.get(LE) as usize, s.size_of_raw_data.get(LE) as usize);
        (at, at.saturating_add(size))
    };
    let mut ranges: Vec<_> = file.section_table().iter().map(range).collect();
    ranges.sort_unstable();
    let mut taken = file.nt_headers().optional_header.size_of_headers.get(LE) as usize;
    if end_of_headers(file) > taken || taken > end {
        return Err(Error::Malformed {
            what: "EFI binary",
            detail: "its headers are longer than it says, or than the space for them".into(),
        });
    }
    for (at, to) in ranges {
        // An empty section takes no space, but has a position, which readers use.
        if to > end || to > at && at < taken {
            return Err(Error::Malformed {
                what: "EFI binary",
                detail: format!("the section at {at} is not between its neighbours"),
            });
        }
        taken = taken.max(to);
    }
    Ok(())
}

/// Position of the entry of the certificate table in the data directory.
pub(crate) fn certificate_table_entry(pe: &[u8]) -> Result<usize, Error> {
    let file = PeFile64::parse(pe).or_malformed("EFI binary")?;
    // Readers that check the count see no table there, and their digest covers its entry.
    if file.nt_headers().optional_header.number_of_rva_and_sizes.get(LE) <= CERTIFICATE_TABLE {
        return Err(Error::Malformed {
            what: "EFI binary",
            detail: "its data directory has no entry for a certificate table".into(),
        });
    }
    let at = pe.get(0x3c..0x40).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    // "PE\0\0", the COFF header of 20 bytes, then the optional header.
    let entry = at.map(|header| header as usize + 4 + 20 + CERTIFICATE_TABLE_OFFSET);
    entry
        .filter(|e| e + 8 <= pe.len())
        .ok_or(Error::Refused("the EFI binary has no certificate table entry"))
}

/// Offset and length of the certificate table; no bytes may follow it.
pub(crate) fn certificate_table(pe: &[u8]) -> Result<(usize, usize), Error> {
    let entry = certificate_table_entry(pe)?;
    let word =
        |at: usize| pe[at..at + 4].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    match (word(entry), word(entry + 4)) {
        (0, 0) => Ok((0, 0)),
        (start, length)
            if start > entry && length > 0 && start.checked_add(length) == Some(pe.len()) =>
        {
            Ok((start, length))
        }
        _ => Err(Error::Malformed {
            what: "EFI binary",
            detail: "its certificate table is not at its end".into(),
        }),
    }
}
