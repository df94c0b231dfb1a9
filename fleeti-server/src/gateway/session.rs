//! The MQTT 5 session of a device, from CONNECT to its end.

use super::conduct::{Quotas, Rate};
use super::connection::{Connection, Ended};
use super::doors::Peer;
use super::sessions::Kept;
use super::window::{IN_FLIGHT_MAX, Window};
use crate::gateway::state::Gateway;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fleeti_control::attestation::challenge::Asked;
use fleeti_control::attestation::policy;
use fleeti_control::devices;
use fleeti_control::devices::Admitted;
use fleeti_control::hub::{Handle, Registration};
use fleeti_control::places::Place;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::INTERVAL_S;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::mqtt::{Down, PACKET_MAX};
use fleeti_core::wire::packet::{self, Connect, Packet, Reason, write};
use fleeti_store::mqtt_sessions::{Stored, Subscriptions};
use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// Maximum keep alive, in seconds.
const KEEP_ALIVE_S_MAX: u16 = 300;
/// Receive maximum for QoS 1 messages. Each is acknowledged before the next one is read.
const RECEIVE_MAX: u16 = 16;
/// Stands for "never" in timers.
const FAR: Duration = Duration::from_secs(86_400 * 365);

pub(super) struct Session<'a> {
    pub gateway: &'a Gateway,
    pub device: DeviceId,
    pub connection: Connection,
    keep_alive: Duration,
    /// Time of the last packet from the device; packets of the server do not count (MQTT-3.1.2-22).
    received_at: Instant,
    /// Expiry of the certificate of the handshake.
    certificate_ends: Instant,
    /// Session expiry interval: how long the session outlasts the connection, in seconds.
    pub session_expiry_s: u32,
    /// The stored state of the session.
    stored: Stored,
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
    ask_at: Instant,
    /// More messages wait than the window has room for.
    pub is_waiting_for_room: bool,
}

/// Time of the next challenge, with jitter, so that devices do not answer all at once.
fn next_time() -> Instant {
    Instant::now() + Duration::from_secs(INTERVAL_S - rand::random_range(0..INTERVAL_S / 5))
}

/// Why a session ends when its place is given away.
const EVICTED: &str = "its place was given to another device";

/// Serves a connection after its TLS handshake. A device whose place is given away gets the reason,
/// once it has begun CONNECT: before that, MQTT has no packet for it (MQTT-3.14.0-1).
pub async fn run(
    gateway: &Gateway,
    stream: TlsStream<TcpStream>,
    peer: Peer,
    place: &Place<DeviceId>,
) -> Result<()> {
    let arriving = Arriving { gateway, peer: &peer, place };
    let mut connection = Connection::new(stream, Duration::from_millis(gateway.limits.write_ms));
    let first = arriving.first_packet(&mut connection).await?;
    let admitted = match &first {
        // Only CONNECT is answered with CONNACK; other packets are no MQTT client (MQTT-3.1.0-1).
        Ok(bytes) => match packet::read(bytes) {
            Ok(Packet::Connect(connect)) => {
                arriving.admit(&connect, &mut connection).await.map(|admitted| (connect, admitted))
            }
            Err(refusal) if bytes.first().is_some_and(|b| b >> 4 == 1) => Err(refusal.reason),
            Ok(_) | Err(_) => bail!("the first packet is not CONNECT"),
        },
        Err(Ended::Closed { reason, .. }) if connection.begins_with_connect() => Err(*reason),
        Err(ended) => bail!("before CONNECT: {ended}"),
    };
    let (connect, admitted) = match admitted {
        Ok(admitted) => admitted,
        Err(reason) => {
            connection.end(Some(write::refused(reason))).await;
            bail!("refused: {reason:?}");
        }
    };
    connection.packet_max =
        connect.packet_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let device = peer.device.clone();
    let registration = gateway.control.hub.register(&device).await;
    connection.kicked = registration.handle.kicked.clone();
    // Check again: the device may have been revoked between the first check and the registration.
    if gateway.control.access.is_revoked(&device) {
        connection.end(Some(write::refused(Reason::NotAuthorized))).await;
        bail!("revoked");
    }
    if let Some(pause) = gateway.limits.takeover_pause(registration.turns) {
        gateway.conducts.punish(&device, pause, Instant::now());
    }
    devices::taken_over(&gateway.control, &device, registration.turns).await?;
    if let Err(e) = policy::on_reconnect(&gateway.control, &device).await {
        connection.end(Some(write::refused(Reason::ServerUnavailable))).await;
        return Err(e.into());
    }
    let mut session = Session::new(gateway, &peer, connection);
    session.begin(&connect, admitted);
    gateway.control.publish(Event::Device { id: device.clone() });
    let ended = tokio::select! {
        biased;
        ended = session.serve(&registration.handle) => ended,
        () = place.evicted() => {
            Ended::Closed { reason: Reason::QuotaExceeded, detail: EVICTED.into() }
        }
    };
    session.end(&ended, registration).await;
    gateway.control.publish(Event::Device { id: device });
    match ended {
        Ended::Left => Ok(()),
        ended => bail!("{ended}"),
    }
}

