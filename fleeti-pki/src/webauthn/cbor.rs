//! A reader of CBOR (RFC 8949) in the canonical form of CTAP2 (CTAP 2.2, 8), which authenticators
//! must write: lengths are known in advance, and numbers are as short as possible. It allocates
//! nothing.

use super::PART_MAX;

/// Maximum depth of what is skipped. CTAP2 allows four levels.
const DEPTH_MAX: u8 = 8;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

/// What has not been read yet. Every function returns `None` for another form.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader; `None` for more than [`PART_MAX`] bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= PART_MAX).then_some(Self(bytes))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The major type and argument of the next item.
    fn head(&mut self) -> Option<(u8, u64)> {
        let first = *self.take(1)?.first()?;
        let (major, short) = (first >> 5, first & 0x1f);
        let (length, shorter) = match short {
            0..=23 => return Some((major, u64::from(short))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            28.. => return None,
        };
        let value = self.take(length)?.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte));
        (value >= shorter).then_some((major, value))
    }

    fn argument(&mut self, wanted: u8) -> Option<usize> {
        let (major, argument) = self.head()?;
        usize::try_from(argument).ok().filter(|_| major == wanted)
    }

    /// An integer.
    pub(super) fn int(&mut self) -> Option<i64> {
        let (major, argument) = self.head()?;
        let value = i64::try_from(argument).ok()?;
        match major {
            UNSIGNED => Some(value),
            NEGATIVE => Some(-1 - value),
            _ => None,
        }
    }

    /// A byte string.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.argument(BYTES)?;
        self.take(length)
    }

    /// A text.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.argument(TEXT)?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// The number of entries of a map.
    pub(super) fn map(&mut self) -> Option<usize> {
        self.argument(MAP)
    }

    /// Skips one item, and returns its bytes.
    pub(super) fn skip(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.skip_to(DEPTH_MAX)?;
        before.get(..before.len() - self.0.len())
    }

    fn skip_to(&mut self, depth: u8) -> Option<()> {
        let below = depth.checked_sub(1)?;
        let (major, argument) = self.head()?;
        match major {
            UNSIGNED | NEGATIVE | SIMPLE => {}
            BYTES | TEXT => {
                self.take(usize::try_from(argument).ok()?)?;
            }
            // Each entry has a byte at least, so the loops end with the input.
            LIST => {
                for _ in 0..argument {
                    self.skip_to(below)?;
                }
            }
            MAP => {
                for _ in 0..argument {
                    self.skip_to(below)?;
                    self.skip_to(below)?;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T>(bytes: &'a [u8], by: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Option<T> {
        let mut reader = Reader::new(bytes).unwrap();
        by(&mut reader).filter(|_| reader.is_at_end())
    }

    #[test]
    fn a_number_has_one_form_the_shortest() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x17], 23),
            (&[0x18, 24], 24),
            (&[0x19, 1, 0], 256),
            (&[0x26], -7),
            (&[0x39, 1, 0], -257),
        ] {
            assert_eq!(read(bytes, Reader::int), Some(value), "{bytes:02x?}");
        }
        for bytes in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
            &[0x1c],
            &[0x1f],
            &[0x18],
            &[0x3b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[],
        ] {
            assert_eq!(read(bytes, Reader::int), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(read(&[0x43, 1, 2, 3], Reader::bytes), Some(&[1, 2, 3][..]));
        for bytes in
            [&[0x43, 1, 2][..], &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255], &[0x5f, 0xff]]
        {
            assert!(read(bytes, Reader::bytes).is_none(), "{bytes:02x?}");
            assert!(read(bytes, Reader::skip).is_none(), "{bytes:02x?}");
        }
        assert!(read(&[0x61, 0xff], Reader::text).is_none(), "no UTF-8");
        let huge_map = [0xbb, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(read(&huge_map, Reader::skip).is_none());
        let huge_list = [0x9b, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(read(&huge_list, Reader::skip).is_none());
        assert!(Reader::new(&[0; PART_MAX + 1]).is_none());
    }

    #[test]
    fn what_is_skipped_is_not_deep() {
        let map = [0xa2, 0x61, b'a', 0x82, 1, 0xf5, 2, 0xa1, 0x20, 0x41, 9];
        assert_eq!(read(&map, Reader::skip), Some(&map[..]));
        let deep = [&[0x81; 9][..], &[0]].concat();
        assert!(read(&deep, Reader::skip).is_none());
        assert!(read(&[0x81; PART_MAX], Reader::skip).is_none());
        assert!(read(&[0xc0, 0], Reader::skip).is_none(), "a tag");
    }
}
