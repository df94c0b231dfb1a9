//! Reads a tar archive member by member: names, kinds, and the content of small files.

use std::io::{self, Read};

/// Size of a header, and of the blocks of content.
const BLOCK: usize = 512;
/// Largest number of members.
const MEMBERS_MAX: usize = 1 << 20;
/// Longest name, bytes.
const NAME_MAX: u64 = 64 << 10;

/// A member of an archive.
pub(super) struct Member<'a, R> {
    /// Its path, as the archive has it.
    pub(super) path: &'a str,
    /// Whether it is a file, a link to one or a symbolic link; otherwise a directory or a device.
    pub(super) is_file: bool,
    /// Size of its content, bytes.
    size: u64,
    input: &'a mut R,
    left: &'a mut u64,
}

impl<R: Read> Member<'_, R> {
    /// The content, or nothing if it is larger than `most` bytes.
    pub(super) fn text(&mut self, most: u64) -> io::Result<String> {
        if self.size > most || *self.left != self.size {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        self.input.take(self.size).read_to_end(&mut bytes)?;
        *self.left -= bytes.len() as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Calls `with` for each member.
///
/// # Errors
/// I/O, a header that is not one of tar, or more members than a package has.
pub(super) fn each<R: Read>(
    mut input: R,
    mut with: impl FnMut(&mut Member<'_, R>) -> io::Result<()>,
) -> io::Result<()> {
    let wrong = |text: &str| io::Error::other(text.to_owned());
    let mut long_name: Option<String> = None;
    for _ in 0..MEMBERS_MAX {
        let mut header = [0; BLOCK];
        match input.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        if header.iter().all(|byte| *byte == 0) {
            // The end. What follows is read, so that the writer is not interrupted.
            io::copy(&mut input, &mut io::sink())?;
            return Ok(());
        }
        if &header[257..262] != b"ustar" {
            return Err(wrong("is not a tar archive"));
        }
        let size = octal(&header[124..136]).ok_or_else(|| wrong("a member has no size"))?;
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        let mut left = size;
        let kind = header[156];
        if kind == b'L' {
            // The name of the next member (GNU tar).
            if size > NAME_MAX {
                return Err(wrong("a name is too long"));
            }
            let mut bytes = Vec::new();
            (&mut input).take(size).read_to_end(&mut bytes)?;
            left -= bytes.len() as u64;
            long_name = Some(text(&bytes));
        } else {
            let path = long_name.take().unwrap_or_else(|| name(&header));
            let is_file = matches!(kind, b'0' | 0 | b'1' | b'2');
            let mut member =
                Member { path: &path, is_file, size, input: &mut input, left: &mut left };
            with(&mut member)?;
        }
        io::copy(&mut (&mut input).take(left + padding), &mut io::sink())?;
    }
    Err(wrong("has too many members"))
}

/// A field up to its first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn name(header: &[u8; BLOCK]) -> String {
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    // GNU tar ("ustar  ") has other fields in the place of the prefix.
    if header[262] != 0 || prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// A number in octal digits.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field);
    u64::from_str_radix(digits.trim(), 8).ok()
}