/// A connection that has no session yet.
struct Arriving<'a> {
    gateway: &'a Gateway,
    peer: &'a Peer,
    place: &'a Place<DeviceId>,
}

impl Arriving<'_> {
    /// The first packet, or why there is none.
    async fn first_packet(&self, connection: &mut Connection) -> Result<Result<Bytes, Ended>> {
        let in_time = Duration::from_millis(self.gateway.limits.handshake_ms);
        tokio::select! {
            biased;
            first = tokio::time::timeout(in_time, connection.next()) => {
                first.context("no CONNECT in time")
            }
            () = self.place.evicted() => Ok(Ended::closed(Reason::QuotaExceeded, EVICTED)),
        }
    }

    /// Whether the device may begin a session.
    async fn admit(
        &self,
        connect: &Connect<'_>,
        connection: &mut Connection,
    ) -> Result<Admitted, Reason> {
        self.check(connect)?;
        self.wait_for_penalty(connection).await?;
        let Peer { device, key_sha256, .. } = self.peer;
        match devices::admit(&self.gateway.control, device, key_sha256).await {
            Ok(Some(admitted)) => Ok(admitted),
            Ok(None) => Err(Reason::NotAuthorized),
            Err(_) => Err(Reason::ServerUnavailable),
        }
    }

    fn check(&self, connect: &Connect<'_>) -> Result<(), Reason> {
        if connect.authentication_method.is_some() {
            return Err(Reason::BadAuthenticationMethod);
        }
        if connect.client_id != self.peer.device.as_str() {
            return Err(Reason::ClientIdentifierNotValid);
        }
        match connect.will {
            Some(will) if will.qos > 1 => return Err(Reason::QosNotSupported),
            Some(will) if will.retain => return Err(Reason::RetainNotSupported),
            // No wills: the server knows presence from the connection itself.
            Some(_) => return Err(Reason::NotAuthorized),
            None => {}
        }
        if self.gateway.control.hub.is_closing() {
            return Err(Reason::ServerUnavailable);
        }
        Ok(())
    }

    /// Waits until the penalty of the device has ended. A connection that is closed meanwhile takes
    /// over no session.
    async fn wait_for_penalty(&self, connection: &mut Connection) -> Result<(), Reason> {
        match self.gateway.conducts.penalty(&self.peer.device, Instant::now()) {
            Ok(Some(waiting)) => tokio::select! {
                () = tokio::time::sleep_until(waiting.until) => Ok(()),
                () = self.place.evicted() => Err(Reason::QuotaExceeded),
                () = connection.gone() => Err(Reason::UnspecifiedError),
            },
            Ok(None) => Ok(()),
            Err(()) => Err(Reason::QuotaExceeded),
        }
    }
}

