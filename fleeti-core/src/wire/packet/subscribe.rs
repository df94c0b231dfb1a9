//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5, 3.8 and 3.10), and what a topic filter is (4.7, 4.8.2).

use super::bytes::Bytes;
use super::packet_id;
use super::properties::{self, Place};
use super::reason::{Refusal, forbidden, malformed};

/// 3.8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier.
    pub id: u16,
    /// At least one.
    pub subscriptions: Vec<Subscription<'a>>,
    /// Whether messages are to come with an identifier of their subscription.
    pub has_subscription_id: bool,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Well formed.
    pub filter: &'a str,
    /// What it is.
    pub kind: Kind,
    /// 0, 1 or 2: the highest that is wanted.
    pub qos: u8,
}

/// 3.10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier.
    pub id: u16,
    /// At least one.
    pub filters: Vec<&'a str>,
}

/// What a topic filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One topic.
    Topic,
    /// `+` or `#`.
    Wildcard,
    /// `$share/NAME/FILTER`.
    Shared,
}

pub(super) fn read<'a>(bytes: &mut Bytes<'a>) -> Result<Subscribe<'a>, Refusal> {
    let id = packet_id(bytes)?;
    let properties = properties::read(bytes, Place::Subscribe)?;
    if bytes.is_empty() {
        return forbidden("SUBSCRIBE without a filter (MQTT-3.8.3-2)");
    }
    let mut subscriptions = Vec::new();
    while !bytes.is_empty() {
        let filter = bytes.text()?;
        let kind = kind(filter)?;
        let options = bytes.u8()?;
        match options {
            _ if options & 0xc0 != 0 => {
                return malformed("reserved options are set (MQTT-3.8.3-5)");
            }
            _ if options & 0x03 == 3 => return forbidden("QoS 3 (3.8.3.1)"),
            _ if options & 0x30 == 0x30 => return forbidden("Retain Handling 3 (3.8.3.1)"),
            _ if options & 0x04 != 0 && kind == Kind::Shared => {
                return forbidden("No Local with a shared subscription (MQTT-3.8.3-4)");
            }
            _ => subscriptions.push(Subscription { filter, kind, qos: options & 3 }),
        }
    }
    Ok(Subscribe { id, subscriptions, has_subscription_id: properties.has_subscription_id })
}

pub(super) fn read_unsubscribe<'a>(bytes: &mut Bytes<'a>) -> Result<Unsubscribe<'a>, Refusal> {
    let id = packet_id(bytes)?;
    properties::read(bytes, Place::Unsubscribe)?;
    if bytes.is_empty() {
        return forbidden("UNSUBSCRIBE without a filter (MQTT-3.10.3-2)");
    }
    let mut filters = Vec::new();
    while !bytes.is_empty() {
        let filter = bytes.text()?;
        kind(filter)?;
        filters.push(filter);
    }
    Ok(Unsubscribe { id, filters })
}

fn kind(filter: &str) -> Result<Kind, Refusal> {
    let (is_shared, filter) = match filter.strip_prefix("$share/") {
        Some(shared) => match shared.split_once('/') {
            Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) => {
                (true, filter)
            }
            _ => return malformed("no share name (MQTT-4.8.2-1, MQTT-4.8.2-2)"),
        },
        None => (false, filter),
    };
    if filter.is_empty() {
        return malformed("an empty topic filter (MQTT-4.7.3-1)");
    }
    if !filter.contains(['+', '#']) {
        return Ok(if is_shared { Kind::Shared } else { Kind::Topic });
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if level.contains('#') && (level != "#" || !is_last) {
            return malformed("`#` is a level of its own, and the last one (MQTT-4.7.1-1)");
        }
        if level.contains('+') && level != "+" {
            return malformed("`+` is a level of its own (MQTT-4.7.1-2)");
        }
    }
    Ok(if is_shared { Kind::Shared } else { Kind::Wildcard })
}
