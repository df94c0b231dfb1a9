//! The MQTT session. The daemon gets messages from the server, which are acknowledged once it has
//! processed them. Messages to the server come from the outbox, one at a time, and are removed once
//! the server has acknowledged them.
//!
//! One at a time also avoids a defect of the client library: with more in flight, a packet
//! identifier can be used again before its message is acknowledged. The library then sets the new
//! publish aside, and an acknowledgement with an error never resumes it (rumqttc 0.25). Whatever
//! else may delay an acknowledgement: a session without progress is ended.

use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::outbox::{Message, Outbox};
use crate::reach::{self, Credential, Proxy};
use anyhow::{Context, Result, bail};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::{ALPN_MQTT, Down, PACKET_MAX, Up};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{Outgoing, ProxyAuth, ProxyType, TlsConfiguration, Transport};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The server stores messages for the device; the session only states that it exists.
const SESSION_EXPIRY_S: u32 = 7 * 86_400;

/// Capacity of the channel to the event loop. The loop runs in the same task, so waiting for a full
/// channel would be a deadlock: there is room for everything that the server may send at once, and
/// more ends the session.
const REQUESTS_MAX: usize = 128;

/// One message is in flight at a time. Without a limit, the client reserves memory for 65,535: 13
/// MiB.
const IN_FLIGHT_MAX: u16 = 16;

/// A message that is not acknowledged within this time ends the session; the next one sends it
/// again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(120);

/// A message from the server, and how to acknowledge it.
#[derive(Debug)]
pub struct Incoming {
    /// Its kind.
    pub kind: Down,
    /// Bytes.
    pub payload: Vec<u8>,
    /// To be sent to once the message cannot be lost any more.
    pub dealt_with: oneshot::Sender<()>,
}

/// The port for MQTT. If only one port is open, MQTT uses the HTTPS port: the server recognises it
/// by its ALPN protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Mqtt,
    Https,
}

impl Door {
    /// The port to try after this one failed.
    const fn other(self) -> Self {
        match self {
            Self::Mqtt => Self::Https,
            Self::Https => Self::Mqtt,
        }
    }
}

/// Keeps a session open until the process ends.
pub async fn run(
    identity: &Identity,
    tls: Arc<ClientConfig>,
    outbox: &Outbox,
    incoming: mpsc::Sender<Incoming>,
    is_online: watch::Sender<bool>,
) {
    let mut tls = ClientConfig::clone(&tls);
    tls.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    let tls = Arc::new(tls);
    let (mut backoff, mut door) = (Backoff::default(), Door::Mqtt);
    loop {
        let mut session = Session {
            device: &identity.device,
            outbox,
            incoming: &incoming,
            is_online: &is_online,
            acknowledged_within: ACKNOWLEDGED_WITHIN,
            connected: None,
            in_flight: None,
        };
        let result = match options(identity, Arc::clone(&tls), door) {
            Ok(options) => session.run(options).await,
            Err(e) => Err(e),
        };
        is_online.send_if_modified(|was| std::mem::replace(was, false));
        match session.connected {
            Some(at) => backoff.lived(at.elapsed()),
            None => door = door.other(),
        }
        tracing::warn!(
            "session ended: {:#}",
            result.err().unwrap_or_else(|| anyhow::anyhow!("closed"))
        );
        backoff.wait().await;
    }
}

fn options(identity: &Identity, tls: Arc<ClientConfig>, door: Door) -> Result<MqttOptions> {
    let server = &identity.server;
    let (host, port) = match door {
        Door::Mqtt => (server.mqtt_host.clone(), server.mqtt_port),
        Door::Https => reach::authority(&server.https_url)?,
    };
    let mut options = session_options(identity.device.as_str(), &host, port);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    if let Some(Proxy { host, port, credential }) = server.proxy()? {
        let auth = match credential {
            None => ProxyAuth::None,
            Some(Credential { user, password }) => ProxyAuth::Basic { username: user, password },
        };
        options.set_proxy(rumqttc::Proxy { ty: ProxyType::Http, auth, addr: host, port });
    }
    Ok(options)
}

