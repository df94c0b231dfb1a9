//! The state of an MQTT 5 session while its device is connected.

use super::conduct::{Quotas, Rate};
use super::connection::Connection;
use super::doors::Peer;
use super::sessions::Kept;
use super::window::{IN_FLIGHT_MAX, Window};
use crate::gateway::state::Gateway;
use fleeti_control::attestation::challenge::Asked;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::INTERVAL_S;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::mqtt::Down;
use fleeti_store::mqtt_sessions::{Stored, Subscriptions};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// Stands for "never" in timers.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// A session.
pub(super) struct Session<'a> {
    pub gateway: &'a Gateway,
    pub device: DeviceId,
    pub connection: Connection,
    pub keep_alive: Duration,
    /// Time of the last packet from the device; packets of the server do not count (MQTT-3.1.2-22).
    pub received_at: Instant,
    /// Expiry of the certificate of the handshake.
    pub certificate_ends: Instant,
    /// Session expiry interval: how long the session outlasts the connection, in seconds.
    pub session_expiry_s: u32,
    /// The stored state of the session.
    pub stored: Stored,
    pub subscriptions: Subscriptions,
    pub window: Window,
    /// Receive maximum of the device: unacknowledged messages that it accepts.
    pub receive_max: usize,
    pub quotas: Quotas,
    pub sent_generation: Option<u64>,
    pub sent_commands: HashSet<String>,
    /// Desired state to send, if it is newer than the last one sent.
    pub desired: Option<Box<DesiredState>>,
    /// The desired state was read when the device was admitted, and need not be read again when the
    /// device first subscribes.
    pub knows_desired: bool,
    /// Commands may be pending in the database.
    pub commands: bool,
    /// A new notice must be sent.
    pub notice: bool,
    /// A challenge must be sent.
    pub challenge: bool,
    /// The outstanding challenge.
    pub asked: Option<Asked>,
    /// The challenge at the start of the session was sent.
    pub was_asked: bool,
    /// The firmware event log that the device has named in this session.
    pub firmware_log: Option<String>,
    /// Evidence was just accepted, and the resulting ticket for secrets is not sent yet.
    pub has_proved: bool,
    /// Time of the next challenge.
    pub ask_at: Instant,
    /// More messages wait than the window has room for.
    pub is_waiting_for_room: bool,
}

/// Time of the next challenge, with jitter, so that devices do not answer all at once.
pub(super) fn next_time() -> Instant {
    Instant::now() + Duration::from_secs(INTERVAL_S - rand::random_range(0..INTERVAL_S / 5))
}

impl<'a> Session<'a> {
    pub fn new(gateway: &'a Gateway, peer: &Peer, connection: Connection) -> Self {
        let now = Instant::now();
        let left_s = peer.not_after_s.saturating_sub(gateway.control.now_s());
        Self {
            gateway,
            device: peer.device.clone(),
            connection,
            keep_alive: Duration::ZERO,
            received_at: now,
            certificate_ends: now + Duration::from_secs(left_s).min(FAR),
            session_expiry_s: 0,
            stored: Stored::default(),
            subscriptions: Subscriptions::default(),
            window: Window::default(),
            receive_max: IN_FLIGHT_MAX,
            quotas: gateway.conducts.quotas(&peer.device, now),
            sent_generation: None,
            sent_commands: HashSet::new(),
            desired: None,
            knows_desired: false,
            commands: false,
            notice: false,
            challenge: false,
            asked: None,
            was_asked: false,
            firmware_log: None,
            has_proved: false,
            ask_at: next_time(),
            is_waiting_for_room: false,
        }
    }

    /// Stores the persistent state if it has changed; for most devices it has not.
    pub fn remember(&mut self) {
        let until_s = match self.session_expiry_s {
            0 => 0,
            u32::MAX => i64::MAX.unsigned_abs(),
            expiry => self.gateway.control.now_s() + u64::from(expiry),
        };
        let now = Stored { until_s, subscriptions: self.subscriptions };
        // A change of less than 1 % of the session expiry is not worth a write.
        let is_near = (until_s > 0) == (self.stored.until_s > 0)
            && until_s.abs_diff(self.stored.until_s) <= u64::from(self.session_expiry_s / 100);
        if !is_near || self.stored.subscriptions != now.subscriptions {
            self.stored = now;
            self.gateway.sessions.keep(&self.device, Kept { stored: now, in_flight: Vec::new() });
        }
    }

    /// Stores the state that the next connection resumes.
    pub fn leave(&mut self) {
        self.gateway.conducts.keep(&self.device, self.quotas, Instant::now());
        self.remember();
        let mut in_flight = std::mem::take(&mut self.window.in_flight);
        // Challenges and tickets belong to one connection; the next one gets new ones.
        in_flight.retain(|m| !matches!(m.kind, Down::Challenge | Down::Secrets));
        if self.session_expiry_s > 0 && !in_flight.is_empty() {
            self.gateway.sessions.keep(&self.device, Kept { stored: self.stored, in_flight });
        }
    }

    pub fn rate(&self) -> Rate {
        let limits = &self.gateway.limits;
        Rate {
            interval: Duration::from_millis(limits.message_interval_ms),
            burst: limits.messages_burst,
        }
    }
}
