//! Reads what a TPM marshals (big-endian integers and sized buffers) and what firmware writes
//! (little-endian ones), and rejects trailing bytes.

use super::Unreadable;

/// Bytes, read from front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `what` is the name of the structure in errors.
    pub(crate) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, left: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, left) =
            self.left.split_at_checked(length).ok_or(Unreadable::Truncated { what: self.what })?;
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    /// A TPM2B: a 16-bit length and at most `max` bytes.
    pub(crate) fn sized(&mut self, max: usize) -> Result<&'a [u8], Unreadable> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(Unreadable::TooLong { what: self.what, length, max });
        }
        self.take(length)
    }

    /// The error for an unknown value.
    pub(crate) fn unknown<T>(&self, field: &'static str, value: u32) -> Result<T, Unreadable> {
        Err(Unreadable::Unknown { what: self.what, field, value })
    }

    /// Checks that no bytes follow.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(Unreadable::Trailing { what: self.what, length: self.left.len() })
        }
    }

    pub(crate) const fn left(&self) -> &'a [u8] {
        self.left
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}
