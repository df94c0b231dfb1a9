//! The MQTT 5 session of a device, from CONNECT to its end.

use super::connection::{Connection, Ended};
use super::doors::Peer;
use super::session_state::Session;
use super::window::{IN_FLIGHT_MAX, Window};
use crate::gateway::state::Gateway;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fleeti_control::alerts;
use fleeti_control::channels;
use fleeti_control::devices::{self, Admitted};
use fleeti_control::hub::Registration;
use fleeti_control::places::Place;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::mqtt::PACKET_MAX;
use fleeti_core::wire::packet::{self, Connect, Packet, Reason, write};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// Maximum keep alive, in seconds.
const KEEP_ALIVE_S_MAX: u16 = 300;
/// Receive maximum for QoS 1 messages. Each is acknowledged before the next one is read.
const RECEIVE_MAX: u16 = 16;

/// Why a session ends when its place is given away.
const EVICTED: &str = "its place was given to another device";

/// Serves a connection after its TLS handshake. A device whose place is given away gets the reason,
/// once it has begun CONNECT: before that, MQTT has no packet for it (MQTT-3.14.0-1).
pub async fn run(
    gateway: &Gateway,
    stream: Box<TlsStream<TcpStream>>,
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
    alerts::connected(&gateway.control, &device).await?;
    if let Err(e) = channels::on_reconnect(&gateway.control, &device).await {
        connection.end(Some(write::refused(Reason::ServerUnavailable))).await;
        return Err(e.into());
    }
    let mut session = Session::new(gateway, &peer, connection);
    session.begin(&connect, admitted);
    gateway.control.publish_unstored(Event::Device { id: device.clone() });
    let ended = tokio::select! {
        biased;
        ended = session.serve(&registration.handle) => ended,
        () = place.evicted() => {
            Ended::Closed { reason: Reason::QuotaExceeded, detail: EVICTED.into() }
        }
    };
    session.end(&ended, registration).await;
    gateway.control.publish_unstored(Event::Device { id: device });
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

impl Session<'_> {
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
}
