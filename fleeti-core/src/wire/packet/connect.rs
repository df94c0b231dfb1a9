//! CONNECT (MQTT 5, 3.1).

use super::bytes::Bytes;
use super::properties::{self, Place};
use super::reason::{Reason, Refusal, malformed};

/// CONNECT (3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Client identifier; may be empty.
    pub client_id: &'a str,
    /// Whether the server discards an existing session.
    pub clean_start: bool,
    /// Keep alive, seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// Session expiry interval, seconds; `u32::MAX` means that the session does not expire.
    pub session_expiry_s: u32,
    /// Receive maximum: unacknowledged QoS 1 messages that the client accepts.
    pub receive_max: u16,
    /// Maximum packet size that the client accepts, bytes; `None` for no limit.
    pub packet_max: Option<u32>,
    /// Authentication method (4.12), in addition to the certificate.
    pub authentication_method: Option<&'a str>,
    /// The will.
    pub will: Option<Will<'a>>,
}

/// The will: a message to publish when the client's connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic of the will.
    pub topic: &'a str,
    /// QoS: 0, 1 or 2.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
}

pub(super) fn read<'a>(bytes: &mut Bytes<'a>) -> Result<Connect<'a>, Refusal> {
    let unsupported = |detail| Err(Refusal { reason: Reason::UnsupportedProtocolVersion, detail });
    // MQTT 3.1 has another protocol name, followed by the level.
    if bytes.binary()? != b"MQTT" {
        return unsupported("another protocol (MQTT-3.1.2-1)");
    }
    if bytes.u8()? != 5 {
        return unsupported("another version of MQTT (MQTT-3.1.2-2)");
    }
    let flags = bytes.u8()?;
    let [has_will, has_password, has_user_name] = [0x04, 0x40, 0x80].map(|bit| flags & bit != 0);
    let (will_qos, will_retain) = (flags >> 3 & 3, flags & 0x20 != 0);
    match flags {
        _ if flags & 0x01 != 0 => return malformed("the reserved flag is set (MQTT-3.1.2-3)"),
        _ if !has_will && (will_qos > 0 || will_retain) => {
            return malformed("will flags without a will (MQTT-3.1.2-11, MQTT-3.1.2-13)");
        }
        _ if will_qos == 3 => return malformed("will QoS 3 (MQTT-3.1.2-12)"),
        _ => {}
    }
    let keep_alive_s = bytes.u16()?;
    let properties = properties::read(bytes, Place::Connect)?;
    let client_id = bytes.text()?;
    let will = if has_will { Some(will(bytes, will_qos, will_retain)?) } else { None };
    if has_user_name {
        bytes.text()?;
    }
    if has_password {
        bytes.binary()?;
    }
    Ok(Connect {
        client_id,
        clean_start: flags & 0x02 != 0,
        keep_alive_s,
        session_expiry_s: properties.session_expiry_s.unwrap_or(0),
        receive_max: properties.receive_max.unwrap_or(u16::MAX),
        packet_max: properties.packet_max,
        authentication_method: properties.authentication_method,
        will,
    })
}

fn will<'a>(bytes: &mut Bytes<'a>, qos: u8, retain: bool) -> Result<Will<'a>, Refusal> {
    let properties = properties::read(bytes, Place::Will)?;
    let topic = bytes.text()?;
    let payload = bytes.binary()?;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return malformed("a will without a topic, or for a wildcard");
    }
    if properties.is_text && std::str::from_utf8(payload).is_err() {
        return Err(Refusal {
            reason: Reason::PayloadFormatInvalid,
            detail: "the will is marked as UTF-8 but is not (3.1.3.2.3)",
        });
    }
    Ok(Will { topic, qos, retain })
}