impl<'a> Session<'a> {
    fn new(gateway: &'a Gateway, peer: &Peer, connection: Connection) -> Self {
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

    /// Resumes the device's session or begins a new one, and sends CONNACK (3.1.2.4, 3.2.2.1.1).
    fn begin(&mut self, connect: &Connect<'_>, admitted: Admitted) {
        // The session is registered: it gets everything that is committed from now on.
        if self.gateway.control.hub.changes() == admitted.changes {
            self.desired = Some(admitted.desired);
            self.knows_desired = true;
        }
        let keep_alive_s = if connect.keep_alive_s == 0 {
            KEEP_ALIVE_S_MAX
        } else {
            connect.keep_alive_s.min(KEEP_ALIVE_S_MAX)
        };
        self.keep_alive = Duration::from_millis(u64::from(keep_alive_s) * 1500);
        self.session_expiry_s = connect.session_expiry_s;
        self.receive_max = usize::from(connect.receive_max).min(IN_FLIGHT_MAX);
        let (stored, in_flight) = self.gateway.sessions.take(&self.device, admitted.session);
        self.stored = stored;
        let session_present = !connect.clean_start && stored.until_s > self.gateway.control.now_s();
        if session_present {
            self.subscriptions = stored.subscriptions;
            self.window = Window::resumed(in_flight);
        }
        self.connection.queue(write::connack(&write::Announced {
            session_present,
            receive_max: RECEIVE_MAX,
            packet_max: u32::try_from(PACKET_MAX).unwrap_or(u32::MAX),
            keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            session_expiry_s: None,
        }));
        self.redeliver();
        self.remember();
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
    fn leave(&mut self) {
        self.gateway.conducts.keep(&self.device, self.quotas, Instant::now());
        self.remember();
        let mut in_flight = std::mem::take(&mut self.window.in_flight);
        // Challenges and tickets belong to one connection; the next one gets new ones.
        in_flight.retain(|m| !matches!(m.kind, Down::Challenge | Down::Secrets));
        if self.session_expiry_s > 0 && !in_flight.is_empty() {
            self.gateway.sessions.keep(&self.device, Kept { stored: self.stored, in_flight });
        }
    }

    /// Tells the device why its session ends, and lets the next one begin.
    async fn end(&mut self, ended: &Ended, registration: Registration<'_>) {
        self.leave();
        let reason = match ended {
            Ended::Left | Ended::Gone(_) => None,
            Ended::Kicked => {
                let is_revoked = self.gateway.control.access.is_revoked(&self.device);
                Some(registration.handle.reason(is_revoked))
            }
            Ended::Closed { reason, .. } => Some(*reason),
        };
        // Another connection of the device waits for the end of this session, so do not wait for a
        // peer that does not read.
        let is_taken_over = reason == Some(Reason::SessionTakenOver);
        // Only a client that is still there is displaced by another one.
        if !is_taken_over || self.connection.is_gone().await {
            registration.handle.client_has_left();
        }
        let registration = (!is_taken_over).then_some(registration);
        self.connection.end(reason.map(write::disconnect)).await;
        drop(registration);
    }

    async fn serve(&mut self, handle: &Handle) -> Ended {
        match self.served(handle).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn served(&mut self, handle: &Handle) -> Result<std::convert::Infallible, Ended> {
        if !self.subscriptions.is_empty() {
            self.look_into_the_mailbox().await?;
            self.deliver().await?;
        }
        let mut clock = pin!(tokio::time::sleep_until(self.next_date()));
        loop {
            self.connection.flush().await?;
            let ready_at = self.quotas.messages.ready_at(self.rate());
            let next = async {
                // Beyond its quota, do not read from the device.
                let waited = ready_at.filter(|at| *at > Instant::now());
                if let Some(at) = waited {
                    tokio::time::sleep_until(at).await;
                }
                self.connection.next().await
            };
            tokio::select! {
                biased;
                () = handle.mail.arrived.notified() => {
                    if handle.kicked.is_cancelled() {
                        return Err(Ended::Kicked);
                    }
                    self.arrived(handle).await?;
                }
                bytes = next => {
                    let bytes = bytes?;
                    self.received_at = Instant::now();
                    if bytes.first().is_some_and(|b| b >> 4 == 1) {
                        return Ended::closed(Reason::ProtocolError, "a second CONNECT (MQTT-3.1.0-2)");
                    }
                    let packet = packet::read(&bytes)?;
                    // PUBACKs answer messages of the server, so their number is bounded: do not
                    // count them.
                    if !matches!(packet, Packet::PubAck { .. }) {
                        let rate = self.rate();
                        self.quotas.messages.take(rate, self.received_at);
                    }
                    self.handle(packet).await?;
                }
                () = &mut clock => {
                    self.look_at_the_clock(ready_at).await?;
                    clock.as_mut().reset(self.next_date());
                }
            }
        }
    }

    fn rate(&self) -> Rate {
        let limits = &self.gateway.limits;
        Rate {
            interval: Duration::from_millis(limits.message_interval_ms),
            burst: limits.messages_burst,
        }
    }

    async fn arrived(&mut self, handle: &Handle) -> Result<(), Ended> {
        let arrived = handle.mail.take();
        // Desired states may arrive in another order than they were committed.
        if let Some(desired) = arrived.desired
            && self.desired.as_ref().is_none_or(|waiting| waiting.generation < desired.generation)
        {
            self.desired = Some(desired);
        }
        self.commands |= arrived.commands;
        self.notice |= arrived.notice;
        self.challenge |= arrived.challenge;
        self.deliver().await
    }

    /// The next time at which something is due. One timer serves all; it is set again only when it
    /// fires.
    fn next_date(&self) -> Instant {
        (self.received_at + self.keep_alive).min(self.ask_at).min(self.certificate_ends)
    }

    async fn look_at_the_clock(&mut self, ready_at: Option<Instant>) -> Result<(), Ended> {
        let now = Instant::now();
        if self.certificate_ends <= now {
            return Ended::closed(Reason::NotAuthorized, "its certificate has expired");
        }
        if ready_at.is_some_and(|at| at > self.received_at + self.keep_alive) {
            // The server did not read, so the device has not missed its keep alive.
            self.received_at = now;
        }
        if self.received_at + self.keep_alive <= now {
            return Ended::closed(Reason::KeepAliveTimeout, "silent");
        }
        if self.ask_at <= now {
            self.ask_at = next_time();
            self.challenge = true;
            self.deliver().await?;
        }
        Ok(())
    }
}
