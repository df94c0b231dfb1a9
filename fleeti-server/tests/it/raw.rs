//! MQTT as bytes: packets to send may be malformed, and responses are compared as bytes.

use crate::world::{TestDevice, World};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(60);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub struct Raw {
    stream: Box<dyn Duplex>,
    input: Vec<u8>,
}

impl Raw {
    /// TLS with a device's certificate.
    pub async fn device(world: &World, device: &TestDevice) -> Self {
        let tcp = TcpStream::connect(world.server.addresses.mqtt).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(&device.tls)).connect(name, tcp).await.unwrap();
        Self { stream: Box::new(stream), input: Vec::new() }
    }

    /// TCP only.
    pub async fn tcp(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), input: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // Some rows wait until the server has closed, so errors are ignored.
        self.stream.write_all(bytes).await.ok();
        self.stream.flush().await.ok();
    }

    /// The next whole packet; `None` when the server has closed.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let next = async {
            loop {
                if let Some(length) = whole(&self.input) {
                    let rest = self.input.split_off(length);
                    return Some(std::mem::replace(&mut self.input, rest));
                }
                if !matches!(self.stream.read_buf(&mut self.input).await, Ok(n) if n > 0) {
                    assert!(self.input.is_empty(), "half a packet: {:x?}", self.input);
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the server said nothing")
    }

    /// The next packet of a type; others are skipped.
    pub async fn next_of(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let packet = self
                .next()
                .await
                .unwrap_or_else(|| panic!("closed before a packet of type {kind}"));
            if packet[0] >> 4 == kind {
                return packet;
            }
        }
    }

    /// The next PUBLISH, parsed; it is not acknowledged.
    pub async fn message(&mut self) -> Message {
        read_publish(&self.next_of(3).await)
    }

    /// The reason of the DISCONNECT that ends the connection, or `None` when it just ends.
    pub async fn reason(&mut self) -> Option<u8> {
        loop {
            match self.next().await {
                Some(packet) if packet[0] == 0xe0 => {
                    let after = self.next().await;
                    assert_eq!(after, None, "something follows DISCONNECT");
                    return Some(packet.get(2).copied().unwrap_or(0));
                }
                Some(_) => {}
                None => return None,
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub qos: u8,
    pub is_duplicate: bool,
    pub id: u16,
    pub payload: Vec<u8>,
}

fn read_publish(packet: &[u8]) -> Message {
    let header = packet.iter().skip(1).position(|b| b & 0x80 == 0).unwrap() + 2;
    let (qos, body) = (packet[0] >> 1 & 3, &packet[header..]);
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (id, rest) = match qos {
        0 => (0, &body[topic_end..]),
        _ => (u16::from_be_bytes([body[topic_end], body[topic_end + 1]]), &body[topic_end + 2..]),
    };
    assert_eq!(rest[0], 0, "no properties");
    let topic = String::from_utf8(body[2..topic_end].to_vec()).unwrap();
    Message { topic, qos, is_duplicate: packet[0] & 8 != 0, id, payload: rest[1..].to_vec() }
}

fn whole(input: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let whole = 2 + at + length;
            return (input.len() >= whole).then_some(whole);
        }
    }
    None
}

/// A packet with its correct length.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![first];
    let mut rest = body.len();
    while rest > 0x7f {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend(body);
    out
}

/// Two bytes of length, then the bytes.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = text.as_ref();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// CONNECT with these flags, properties (with their length), and bytes after the client id.
pub fn connect_with(client_id: &str, flags: u8, properties: &[u8], behind: &[u8]) -> Vec<u8> {
    packet(
        0x10,
        &[
            &text("MQTT"),
            &[5, flags, 0, 60],
            &[u8::try_from(properties.len()).unwrap()],
            properties,
            &text(client_id),
            behind,
        ],
    )
}

/// An ordinary CONNECT.
pub fn connect(client_id: &str, clean_start: bool, session_expiry_s: u32) -> Vec<u8> {
    connect_with(
        client_id,
        u8::from(clean_start) << 1,
        &[&[0x11][..], &session_expiry_s.to_be_bytes()].concat(),
        &[],
    )
}

/// SUBSCRIBE with one filter.
pub fn subscribe(id: u16, filter: &str, options: u8) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes(), &[0], &text(filter), &[options]])
}

/// PUBLISH with these flags, and a packet identifier if its QoS needs one.
pub fn publish(
    flags: u8,
    topic: &[u8],
    id: Option<u16>,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let id = id.map_or(vec![], |id| id.to_be_bytes().to_vec());
    packet(
        0x30 | flags,
        &[&text(topic), &id, &[u8::try_from(properties.len()).unwrap()], properties, payload],
    )
}

/// PUBACK with success.
pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &[&id.to_be_bytes()])
}
