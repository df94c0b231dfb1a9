//! One MQTT 5 session of one device.

use crate::app::App;
use crate::gateway::hub::Handle;
use crate::service::attestation::{self, Asked};
use crate::service::{commands, devices, policy, vault};
use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::INTERVAL_S;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::mqtt::{Down, PACKET_MAX, Up};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, Disconnect, DisconnectProperties, DisconnectReasonCode, Packet, PubAck,
    PubAckReason, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use std::collections::HashSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// Longest keep alive that is granted, seconds.
const KEEP_ALIVE_S_MAX: u16 = 300;
/// Messages to a device that it has not acknowledged yet.
const IN_FLIGHT_MAX: usize = 16;
/// Most filters of one SUBSCRIBE.
const FILTERS_MAX: usize = 8;

struct Session<'a> {
    app: &'a App,
    device: DeviceId,
    stream: TlsStream<TcpStream>,
    input: BytesMut,
    write_limit: Duration,
    keep_alive: Duration,
    next_id: u16,
    in_flight: HashSet<u16>,
    subscribed: HashSet<Down>,
    sent_generation: Option<u64>,
    sent_commands: HashSet<String>,
    /// To be sent, if it is newer than what was.
    desired: Option<DesiredState>,
    /// Commands may wait in the database.
    commands: bool,
    /// A new notice to every device has not been sent.
    notice: bool,
    /// The device's TPM is to be asked.
    challenge: bool,
    /// What it was asked last and has not answered.
    asked: Option<Asked>,
    /// It was asked because its session began.
    was_asked: bool,
    /// The log of firmware that it has named in this session.
    heard_log: Option<String>,
    /// Its TPM has just answered: what it earned by that was not sent yet.
    has_proved: bool,
    /// When it is asked again.
    ask_at: Instant,
    /// More lies in the mailbox than may be on its way at once.
    held_back: bool,
}

/// When a device's TPM is asked again: not all at once.
fn next_time() -> Instant {
    Instant::now() + Duration::from_secs(INTERVAL_S - rand::random_range(0..INTERVAL_S / 5))
}

/// Serves a connection whose TLS handshake is done.
pub async fn run(app: &App, stream: TlsStream<TcpStream>) -> Result<()> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates().and_then(|c| c.first()).context("no certificate")?;
    let leaf = certificate::from_der(leaf)?;
    let (device, key_sha256) = (certificate::device_of(&leaf)?, certificate::key_sha256(&leaf)?);
    let limits = app.config.limits;
    let handshake = Duration::from_millis(limits.handshake_ms);
    let mut session = Session {
        app,
        device,
        stream,
        input: BytesMut::new(),
        write_limit: Duration::from_millis(limits.write_ms),
        keep_alive: handshake,
        next_id: 0,
        in_flight: HashSet::new(),
        subscribed: HashSet::new(),
        sent_generation: None,
        sent_commands: HashSet::new(),
        desired: None,
        commands: false,
        notice: false,
        challenge: false,
        asked: None,
        was_asked: false,
        heard_log: None,
        has_proved: false,
        ask_at: next_time(),
        held_back: false,
    };
    let (connect, has_will) = match tokio::time::timeout(handshake, session.read()).await.context("no CONNECT in time")?? {
        Packet::Connect(connect, will, _) => (connect, will.is_some()),
        _ => bail!("the first packet is no CONNECT"),
    };
    let known = match session.admit(&connect, has_will, &key_sha256).await {
        Ok(known) => known,
        Err(code) => {
            let refusal = ConnAck { session_present: false, code, properties: None };
            session.write(&Packet::ConnAck(refusal)).await?;
            bail!("refused: {code:?}");
        }
    };
    let registration = app.hub.register(&session.device).await;
    // Checked again: a revocation may have come between the first look and the registration.
    if app.tls.is_revoked(&session.device) {
        bail!("revoked");
    }
    devices::taken_over(app, &session.device, registration.turns).await?;
    policy::came_back(app, &session.device).await?;
    session.begin(&connect, known).await?;
    app.publish(Event::Device { id: session.device.clone() });
    let result = session.serve(&registration.handle).await;
    if let Err(Closed { reason, .. }) = &result {
        session.say_goodbye(*reason).await;
    }
    let device = session.device.clone();
    drop(registration);
    app.publish(Event::Device { id: device });
    result.map_err(|c| anyhow::anyhow!("{:?}: {}", c.reason, c.detail))
}

