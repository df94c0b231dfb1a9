//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5, 3.8 and 3.10), and topic filters (4.7, 4.8.2).

use super::bytes::Bytes;
use super::packet_id;
use super::properties::{self, Place};
use super::reason::{Refusal, forbidden, malformed};

/// SUBSCRIBE (3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier.
    pub id: u16,
    /// The subscriptions; at least one.
    pub subscriptions: Vec<Subscription<'a>>,
    /// Whether the client set a subscription identifier.
    pub has_subscription_id: bool,
}

/// One subscription of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic filter; well formed.
    pub filter: &'a str,
    /// Kind of the filter.
    pub kind: Kind,
    /// Highest QoS that the client requests: 0, 1 or 2.
    pub qos: u8,
}

/// UNSUBSCRIBE (3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier.
    pub id: u16,
    /// Topic filters; at least one.
    pub filters: Vec<&'a str>,
}

/// Kind of a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The filter is a topic name.
    Topic,
    /// The filter has `+` or `#`.
    Wildcard,
    /// The filter is `$share/NAME/FILTER`.
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
            return malformed("`#` must be a whole level, and the last one (MQTT-4.7.1-1)");
        }
        if level.contains('+') && level != "+" {
            return malformed("`+` must be a whole level (MQTT-4.7.1-2)");
        }
    }
    Ok(if is_shared { Kind::Shared } else { Kind::Wildcard })
}
