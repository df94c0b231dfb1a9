//! Reads and writes MQTT 5 packets as a server does. The reader is strict, copies nothing, and
//! needs one pass.
//!
//! [`frame`] finds the end of the first packet and refuses what its header alone disqualifies.
//! [`read`] reads that packet. Both check everything: for what MQTT 5 forbids they return a
//! [`Refusal`] with the reason code to send to the client. Features that a server may *not offer*
//! (QoS 2, retained messages, wills) are well formed here; the server decides about them.
//!
//! ```
//! use fleeti_core::wire::packet::{self, Packet, Reason};
//! let bytes = [0xc0, 0x00, 0xe0];
//! let length = packet::frame(&bytes, 1024).unwrap().unwrap();
//! assert!(matches!(packet::read(&bytes[..length]), Ok(Packet::PingReq)));
//! assert_eq!(packet::frame(&bytes[length..], 1024).unwrap(), None, "the rest has not come yet");
//! assert_eq!(packet::frame(&[0xc1, 0x00], 1024).unwrap_err().reason, Reason::MalformedPacket);
//! ```

mod bytes;
mod connect;
mod properties;
mod reason;
mod subscribe;
pub mod write;

pub use connect::{Connect, Will};
pub use reason::{Reason, Refusal};
pub use subscribe::{Kind, Subscribe, Subscription, Unsubscribe};

use bytes::Bytes;
use properties::Place;
use reason::{forbidden, malformed};

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT (3.1).
    Connect(Connect<'a>),
    /// PUBLISH (3.3).
    Publish(Publish<'a>),
    /// PUBACK (3.4).
    PubAck {
        /// Packet identifier of the PUBLISH.
        id: u16,
        /// Reason code (3.4.2.1). An error also ends the delivery.
        reason: u8,
    },
    /// SUBSCRIBE (3.8).
    Subscribe(Subscribe<'a>),
    /// UNSUBSCRIBE (3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// PINGREQ (3.12).
    PingReq,
    /// DISCONNECT (3.14).
    Disconnect {
        /// Reason code (3.14.2.1).
        reason: u8,
        /// Session expiry interval, seconds; replaces the one of CONNECT.
        session_expiry_s: Option<u32>,
    },
}

/// PUBLISH (3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Topic name; not empty and without wildcards.
    pub topic: &'a str,
    /// QoS: 0, 1 or 2.
    pub qos: u8,
    /// Packet identifier; 0 exactly if the QoS is 0.
    pub id: u16,
    /// DUP flag: the client sent the message before.
    pub is_duplicate: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// Application message.
    pub payload: &'a [u8],
}

/// The length of the first packet, header included; `None` if bytes are missing.
///
/// # Errors
/// A header that a client must not send, or a packet of more than `packet_max` bytes.
pub fn frame(input: &[u8], packet_max: usize) -> Result<Option<usize>, Refusal> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    match (first >> 4, first & 0x0f) {
        (0, _) => return malformed("packet type 0 (2.1.2)"),
        (3, flags) if flags & 0b0110 == 0b0110 => return malformed("QoS 3 (MQTT-3.3.1-4)"),
        (3, flags) if flags & 0b1110 == 0b1000 => {
            return malformed("DUP with QoS 0 (MQTT-3.3.1-2)");
        }
        (3, _) | (1 | 4 | 12 | 14, 0) | (8 | 10, 2) => {}
        // CONNECT had no authentication method, because the server accepts none (4.12.0-6).
        (15, 0) => return forbidden("AUTH without an authentication method (4.12)"),
        (6, 2) | (2 | 5 | 7 | 9 | 11 | 13, 0) => {
            return forbidden("a packet that a client must not send here");
        }
        _ => return malformed("reserved flags are set (MQTT-2.1.3-1)"),
    }
    let Some((length, digits)) = bytes::varint(rest)? else { return Ok(None) };
    let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1 + digits);
    if whole > packet_max {
        return Err(Refusal { reason: Reason::PacketTooLarge, detail: "a packet is too large" });
    }
    Ok((input.len() >= whole).then_some(whole))
}

