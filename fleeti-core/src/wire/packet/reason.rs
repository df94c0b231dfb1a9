//! Reason codes (MQTT 5, 2.4).

/// Why something was refused or ended, or that it was not. The number is the code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Success, normal disconnection, QoS 0 granted.
    Success = 0x00,
    /// QoS 1 granted.
    GrantedQos1 = 0x01,
    /// UNSUBACK: there was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// Something else.
    UnspecifiedError = 0x80,
    /// The bytes are no packet of MQTT 5.
    MalformedPacket = 0x81,
    /// The packet is well formed, and has no place here or holds what it must not.
    ProtocolError = 0x82,
    /// Another protocol, or another version of it.
    UnsupportedProtocolVersion = 0x84,
    /// The client identifier is not the one of the certificate.
    ClientIdentifierNotValid = 0x85,
    /// Not allowed.
    NotAuthorized = 0x87,
    /// The server cannot serve now.
    ServerUnavailable = 0x88,
    /// The server stops or starts again.
    ServerShuttingDown = 0x8b,
    /// No authentication method is supported.
    BadAuthenticationMethod = 0x8c,
    /// Nothing came within one and a half times the keep alive.
    KeepAliveTimeout = 0x8d,
    /// Another connection of the same device took the session over.
    SessionTakenOver = 0x8e,
    /// More was sent at once than the Receive Maximum allows.
    ReceiveMaximumExceeded = 0x93,
    /// No alias was granted.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than the Maximum Packet Size.
    PacketTooLarge = 0x95,
    /// A limit of the server was met.
    QuotaExceeded = 0x97,
    /// An administrator ended the session.
    AdministrativeAction = 0x98,
    /// The payload is not what its topic or its properties say.
    PayloadFormatInvalid = 0x99,
    /// There are no retained messages.
    RetainNotSupported = 0x9a,
    /// There is no such QoS.
    QosNotSupported = 0x9b,
    /// There are no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9e,
    /// There are no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xa1,
    /// There are no wildcards.
    WildcardSubscriptionsNotSupported = 0xa2,
}

impl Reason {
    /// As on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why the reader refuses bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What the sender is told.
    pub reason: Reason,
    /// In words, with the section or the statement of MQTT 5.
    pub detail: &'static str,
}

/// A packet that is none.
pub(super) const fn malformed<T>(detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason: Reason::MalformedPacket, detail })
}

/// A packet that must not be.
pub(super) const fn forbidden<T>(detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason: Reason::ProtocolError, detail })
}
