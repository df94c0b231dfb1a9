//! Reads the data types of MQTT 5 (1.5) from the bytes of one packet.

use super::reason::{Refusal, malformed};

/// The unread rest of a packet.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        match self.0.split_at_checked(count) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => malformed("the packet ends too early"),
        }
    }

    pub fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Refusal> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, Refusal> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Variable byte integer (1.5.5).
    pub fn varint(&mut self) -> Result<u32, Refusal> {
        match varint(self.0)? {
            Some((value, length)) => {
                self.take(length)?;
                Ok(value)
            }
            None => malformed("the packet ends too early"),
        }
    }

    /// Binary data (1.5.6).
    pub fn binary(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// UTF-8 string without U+0000 (1.5.4). Encoded surrogates are not UTF-8 (MQTT-1.5.4-1).
    pub fn text(&mut self) -> Result<&'a str, Refusal> {
        let bytes = self.binary()?;
        match std::str::from_utf8(bytes) {
            Ok(_) if bytes.contains(&0) => malformed("a text has U+0000 (MQTT-1.5.4-2)"),
            Ok(text) => Ok(text),
            Err(_) => malformed("a text is not UTF-8 (MQTT-1.5.4-1)"),
        }
    }
}

/// A variable byte integer of one to four bytes, and its length; `None` if bytes are missing.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Refusal> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if at > 0 && *byte == 0 {
                return malformed("a number takes more bytes than it needs (MQTT-1.5.5-1)");
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        malformed("a number takes more than four bytes (1.5.5)")
    }
}