fn session_options(device: &str, host: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(device, host, port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_start(false).set_manual_acks(true);
    options.set_max_packet_size(u32::try_from(PACKET_MAX).ok());
    options.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    options
}

/// The log text for a message that the server refused. It is acknowledged nevertheless and must not
/// be sent again (MQTT-4.4.0-2): it would be refused forever, and block everything behind it.
fn refusal(message: &Message, reason: PubAckReason) -> Option<String> {
    use PubAckReason as R;
    let why = match reason {
        R::Success | R::NoMatchingSubscribers => return None,
        R::PayloadFormatInvalid => {
            "it cannot parse it (is the server older than this agent?)".to_owned()
        }
        R::UnspecifiedError
        | R::ImplementationSpecificError
        | R::NotAuthorized
        | R::TopicNameInvalid
        | R::PacketIdentifierInUse
        | R::QuotaExceeded => format!("{reason:?}"),
    };
    let (kind, length) = (message.kind.name(), message.payload.len());
    Some(format!(
        "the server refused a message of kind {kind} ({length} bytes), which is dropped: {why}"
    ))
}

/// The message in flight.
struct InFlight {
    message: Message,
    /// Its packet identifier, once known.
    id: Option<u16>,
    until: Instant,
}

/// One connection. Each has a new client: pending messages are in the outbox only.
struct Session<'a> {
    device: &'a DeviceId,
    outbox: &'a Outbox,
    incoming: &'a mpsc::Sender<Incoming>,
    /// Whether the server has accepted the session.
    is_online: &'a watch::Sender<bool>,
    acknowledged_within: Duration,
    /// When the server accepted the session.
    connected: Option<Instant>,
    in_flight: Option<InFlight>,
}

