//! Reason codes (MQTT 5, 2.4).

/// Reason code. The discriminant is the value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Success, normal disconnection, QoS 0 granted.
    Success = 0x00,
    /// QoS 1 granted.
    GrantedQos1 = 0x01,
    /// UNSUBACK: the subscription did not exist.
    NoSubscriptionExisted = 0x11,
    /// Any other error.
    UnspecifiedError = 0x80,
    /// The bytes are not a packet of MQTT 5.
    MalformedPacket = 0x81,
    /// The packet is well formed but not permitted here, or contains what it must not.
    ProtocolError = 0x82,
    /// Another protocol, or another version of MQTT.
    UnsupportedProtocolVersion = 0x84,
    /// The client identifier is not the one in the certificate.
    ClientIdentifierNotValid = 0x85,
    /// Not allowed.
    NotAuthorized = 0x87,
    /// The server is not available.
    ServerUnavailable = 0x88,
    /// The server stops or restarts.
    ServerShuttingDown = 0x8b,
    /// No authentication method is supported.
    BadAuthenticationMethod = 0x8c,
    /// The server received nothing for one and a half times the keep alive.
    KeepAliveTimeout = 0x8d,
    /// Another connection of the same device took over the session.
    SessionTakenOver = 0x8e,
    /// The client sent more messages at once than the Receive Maximum permits.
    ReceiveMaximumExceeded = 0x93,
    /// The server permits no topic aliases.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than the Maximum Packet Size.
    PacketTooLarge = 0x95,
    /// A limit of the server was exceeded.
    QuotaExceeded = 0x97,
    /// An administrator ended the session.
    AdministrativeAction = 0x98,
    /// The payload does not match its topic or its properties.
    PayloadFormatInvalid = 0x99,
    /// The server has no retained messages.
    RetainNotSupported = 0x9a,
    /// The server does not support this QoS.
    QosNotSupported = 0x9b,
    /// The server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9e,
    /// The server has no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xa1,
    /// The server has no wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xa2,
}

impl Reason {
    /// The value on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why the reader refuses a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The reason code to send to the client.
    pub reason: Reason,
    /// The reason in words, with the section or the conformance statement of MQTT 5.
    pub detail: &'static str,
}

/// Refuses a malformed packet.
pub(super) const fn malformed<T>(detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason: Reason::MalformedPacket, detail })
}

/// Refuses a packet that violates the protocol.
pub(super) const fn forbidden<T>(detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason: Reason::ProtocolError, detail })
}
