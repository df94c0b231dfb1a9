//! The table of MQTT topics. Subscriptions, dispatch and access rules all use it.
//!
//! `fleeti/v1/{device}/{up|down}/{name}`: a device publishes only `up`, subscribes only `down`.

use crate::id::DeviceId;

/// What a device may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Up {
    /// [`super::device::Report`].
    Report,
    /// [`super::device::Acknowledgement`].
    Acknowledgement,
    /// [`super::device::Telemetry`].
    Telemetry,
    /// [`super::attestation::Evidence`].
    Evidence,
}

/// What a device may subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Down {
    /// [`super::device::DesiredState`].
    Desired,
    /// [`super::device::Command`].
    Command,
    /// [`super::device::Notice`].
    Notice,
    /// [`super::attestation::Challenge`].
    Challenge,
    /// [`super::vault::SecretsTicket`].
    Secrets,
}

/// Largest payload in either direction, bytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Largest MQTT packet in either direction, bytes.
pub const PACKET_MAX: usize = PAYLOAD_MAX + 1024;

/// Name of MQTT in TLS ALPN (RFC 7301; IANA registry of ALPN protocol ids). A client that offers it
/// on the HTTPS device port speaks MQTT there, so a firewall needs to allow only one port.
pub const ALPN_MQTT: &[u8] = b"mqtt";

const PREFIX: &str = "fleeti/v1/";

impl Up {
    /// Every topic a device may publish to.
    pub const ALL: [Self; 4] =
        [Self::Report, Self::Acknowledgement, Self::Telemetry, Self::Evidence];
    /// The last level of its topic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Acknowledgement => "ack",
            Self::Telemetry => "telemetry",
            Self::Evidence => "evidence",
        }
    }
    /// The topic of this device.
    #[must_use]
    pub fn topic(self, device: &DeviceId) -> String {
        format!("{PREFIX}{device}/up/{}", self.name())
    }
    /// Parses a topic of this device; `None` for any other topic, also one of another device.
    #[must_use]
    pub fn of(topic: &str, device: &DeviceId) -> Option<Self> {
        Self::named(own(topic, device)?.strip_prefix("up/")?)
    }
    /// The kind of message with this [`Up::name`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The part after `fleeti/v1/{device}/`. Copies nothing, because it runs for every message.
fn own<'a>(topic: &'a str, device: &DeviceId) -> Option<&'a str> {
    topic.strip_prefix(PREFIX)?.strip_prefix(device.as_str())?.strip_prefix('/')
}

impl Down {
    /// Every topic a device may subscribe to.
    pub const ALL: [Self; 5] =
        [Self::Desired, Self::Command, Self::Notice, Self::Challenge, Self::Secrets];
    /// The last level of its topic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Command => "command",
            Self::Notice => "notice",
            Self::Challenge => "challenge",
            Self::Secrets => "secrets",
        }
    }
    /// Prefix of the topics that this device may subscribe to.
    #[must_use]
    pub fn prefix(device: &DeviceId) -> String {
        format!("{PREFIX}{device}/down/")
    }
    /// The topic of this device.
    #[must_use]
    pub fn topic(self, device: &DeviceId) -> String {
        format!("{}{}", Self::prefix(device), self.name())
    }
    /// Parses a topic of this device; `None` for any other topic, also one with wildcards.
    #[must_use]
    pub fn of(topic: &str, device: &DeviceId) -> Option<Self> {
        let name = own(topic, device)?.strip_prefix("down/")?;
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_topics_of_the_device_are_known() {
        let (a, b): (DeviceId, DeviceId) = ("dev-a".parse().unwrap(), "dev-b".parse().unwrap());
        for t in Up::ALL {
            assert_eq!(Up::of(&t.topic(&a), &a), Some(t));
            assert_eq!(Up::of(&t.topic(&a), &b), None);
            assert_eq!(Down::of(&t.topic(&a), &a), None);
        }
        for odd in [
            "#",
            "+/#",
            "fleeti/v1/dev-a/down/#",
            "$share/g/fleeti/v1/dev-a/down/command",
            "é/x",
            "",
            "fleeti/v1/+/down/command",
            "fleeti/v1/dev-a/down/command/",
        ] {
            assert_eq!(Down::of(odd, &a), None, "{odd}");
        }
    }

    #[test]
    fn the_topics_are_the_protocol() {
        let a: DeviceId = "dev-a".parse().unwrap();
        let all: Vec<_> = Up::ALL
            .map(|t| t.topic(&a))
            .into_iter()
            .chain(Down::ALL.map(|t| t.topic(&a)))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