/// Why the server ends a session.
struct Closed {
    reason: DisconnectReasonCode,
    detail: String,
}

fn close<T>(reason: DisconnectReasonCode, detail: impl Into<String>) -> Result<T, Closed> {
    Err(Closed { reason, detail: detail.into() })
}

impl From<anyhow::Error> for Closed {
    fn from(e: anyhow::Error) -> Self {
        Self { reason: DisconnectReasonCode::UnspecifiedError, detail: format!("{e:#}") }
    }
}

impl Session<'_> {
    async fn read(&mut self) -> Result<Packet> {
        let limit = u32::try_from(PACKET_MAX).ok();
        loop {
            // This codec knows no DISCONNECT without a reason, the usual goodbye (MQTT 5, 3.14.2.1).
            if self.input.starts_with(&[0xe0, 0x00]) {
                return Ok(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)));
            }
            let before = self.input.len();
            match Packet::read(&mut self.input, limit) {
                Ok(packet) => return Ok(packet),
                // The codec takes a whole packet out before it reads it: more bytes would not mend that one.
                Err(CodecError::InsufficientBytes(_)) if self.input.len() == before => {
                    ensure!(self.input.len() <= PACKET_MAX, "a packet is too large");
                }
                Err(e) => bail!("malformed packet: {e}"),
            }
            ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the device closed the connection");
        }
    }

    /// Ends the session with a reason that the device gets to read.
    async fn say_goodbye(&mut self, reason_code: DisconnectReasonCode) {
        // With a text, because this codec writes a packet without properties, or with empty ones, wrongly.
        let properties = DisconnectProperties {
            session_expiry_interval: None,
            reason_string: Some(format!("{reason_code:?}")),
            user_properties: vec![],
            server_reference: None,
        };
        self.write(&Packet::Disconnect(Disconnect { reason_code, properties: Some(properties) })).await.ok();
        tokio::time::timeout(self.write_limit, self.stream.shutdown()).await.ok();
    }

    async fn write(&mut self, packet: &Packet) -> Result<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, None)?;
        // A peer that does not read must not hold a session, or a takeover would wait for it.
        let write = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(self.write_limit, write).await.context("the device does not read")??)
    }

    /// Whether the device may begin a session; gives whether it holds one already.
    async fn admit(&self, connect: &Connect, has_will: bool, key_sha256: &str) -> Result<bool, ConnectReturnCode> {
        if connect.client_id != self.device.as_str() {
            return Err(ConnectReturnCode::ClientIdentifierNotValid);
        }
        if has_will {
            // Presence comes from the connection itself.
            return Err(ConnectReturnCode::NotAuthorized);
        }
        match devices::admit(self.app, &self.device, key_sha256).await {
            Ok(Some(holds)) => Ok(holds),
            Ok(None) => Err(ConnectReturnCode::NotAuthorized),
            Err(_) => Err(ConnectReturnCode::ServerUnavailable),
        }
    }

    async fn begin(&mut self, connect: &Connect, known: bool) -> Result<()> {
        let granted = if connect.keep_alive == 0 { KEEP_ALIVE_S_MAX } else { connect.keep_alive.min(KEEP_ALIVE_S_MAX) };
        self.keep_alive = Duration::from_secs(u64::from(granted) * 3 / 2);
        let session_present = !connect.clean_start && known;
        let expiry = connect.properties.as_ref().and_then(|p| p.session_expiry_interval).unwrap_or(0);
        // Written only when it changes: most devices come back as they went.
        if known != (expiry > 0) {
            self.app.sessions.set(&self.device, expiry > 0);
        }
        if session_present {
            self.subscribed = Down::ALL.into_iter().collect();
        }
        let properties = ConnAckProperties {
            session_expiry_interval: None,
            receive_max: Some(16),
            max_qos: Some(1),
            retain_available: Some(0),
            max_packet_size: u32::try_from(PACKET_MAX).ok(),
            assigned_client_identifier: None,
            topic_alias_max: Some(0),
            reason_string: None,
            user_properties: vec![],
            wildcard_subscription_available: Some(0),
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(0),
            server_keep_alive: Some(granted),
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        let ack = ConnAck { session_present, code: ConnectReturnCode::Success, properties: Some(properties) };
        self.write(&Packet::ConnAck(ack)).await
    }

    async fn serve(&mut self, handle: &Handle) -> Result<(), Closed> {
        if !self.subscribed.is_empty() {
            self.look_into_the_mailbox().await?;
            self.deliver().await?;
        }
        loop {
            tokio::select! {
                biased;
                () = handle.kicked.cancelled() => {
                    let revoked = self.app.tls.is_revoked(&self.device);
                    let reason = if revoked { DisconnectReasonCode::NotAuthorized } else { DisconnectReasonCode::SessionTakenOver };
                    return close(reason, "kicked");
                }
                () = handle.mail.arrived.notified() => {
                    let arrived = handle.mail.take();
                    // Commits may be handed out in another order than they were made in.
                    if let Some(desired) = arrived.desired
                        && self.desired.as_ref().is_none_or(|held| held.generation < desired.generation)
                    {
                        self.desired = Some(desired);
                    }
                    self.commands |= arrived.commands;
                    self.notice |= arrived.notice;
                    self.challenge |= arrived.challenge;
                    self.deliver().await?;
                }
                () = tokio::time::sleep_until(self.ask_at) => {
                    self.ask_at = next_time();
                    self.challenge = true;
                    self.deliver().await?;
                }
                packet = tokio::time::timeout(self.keep_alive, self.read()) => {
                    let Ok(packet) = packet else { return close(DisconnectReasonCode::KeepAliveTimeout, "silent") };
                    let packet = packet.map_err(|e| Closed { reason: DisconnectReasonCode::MalformedPacket, detail: format!("{e:#}") })?;
                    if !self.handle(packet).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// `false` when the device said goodbye.
    async fn handle(&mut self, packet: Packet) -> Result<bool, Closed> {
        match packet {
            Packet::Publish(publish) => self.published(publish).await?,
            Packet::Subscribe(subscribe) => self.subscribe(subscribe).await?,
            Packet::Unsubscribe(unsubscribe) => {
                let mut reasons = Vec::new();
                for filter in &unsubscribe.filters {
                    let known = Down::of(filter, &self.device).is_some_and(|d| self.subscribed.remove(&d));
                    reasons.push(if known { UnsubAckReason::Success } else { UnsubAckReason::NoSubscriptionExisted });
                }
                self.write(&Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid, reasons, properties: None })).await?;
            }
            Packet::PubAck(ack) => {
                if !self.in_flight.remove(&ack.pkid) {
                    return close(DisconnectReasonCode::ProtocolError, format!("PUBACK {} of nothing", ack.pkid));
                }
                if self.held_back {
                    self.deliver().await?;
                }
            }
            Packet::PingReq(_) => self.write(&Packet::PingResp(rumqttc::v5::mqttbytes::v5::PingResp)).await?,
            Packet::Disconnect(_) => return Ok(false),
            Packet::Auth(_)
            | Packet::Connect(..)
            | Packet::ConnAck(_)
            | Packet::PingResp(_)
            | Packet::SubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::UnsubAck(_) => return close(DisconnectReasonCode::ProtocolError, "a packet that has no place here"),
        }
        Ok(true)
    }

    async fn published(&mut self, publish: Publish) -> Result<(), Closed> {
        if publish.qos == QoS::ExactlyOnce {
            return close(DisconnectReasonCode::QoSNotSupported, "QoS 2");
        }
        if publish.retain {
            return close(DisconnectReasonCode::RetainNotSupported, "retained message");
        }
        // None was granted (MQTT 5, 3.2.2.3.8).
        if publish.properties.as_ref().is_some_and(|p| p.topic_alias.is_some()) {
            return close(DisconnectReasonCode::TopicAliasInvalid, "topic alias");
        }
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        let Some(kind) = Up::of(topic, &self.device) else {
            return close(DisconnectReasonCode::NotAuthorized, format!("publish to {topic:?}"));
        };
        let received = match kind {
            // The question belongs to this session, and is answered once.
            Up::Evidence => {
                let received = attestation::received(self.app, &self.device, &mut self.asked, &publish.payload).await;
                received.map(|log| {
                    self.heard_log = Some(log);
                    self.has_proved = self.subscribed.contains(&Down::Secrets);
                })
            }
            Up::Report | Up::Telemetry | Up::Acknowledgement => devices::received(self.app, &self.device, kind, &publish.payload).await,
        };
        let reason = match received {
            Ok(()) => PubAckReason::Success,
            // Acknowledged with the reason: a device that cannot be understood must not send it for ever.
            Err(e) if e.code() == Code::Invalid => {
                tracing::warn!("{}: {e}", self.device);
                PubAckReason::PayloadFormatInvalid
            }
            // Not acknowledged: the device keeps it and sends it again.
            Err(e) => return close(DisconnectReasonCode::UnspecifiedError, e.to_string()),
        };
        if publish.qos == QoS::AtLeastOnce {
            self.write(&Packet::PubAck(PubAck { pkid: publish.pkid, reason, properties: None })).await?;
        }
        if self.has_proved {
            self.deliver().await?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), Closed> {
        if subscribe.filters.len() > FILTERS_MAX {
            return close(DisconnectReasonCode::QuotaExceeded, "too many filters");
        }
        let mut codes = Vec::new();
        for filter in &subscribe.filters {
            codes.push(match Down::of(&filter.path, &self.device) {
                Some(kind) => {
                    self.subscribed.insert(kind);
                    SubscribeReasonCode::Success(QoS::AtLeastOnce)
                }
                None => SubscribeReasonCode::NotAuthorized,
            });
        }
        // What a newer agent may know of its own is refused, and no reason to end the session.
        let own = Down::prefix(&self.device);
        let is_foreign = |path: &str| path.strip_prefix(&own).is_none_or(|leaf| !leaf.bytes().all(|b| b.is_ascii_lowercase()));
        let refused = subscribe.filters.iter().any(|f| Down::of(&f.path, &self.device).is_none() && is_foreign(&f.path));
        self.write(&Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes, properties: None })).await?;
        if refused {
            return close(DisconnectReasonCode::NotAuthorized, "subscribed what is not its own");
        }
        self.look_into_the_mailbox().await?;
        self.deliver().await.map_err(Into::into)
    }

    /// What lies in the database: everything that was not pushed to this very session.
    async fn look_into_the_mailbox(&mut self) -> Result<()> {
        self.desired = Some(devices::desired(self.app, &self.device).await?);
        self.commands = true;
        self.notice = true;
        // Asked at the start of a session, and not again because the device subscribes again.
        self.challenge |= !std::mem::replace(&mut self.was_asked, true);
        Ok(())
    }

    /// Sends what has come and was not sent in this session yet.
    async fn deliver(&mut self) -> Result<()> {
        self.held_back = self.in_flight.len() >= IN_FLIGHT_MAX;
        if self.subscribed.contains(&Down::Desired)
            && !self.held_back
            && let Some(desired) = self.desired.take()
            && self.sent_generation.is_none_or(|sent| sent < desired.generation)
        {
            self.sent_generation = Some(desired.generation);
            self.send(Down::Desired, &serde_json::to_vec(&desired)?).await?;
        }
        if self.subscribed.contains(&Down::Notice) && self.notice && self.in_flight.len() < IN_FLIGHT_MAX {
            self.notice = false;
            let notice = self.app.notice.load_full();
            self.send(Down::Notice, &notice).await?;
        }
        self.held_back |= self.notice && self.subscribed.contains(&Down::Notice);
        if self.subscribed.contains(&Down::Challenge) && self.challenge && self.in_flight.len() < IN_FLIGHT_MAX {
            self.challenge = false;
            if let Some((asked, challenge)) = attestation::ask(self.app, &self.device, self.heard_log.as_deref()).await? {
                self.asked = Some(asked);
                self.send(Down::Challenge, &serde_json::to_vec(&challenge)?).await?;
            }
        }
        self.held_back |= self.challenge && self.subscribed.contains(&Down::Challenge);
        if self.has_proved && self.in_flight.len() < IN_FLIGHT_MAX {
            self.has_proved = false;
            if let Some(ticket) = vault::ticket(self.app, &self.device).await? {
                self.send(Down::Secrets, &serde_json::to_vec(&ticket)?).await?;
            }
        }
        self.held_back |= self.has_proved;
        if self.subscribed.contains(&Down::Command) && self.commands {
            self.commands = false;
            for command in commands::pending(self.app, &self.device).await? {
                if self.in_flight.len() >= IN_FLIGHT_MAX {
                    self.held_back = true;
                    self.commands = true;
                    break;
                }
                if self.sent_commands.insert(command.id.clone()) {
                    self.send(Down::Command, &serde_json::to_vec(&command)?).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, kind: Down, payload: &[u8]) -> Result<()> {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Bytes::from(kind.topic(&self.device)),
            pkid: self.next_id,
            payload: Bytes::copy_from_slice(payload),
            properties: None,
        };
        self.in_flight.insert(self.next_id);
        self.write(&Packet::Publish(publish)).await
    }
}
