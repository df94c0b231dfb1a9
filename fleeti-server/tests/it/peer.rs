//! An MQTT client that may send anything, also what no real client would.

use crate::world::{TestDevice, World};
use bytes::{Bytes, BytesMut};
use fleeti_core::wire::mqtt::Down;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, Packet,
    PingReq, Publish, Subscribe,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Peer {
    pub stream: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Peer {
    /// Connects with TLS only.
    pub async fn tls(world: &World, tls: &Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::tls_at(world.server.addresses.mqtt, tls).await
    }

    async fn tls_at(address: SocketAddr, tls: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    /// TLS and CONNECT with this client id.
    pub async fn connect_as(
        world: &World,
        device: &TestDevice,
        client_id: &str,
        will: Option<LastWill>,
    ) -> (Self, Option<ConnectReturnCode>) {
        Self::connect_at(world.server.addresses.mqtt, device, client_id, will).await
    }

    pub async fn connect_at(
        address: SocketAddr,
        device: &TestDevice,
        client_id: &str,
        will: Option<LastWill>,
    ) -> (Self, Option<ConnectReturnCode>) {
        let mut peer = Self::tls_at(address, &device.tls).await.unwrap();
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(3600);
        let connect = Connect {
            keep_alive: 30,
            client_id: client_id.to_owned(),
            clean_start: false,
            properties: Some(properties),
        };
        peer.send(&Packet::Connect(connect, will, None)).await;
        let code = match peer.receive().await {
            Some(Packet::ConnAck(ack)) => Some(ack.code),
            _ => None,
        };
        (peer, code)
    }

    /// Whether the server refuses the device a session, in the handshake or after it.
    pub async fn session_refused(world: &World, device: &TestDevice) -> bool {
        Self::connect_as(world, device, device.id.as_str(), None).await.1
            != Some(ConnectReturnCode::Success)
    }

    /// A session that is admitted and subscribed.
    pub async fn session(world: &World, device: &TestDevice) -> Self {
        Self::session_at(world.server.addresses.mqtt, device).await
    }

    /// The same, at another address.
    pub async fn session_at(address: SocketAddr, device: &TestDevice) -> Self {
        let (mut peer, code) = Self::connect_at(address, device, device.id.as_str(), None).await;
        assert_eq!(code, Some(ConnectReturnCode::Success));
        for kind in Down::ALL {
            peer.subscribe(&kind.topic(&device.id)).await;
        }
        peer
    }

    pub async fn subscribe(&mut self, filter: &str) {
        let subscribe = Subscribe {
            pkid: 7,
            filters: vec![Filter::new(filter, QoS::AtLeastOnce)],
            properties: None,
        };
        self.send(&Packet::Subscribe(subscribe)).await;
    }

    pub async fn publish(&mut self, topic: impl Into<Bytes>, payload: &[u8], id: u16) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: topic.into(),
            pkid: id,
            payload: Bytes::copy_from_slice(payload),
            properties: None,
        };
        self.send(&Packet::Publish(publish)).await;
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, None).unwrap();
        self.raw(&out).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        // Some tests wait until the server has closed, so errors are ignored.
        self.stream.write_all(bytes).await.ok();
        self.stream.flush().await.ok();
    }

    /// The next packet; `None` when the server has closed.
    pub async fn receive(&mut self) -> Option<Packet> {
        let next = async {
            loop {
                match Packet::read(&mut self.input, None) {
                    Ok(packet) => return Some(packet),
                    Err(Error::InsufficientBytes(_)) => {}
                    Err(e) => panic!("{e}"),
                }
                if !matches!(self.stream.read_buf(&mut self.input).await, Ok(n) if n > 0) {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the server said nothing")
    }

    /// The next message from the server; acknowledges it.
    pub async fn message(&mut self) -> Publish {
        loop {
            match self.receive().await {
                Some(Packet::Publish(p)) => {
                    let ack = rumqttc::v5::mqttbytes::v5::PubAck::new(p.pkid, None);
                    self.send(&Packet::PubAck(ack)).await;
                    return p;
                }
                Some(_) => {}
                None => panic!("closed"),
            }
        }
    }

    /// The reason why the server ended the session; `None` when it just closed.
    pub async fn closed(&mut self) -> Option<DisconnectReasonCode> {
        loop {
            match self.receive().await {
                Some(Packet::Disconnect(d)) => return Some(d.reason_code),
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// Checks that this session still answers.
    pub async fn is_alive(&mut self) {
        self.send(&Packet::PingReq(PingReq)).await;
        loop {
            match self.receive().await {
                Some(Packet::PingResp(_)) => return,
                Some(Packet::Publish(_) | Packet::SubAck(_)) => {}
                other => panic!("not alive: {other:?}"),
            }
        }
    }
}