impl Session<'_> {
    async fn run(&mut self, options: MqttOptions) -> Result<()> {
        let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
        loop {
            let until = self.in_flight.as_ref().map(|m| m.until);
            let overdue = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.poll() => self.event(event.context("MQTT")?, &client).await?,
                () = self.outbox.changed.notified(), if self.connected.is_some() => self.send_next(&client)?,
                () = overdue => bail!("the server does not acknowledge messages: no progress for {} s", self.acknowledged_within.as_secs()),
            }
        }
    }

    async fn event(&mut self, event: Event, client: &AsyncClient) -> Result<()> {
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                if ack.code != ConnectReturnCode::Success {
                    bail!("the server refused the session: {:?}", ack.code);
                }
                self.connected = Some(Instant::now());
                self.is_online.send_replace(true);
                // The server no longer accepts answers to challenges of another session.
                self.outbox.forget(Up::Evidence)?;
                let filters =
                    Down::ALL.map(|d| Filter::new(d.topic(self.device), QoS::AtLeastOnce));
                client.try_subscribe_many(filters)?;
                self.send_next(client)?;
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if let Some(kind) = Down::of(&topic, self.device) {
                    let (dealt_with, wait) = oneshot::channel();
                    self.incoming
                        .send(Incoming { kind, payload: publish.payload.to_vec(), dealt_with })
                        .await?;
                    wait.await.context("the daemon ended")?;
                }
                client.try_ack(&publish)?;
            }
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(in_flight) = &mut self.in_flight {
                    in_flight.id = Some(id);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(in_flight) = self.in_flight.take_if(|m| m.id == Some(ack.pkid)) {
                    if let Some(refused) = refusal(&in_flight.message, ack.reason) {
                        tracing::warn!("{refused}");
                    }
                    self.outbox.done(&in_flight.message);
                    self.send_next(client)?;
                }
            }
            Event::Incoming(Packet::Disconnect(d)) => {
                bail!("the server closed the session: {:?}", d.reason_code)
            }
            _ => {}
        }
        Ok(())
    }

    fn send_next(&mut self, client: &AsyncClient) -> Result<()> {
        if self.in_flight.is_some() {
            return Ok(());
        }
        let Some(message) = self.outbox.first()? else { return Ok(()) };
        let topic = message.kind.topic(self.device);
        let payload = message.payload.clone();
        self.in_flight =
            Some(InFlight { message, id: None, until: Instant::now() + self.acknowledged_within });
        client.try_publish(topic, QoS::AtLeastOnce, false, payload)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::wire::packet::{self, Reason, write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Answers a client until it closes: the first `acknowledged` messages with a reason, the
    /// others not at all. Returns the payloads.
    async fn broker(mut stream: TcpStream, acknowledged: usize, reason: Reason) -> Vec<Vec<u8>> {
        let (mut input, mut seen) = (Vec::new(), Vec::new());
        loop {
            while let Some(length) = packet::frame(&input, PACKET_MAX).unwrap() {
                let rest = input.split_off(length);
                let answer = match packet::read(&input).unwrap() {
                    packet::Packet::Connect(_) => write::connack(&write::Announced {
                        session_present: false,
                        receive_max: 16,
                        packet_max: 65_536,
                        keep_alive_s: None,
                        session_expiry_s: None,
                    }),
                    packet::Packet::Subscribe(s) => {
                        write::suback(s.id, &[Reason::GrantedQos1; Down::ALL.len()])
                    }
                    packet::Packet::Publish(p) => {
                        seen.push(p.payload.to_vec());
                        if seen.len() > acknowledged { vec![] } else { write::puback(p.id, reason) }
                    }
                    packet::Packet::PingReq => write::pingresp(),
                    other => panic!("{other:?}"),
                };
                input = rest;
                stream.write_all(&answer).await.unwrap();
            }
            if !matches!(stream.read_buf(&mut input).await, Ok(n) if n > 0) {
                return seen;
            }
        }
    }

    async fn converse(
        outbox: &Outbox,
        acknowledged: usize,
        reason: Reason,
    ) -> (String, Vec<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            broker(listener.accept().await.unwrap().0, acknowledged, reason).await
        });
        let device: DeviceId = "dev-a".parse().unwrap();
        let (sender, _receiver) = mpsc::channel(8);
        let mut session = Session {
            device: &device,
            outbox,
            incoming: &sender,
            is_online: &watch::channel(false).0,
            acknowledged_within: Duration::from_millis(500),
            connected: None,
            in_flight: None,
        };
        let ended = session.run(session_options("dev-a", "127.0.0.1", port)).await.unwrap_err();
        assert!(session.connected.is_some());
        (format!("{ended:#}"), server.await.unwrap())
    }

    #[tokio::test]
    async fn refused_messages_strand_none_behind_them_and_a_silent_server_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        // Identifiers are used several times, and each message is answered with an error.
        let count = 5 * usize::from(IN_FLIGHT_MAX) + 3;
        for n in 0..count {
            outbox.push(Up::Acknowledgement, n.to_string().as_bytes()).unwrap();
        }
        let (ended, seen) = converse(&outbox, count - 1, Reason::PayloadFormatInvalid).await;
        assert_eq!(seen, (0..count).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
        assert!(ended.contains("does not acknowledge"), "{ended}");
        // The next session starts with the message that was not acknowledged.
        let (_, seen) = converse(&outbox, 0, Reason::Success).await;
        assert_eq!(seen, [(count - 1).to_string().into_bytes()]);
    }
    /// With every error code (MQTT 5, 3.4.2.1) that the server uses.
    #[tokio::test]
    async fn a_refused_message_is_dropped_and_not_sent_by_the_next_session() {
        for reason in [
            Reason::UnspecifiedError,
            Reason::NotAuthorized,
            Reason::QuotaExceeded,
            Reason::PayloadFormatInvalid,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let outbox = Outbox::open(dir.path()).unwrap();
            outbox.push(Up::Report, b"refused").unwrap();
            outbox.push(Up::Acknowledgement, b"unanswered").unwrap();
            let (_, seen) = converse(&outbox, 1, reason).await;
            assert_eq!(seen, [&b"refused"[..], b"unanswered"], "{reason:?}");
            let (_, seen) = converse(&outbox, 0, Reason::Success).await;
            assert_eq!(seen, [&b"unanswered"[..]], "{reason:?}");
        }
    }

    #[test]
    fn a_refusal_is_logged_with_its_reason_and_an_acknowledgement_is_not() {
        use PubAckReason as R;
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.push(Up::Telemetry, b"12345").unwrap();
        let message = outbox.first().unwrap().unwrap();
        assert_eq!(refusal(&message, R::Success), None);
        assert_eq!(refusal(&message, R::NoMatchingSubscribers), None, "0x10 is no error");
        let said = refusal(&message, R::PayloadFormatInvalid).unwrap();
        let expected = "the server refused a message of kind telemetry (5 bytes), which is dropped: it cannot parse it";
        assert!(said.starts_with(expected), "{said}");
        assert!(refusal(&message, R::QuotaExceeded).unwrap().ends_with("dropped: QuotaExceeded"));
    }
}
