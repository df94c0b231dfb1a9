//! The MQTT session: what comes down goes to the daemon and is acknowledged when it was dealt with; what goes
//! up comes from the outbox, one message at a time, and leaves it when the server has acknowledged it.

use crate::attestation;
use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::outbox::{Message, Outbox};
use anyhow::{Context, Result, bail};
use fleeti_core::wire::mqtt::{Down, PACKET_MAX, Up};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The server keeps the mailbox; the session only says that there is one.
const SESSION_EXPIRY_S: u32 = 7 * 86_400;

/// Requests that wait for the event loop. It runs in this very task, so a full channel would wait for itself: there
/// is room for everything that the server may send at once, and what does not fit ends the session.
const REQUESTS_MAX: usize = 128;

/// One message is on its way at a time. Without a limit the client keeps room for 65,535 of them: 13 MiB.
const IN_FLIGHT_MAX: u16 = 16;

/// A message from the server, and how to say that it was dealt with.
#[derive(Debug)]
pub struct Incoming {
    /// What it is.
    pub kind: Down,
    /// Bytes.
    pub payload: Vec<u8>,
    /// To be sent to once the message cannot be lost any more.
    pub dealt_with: oneshot::Sender<()>,
}

/// Keeps a session until the process ends.
pub async fn run(identity: &Identity, tls: Arc<ClientConfig>, outbox: &Outbox, changed: &Notify, incoming: mpsc::Sender<Incoming>) {
    let mut backoff = Backoff::default();
    loop {
        let mut connected = false;
        let result = session(identity, Arc::clone(&tls), outbox, changed, &incoming, &mut connected).await;
        if connected {
            backoff.reset();
        }
        tracing::warn!("session ended: {:#}", result.err().unwrap_or_else(|| anyhow::anyhow!("closed")));
        backoff.wait().await;
    }
}

fn up(leaf: &str) -> Up {
    match leaf {
        "ack" => Up::Acknowledgement,
        "telemetry" => Up::Telemetry,
        attestation::LEAF => Up::Evidence,
        _ => Up::Report,
    }
}

async fn session(
    identity: &Identity,
    tls: Arc<ClientConfig>,
    outbox: &Outbox,
    changed: &Notify,
    incoming: &mpsc::Sender<Incoming>,
    connected: &mut bool,
) -> Result<()> {
    let mut options = MqttOptions::new(identity.device.as_str(), identity.server.mqtt_host.clone(), identity.server.mqtt_port);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    options.set_keep_alive(KEEP_ALIVE).set_clean_start(false).set_manual_acks(true);
    options.set_max_packet_size(u32::try_from(PACKET_MAX).ok());
    options.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    // A new client for every connection: what waits lies in the outbox and nowhere else.
    let mut in_flight: Option<(Message, Option<u16>)> = None;
    loop {
        tokio::select! {
            event = events.poll() => match event.context("MQTT")? {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    if ack.code != ConnectReturnCode::Success {
                        bail!("the server refused the session: {:?}", ack.code);
                    }
                    *connected = true;
                    // What answers a question of another session is nobody's any more.
                    outbox.forget(attestation::LEAF)?;
                    let filters = Down::ALL.map(|d| Filter::new(d.topic(&identity.device), QoS::AtLeastOnce));
                    client.try_subscribe_many(filters)?;
                    send_next(identity, &client, outbox, &mut in_flight)?;
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    if let Some(kind) = Down::of(&topic, &identity.device) {
                        let (dealt_with, wait) = oneshot::channel();
                        incoming.send(Incoming { kind, payload: publish.payload.to_vec(), dealt_with }).await?;
                        wait.await.context("the daemon ended")?;
                    }
                    client.try_ack(&publish)?;
                }
                Event::Outgoing(Outgoing::Publish(id)) => {
                    if let Some((_, packet)) = &mut in_flight { *packet = Some(id); }
                }
                Event::Incoming(Packet::PubAck(ack)) => {
                    if let Some((message, _)) = in_flight.take_if(|(_, id)| *id == Some(ack.pkid)) {
                        outbox.done(&message);
                        send_next(identity, &client, outbox, &mut in_flight)?;
                    }
                }
                Event::Incoming(Packet::Disconnect(d)) => bail!("the server closed the session: {:?}", d.reason_code),
                _ => {}
            },
            () = changed.notified(), if *connected => send_next(identity, &client, outbox, &mut in_flight)?,
        }
    }
}

fn send_next(identity: &Identity, client: &AsyncClient, outbox: &Outbox, in_flight: &mut Option<(Message, Option<u16>)>) -> Result<()> {
    if in_flight.is_some() {
        return Ok(());
    }
    let Some(message) = outbox.first()? else { return Ok(()) };
    let topic = up(&message.leaf).topic(&identity.device);
    let payload = message.payload.clone();
    *in_flight = Some((message, None));
    client.try_publish(topic, QoS::AtLeastOnce, false, payload)?;
    Ok(())
}
