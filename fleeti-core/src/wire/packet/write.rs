//! Writes MQTT 5 packets as a server does. They have no reason string and no user property, because
//! a client may refuse those (MQTT-3.1.2-29). Everything written here fits into any Maximum Packet
//! Size that can hold a message.

use super::Reason;

/// Writes the header of a packet; the caller appends `length` bytes.
fn packet(first: u8, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + length);
    out.push(first);
    let mut rest = length;
    loop {
        let digit = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            out.push(digit);
            return out;
        }
        out.push(digit | 0x80);
    }
}

fn push_u16(out: &mut Vec<u8>, number: usize) {
    out.extend(u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
}

/// What a session may do, as CONNACK announces it (3.2.2.3): QoS 1 at most, no retained messages,
/// topic aliases, wildcards, subscription identifiers or shared subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Whether an earlier session continues.
    pub session_present: bool,
    /// Receive maximum: unacknowledged QoS 1 messages that the server accepts.
    pub receive_max: u16,
    /// Maximum packet size that the server accepts, bytes.
    pub packet_max: u32,
    /// Keep alive, seconds; only if it differs from the one that the client requested.
    pub keep_alive_s: Option<u16>,
    /// Session expiry interval, seconds; only if it differs from the one that the client requested.
    pub session_expiry_s: Option<u32>,
}

/// CONNACK with success.
#[must_use]
pub fn connack(announced: &Announced) -> Vec<u8> {
    let mut properties = Vec::with_capacity(40);
    if let Some(expiry) = announced.session_expiry_s {
        properties.push(0x11);
        properties.extend(expiry.to_be_bytes());
    }
    properties.push(0x21);
    properties.extend(announced.receive_max.to_be_bytes());
    properties.extend([0x24, 1, 0x25, 0, 0x27]);
    properties.extend(announced.packet_max.to_be_bytes());
    properties.extend([0x22, 0, 0, 0x28, 0, 0x29, 0, 0x2a, 0]);
    if let Some(keep_alive) = announced.keep_alive_s {
        properties.push(0x13);
        properties.extend(keep_alive.to_be_bytes());
    }
    let mut out = packet(0x20, 3 + properties.len());
    out.extend([
        u8::from(announced.session_present),
        0,
        u8::try_from(properties.len()).unwrap_or(0),
    ]);
    out.extend(properties);
    out
}

/// CONNACK with an error: no session exists (MQTT-3.2.2-6).
#[must_use]
pub fn refused(reason: Reason) -> Vec<u8> {
    vec![0x20, 3, 0, reason.code(), 0]
}

/// PUBLISH with QoS 1 if there is a packet identifier, otherwise with QoS 0.
#[must_use]
pub fn publish(topic: &str, id: Option<u16>, is_duplicate: bool, payload: &[u8]) -> Vec<u8> {
    let flags = id.map_or(0, |_| 2 | u8::from(is_duplicate) << 3);
    let mut out = packet(0x30 | flags, 2 + topic.len() + id.map_or(0, |_| 2) + 1 + payload.len());
    push_u16(&mut out, topic.len());
    out.extend(topic.as_bytes());
    if let Some(id) = id {
        out.extend(id.to_be_bytes());
    }
    out.push(0);
    out.extend(payload);
    out
}

/// PUBACK.
#[must_use]
pub fn puback(id: u16, reason: Reason) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    match reason {
        Reason::Success => vec![0x40, 2, high, low],
        _ => vec![0x40, 3, high, low, reason.code()],
    }
}

/// SUBACK with a reason code for each filter, in order (MQTT-3.9.3-1, MQTT-3.9.3-2).
#[must_use]
pub fn suback(id: u16, reasons: &[Reason]) -> Vec<u8> {
    acknowledged(0x90, id, reasons)
}

/// UNSUBACK with a reason code for each filter, in order.
#[must_use]
pub fn unsuback(id: u16, reasons: &[Reason]) -> Vec<u8> {
    acknowledged(0xb0, id, reasons)
}

fn acknowledged(first: u8, id: u16, reasons: &[Reason]) -> Vec<u8> {
    let mut out = packet(first, 3 + reasons.len());
    out.extend(id.to_be_bytes());
    out.push(0);
    out.extend(reasons.iter().map(|r| r.code()));
    out
}

/// PINGRESP.
#[must_use]
pub fn pingresp() -> Vec<u8> {
    vec![0xd0, 0]
}

/// DISCONNECT. Contains an empty list of properties, because some clients expect its length.
#[must_use]
pub fn disconnect(reason: Reason) -> Vec<u8> {
    vec![0xe0, 2, reason.code(), 0]
}