/// Reads the packet that [`frame`] found, exactly to its end.
///
/// # Errors
/// With the reason code to send to the client.
pub fn read(packet: &[u8]) -> Result<Packet<'_>, Refusal> {
    let mut bytes = Bytes(packet);
    let first = bytes.u8()?;
    if usize::try_from(bytes.varint()?).ok() != Some(bytes.0.len()) {
        return malformed("the length differs from the header");
    }
    let read = match first >> 4 {
        1 => Packet::Connect(connect::read(&mut bytes)?),
        3 => return publish(first, bytes).map(Packet::Publish),
        4 => puback(&mut bytes)?,
        8 => Packet::Subscribe(subscribe::read(&mut bytes)?),
        10 => Packet::Unsubscribe(subscribe::read_unsubscribe(&mut bytes)?),
        12 => Packet::PingReq,
        14 => disconnect(&mut bytes)?,
        _ => return forbidden("a packet that a client must not send here"),
    };
    if bytes.is_empty() { Ok(read) } else { malformed("bytes behind the packet") }
}

fn publish(first: u8, mut bytes: Bytes<'_>) -> Result<Publish<'_>, Refusal> {
    let qos = first >> 1 & 3;
    let topic = bytes.text()?;
    let id = if qos > 0 { packet_id(&mut bytes)? } else { 0 };
    let properties = properties::read(&mut bytes, Place::Publish)?;
    if properties.topic_alias.is_some() {
        // The server permits no aliases (3.2.2.3.8), so every alias is above the maximum.
        return Err(Refusal {
            reason: Reason::TopicAliasInvalid,
            detail: "topic alias (MQTT-3.3.2-9)",
        });
    }
    if topic.is_empty() {
        return forbidden("an empty topic without an alias (3.3.2.1)");
    }
    if topic.contains(['+', '#']) {
        return malformed("a wildcard in a topic name (MQTT-3.3.2-2)");
    }
    if properties.is_text && std::str::from_utf8(bytes.0).is_err() {
        return Err(Refusal {
            reason: Reason::PayloadFormatInvalid,
            detail: "the payload is marked as UTF-8 but is not (3.3.2.3.2)",
        });
    }
    Ok(Publish {
        topic,
        qos,
        id,
        is_duplicate: first & 8 != 0,
        retain: first & 1 != 0,
        payload: bytes.0,
    })
}

fn puback<'a>(bytes: &mut Bytes<'a>) -> Result<Packet<'a>, Refusal> {
    let id = packet_id(bytes)?;
    let reason = if bytes.is_empty() { 0 } else { bytes.u8()? };
    if !matches!(reason, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99) {
        return forbidden("a reason code that PUBACK does not have (MQTT-3.4.2-1)");
    }
    if !bytes.is_empty() {
        properties::read(bytes, Place::PubAck)?;
    }
    Ok(Packet::PubAck { id, reason })
}

/// A DISCONNECT. It may have one byte only: the length of the properties may be left out (3.14.2.1,
/// 3.14.2.2.1).
fn disconnect<'a>(bytes: &mut Bytes<'a>) -> Result<Packet<'a>, Refusal> {
    let reason = if bytes.is_empty() { 0 } else { bytes.u8()? };
    if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x97 | 0x99) {
        return forbidden("a reason code that a client's DISCONNECT does not have (MQTT-3.14.2-1)");
    }
    let session_expiry_s = if bytes.is_empty() {
        None
    } else {
        properties::read(bytes, Place::Disconnect)?.session_expiry_s
    };
    Ok(Packet::Disconnect { reason, session_expiry_s })
}

fn packet_id(bytes: &mut Bytes<'_>) -> Result<u16, Refusal> {
    match bytes.u16()? {
        0 => forbidden("packet identifier 0 (MQTT-2.2.1-3)"),
        id => Ok(id),
    }
}

#[cfg(test)]
mod tests;
