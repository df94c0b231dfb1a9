//! Where two files differ, in words: the section of an EFI binary, and the byte.

use fleeti_core::canonical::sha256_hex;
use fleeti_pki::pe;
use serde::Serialize;
use std::fmt;
use std::io::Read;

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The file, for example `uki.efi` or `build.json`.
    pub file: String,
    /// The section, partition or field in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What differs, with offsets and digests.
    pub detail: String,
}

impl Difference {
    pub(crate) fn new(file: &str, part: Option<&str>, detail: impl Into<String>) -> Self {
        Self { file: file.to_owned(), part: part.map(str::to_owned), detail: detail.into() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}, {part}: {}", self.file, self.detail),
            None => write!(f, "{}: {}", self.file, self.detail),
        }
    }
}

/// Offset of the first byte in which two streams differ, or at which one of them ends. Reads at
/// most `length` bytes.
///
/// # Errors
/// I/O errors.
pub(crate) fn first_difference(
    one: impl Read,
    two: impl Read,
    length: u64,
) -> std::io::Result<Option<u64>> {
    let (mut one, mut two) = (one.take(length), two.take(length));
    let (mut a, mut b, mut at) = (vec![0u8; 1 << 20], vec![0u8; 1 << 20], 0u64);
    loop {
        let (n, m) = (fill(&mut one, &mut a)?, fill(&mut two, &mut b)?);
        if a[..n] != b[..m] {
            let same = a[..n].iter().zip(&b[..m]).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if n == 0 {
            return Ok(None);
        }
        at += n as u64;
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Compares bytes.
pub(crate) fn of_bytes(
    file: &str,
    part: Option<&str>,
    own: &[u8],
    other: &[u8],
) -> Option<Difference> {
    if own == other {
        return None;
    }
    let at = own.iter().zip(other).take_while(|(a, b)| a == b).count();
    let detail = format!(
        "first differs at byte {at}; {} bytes with SHA-256 {}, yours has {} with {}",
        other.len(),
        sha256_hex(other),
        own.len(),
        sha256_hex(own)
    );
    Some(Difference::new(file, part, detail))
}

/// Compares two EFI binaries: each section, the headers, and the bytes between sections.
pub(crate) fn of_binaries(file: &str, own: &[u8], other: &[u8]) -> Vec<Difference> {
    if own == other {
        return vec![];
    }
    let (mine, theirs) = match (pe::sections(own), pe::sections(other)) {
        (Ok(mine), Ok(theirs)) => (mine, theirs),
        (Err(e), _) => {
            return vec![Difference::new(file, None, format!("your file cannot be parsed: {e}"))];
        }
        (_, Err(e)) => return vec![Difference::new(file, None, e.to_string())],
    };
    let mut differences = Vec::new();
    for section in &mine {
        let name = format!("section {}", section.name);
        match theirs.iter().find(|s| s.name == section.name) {
            Some(found) => differences.extend(of_bytes(
                file,
                Some(&name),
                &own[section.range.clone()],
                &other[found.range.clone()],
            )),
            None => differences.push(Difference::new(file, Some(&name), "is missing")),
        }
    }
    for (i, section) in theirs.iter().enumerate() {
        let is_twice = theirs[..i].iter().any(|s| s.name == section.name);
        if is_twice || !mine.iter().any(|s| s.name == section.name) {
            let detail = format!(
                "is not in your file; SHA-256 {}",
                sha256_hex(&other[section.range.clone()])
            );
            differences.push(Difference::new(
                file,
                Some(&format!("section {}", section.name)),
                detail,
            ));
        }
    }
    if differences.is_empty() {
        differences.extend(of_bytes(file, Some("headers, or bytes between sections"), own, other));
    }
    differences
}
