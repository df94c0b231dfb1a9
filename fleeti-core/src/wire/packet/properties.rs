//! Properties (MQTT 5, 2.2.2): which ones a packet may have, how often, and with which values.

use super::bytes::Bytes;
use super::reason::{Reason, Refusal, forbidden, malformed};

/// The packet that the properties are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connect,
    Will,
    Publish,
    PubAck,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// The properties that a server uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Properties<'a> {
    pub session_expiry_s: Option<u32>,
    pub receive_max: Option<u16>,
    pub packet_max: Option<u32>,
    pub authentication_method: Option<&'a str>,
    pub has_authentication_data: bool,
    pub topic_alias: Option<u16>,
    pub has_subscription_id: bool,
    pub is_text: bool,
}

const USER_PROPERTY: u8 = 0x26;

/// Reads the length of the properties, then the properties.
pub(super) fn read<'a>(bytes: &mut Bytes<'a>, place: Place) -> Result<Properties<'a>, Refusal> {
    let length = bytes.varint()?;
    let mut bytes = Bytes(bytes.take(usize::try_from(length).unwrap_or(usize::MAX))?);
    let (mut properties, mut seen) = (Properties::default(), 0_u64);
    while !bytes.is_empty() {
        // A variable byte integer (2.2.2.2). All defined identifiers have one byte.
        let id = bytes.varint()?;
        let Some(id) = u8::try_from(id).ok().filter(|id| *id < 64) else {
            return malformed("an unknown property (2.2.2.2)");
        };
        if id != USER_PROPERTY && seen & (1 << id) != 0 {
            return forbidden("a duplicate property (2.2.2.2)");
        }
        seen |= 1 << id;
        one(&mut properties, &mut bytes, place, id)?;
    }
    if properties.has_authentication_data && properties.authentication_method.is_none() {
        return forbidden("authentication data without a method (3.1.2.11.10)");
    }
    Ok(properties)
}

fn one<'a>(
    properties: &mut Properties<'a>,
    bytes: &mut Bytes<'a>,
    place: Place,
    id: u8,
) -> Result<(), Refusal> {
    use Place::{Connect, Disconnect, PubAck, Publish, Subscribe, Will};
    match (id, place) {
        (0x01, Publish | Will) => properties.is_text = flag(bytes)?,
        (0x02, Publish | Will) | (0x18, Will) => {
            bytes.u32()?;
        }
        (0x03, Publish | Will) | (0x1f, PubAck | Disconnect) => {
            bytes.text()?;
        }
        (0x08, Publish | Will) => match bytes.text()? {
            "" => return forbidden("an empty response topic"),
            topic if topic.contains(['+', '#']) => {
                return forbidden("a wildcard in the response topic (MQTT-3.3.2-14)");
            }
            _ => {}
        },
        (0x09, Publish | Will) => {
            bytes.binary()?;
        }
        (0x0b, Subscribe) => match bytes.varint()? {
            0 => return forbidden("subscription identifier 0 (3.8.2.1.2)"),
            _ => properties.has_subscription_id = true,
        },
        (0x0b, Publish) => {
            return forbidden("a subscription identifier from a client (MQTT-3.3.4-6)");
        }
        (0x11, Connect | Disconnect) => properties.session_expiry_s = Some(bytes.u32()?),
        (0x15, Connect) => properties.authentication_method = Some(bytes.text()?),
        (0x16, Connect) => {
            bytes.binary()?;
            properties.has_authentication_data = true;
        }
        (0x17 | 0x19, Connect) => {
            flag(bytes)?;
        }
        (0x1c, Disconnect) => return forbidden("a server reference from a client (3.14.2.2.5)"),
        (0x21, Connect) => match bytes.u16()? {
            0 => return forbidden("Receive Maximum 0 (3.1.2.11.3)"),
            max => properties.receive_max = Some(max),
        },
        (0x22, Connect) => {
            bytes.u16()?;
        }
        (0x23, Publish) => match bytes.u16()? {
            0 => {
                return Err(Refusal {
                    reason: Reason::TopicAliasInvalid,
                    detail: "topic alias 0 (MQTT-3.3.2-8)",
                });
            }
            alias => properties.topic_alias = Some(alias),
        },
        (USER_PROPERTY, _) => {
            bytes.text()?;
            bytes.text()?;
        }
        (0x27, Connect) => match bytes.u32()? {
            0 => return forbidden("Maximum Packet Size 0 (3.1.2.11.4)"),
            max => properties.packet_max = Some(max),
        },
        _ => return malformed("a property that this packet must not have (2.2.2.2)"),
    }
    Ok(())
}

fn flag(bytes: &mut Bytes<'_>) -> Result<bool, Refusal> {
    match bytes.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => forbidden("a property that must be 0 or 1 has another value"),
    }
}
