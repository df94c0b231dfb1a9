//! Connections that give way to others: each gets the reason, where its protocol has a place for it.

use crate::peer::Peer;
use crate::raw::{Raw, connect};
use crate::trust::until;
use crate::world::World;
use fleeti_core::wire::problem::Problem;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(30);

/// CONNACK with 0x97, quota exceeded.
const CONNACK: [u8; 5] = [0x20, 0x03, 0x00, 0x97, 0x00];

#[actix_web::test]
async fn an_mqtt_connection_gets_the_reason_once_it_has_begun_connect() {
    let world = World::with(|c| c.limits.connections = 4).await;
    let greedy = world.enroll().await;
    let others = [world.enroll().await, world.enroll().await, world.enroll().await];
    let taken = async |count: usize| {
        until("the connections have their places", async || {
            world.server.gateway.doors.sessions.taken() == count
        })
        .await;
    };
    let whole = connect(greedy.id.as_str(), true, 0);
    let mut session = Raw::device(&world, &greedy).await;
    session.send(&whole).await;
    assert_eq!(session.next_of(2).await[3], 0);
    taken(1).await;
    let mut half = Raw::device(&world, &greedy).await;
    half.send(&whole[..8]).await;
    taken(2).await;
    let mut silent = Raw::device(&world, &greedy).await;
    taken(3).await;
    let _newest = Raw::device(&world, &greedy).await;
    taken(4).await;
    // Each of the others takes the place of the oldest one.
    let mut honest = Vec::new();
    honest.push(Peer::session(&world, &others[0]).await);
    assert_eq!(session.reason().await, Some(0x97), "DISCONNECT");
    honest.push(Peer::session(&world, &others[1]).await);
    assert_eq!(half.next().await.as_deref(), Some(&CONNACK[..]));
    assert_eq!(half.next().await, None);
    honest.push(Peer::session(&world, &others[2]).await);
    assert_eq!(silent.next().await, None, "nothing may precede CONNECT");
    for session in &mut honest {
        session.is_alive().await;
    }
    assert!(!world.client.device(&greedy.id).await.unwrap().online);
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection that has sent this.
async fn begun(to: SocketAddr, tls: Option<&TlsConnector>, bytes: &[u8]) -> Box<dyn Stream> {
    let tcp = TcpStream::connect(to).await.unwrap();
    // Otherwise the kernel may keep these bytes until the server acknowledges those before.
    tcp.set_nodelay(true).unwrap();
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            Box::new(tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap())
        }
    };
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// All that the server sends until it closes.
async fn everything(stream: &mut Box<dyn Stream>) -> String {
    let mut said = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A connection that is reset has ended as well.
    closed.expect("the server does not close").ok();
    String::from_utf8_lossy(&said).into_owned()
}

fn is_refusal(said: &str) {
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said:?}"));
    assert!(head.starts_with("HTTP/1.1 503 "), "{head:?}");
    assert!(head.contains("retry-after: 5") && head.contains("connection: close"), "{head:?}");
    let problem: Problem = serde_json::from_str(body).unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (503, "urn:fleeti:problem:unavailable"));
}

/// No whole request yet: a new connection always gets the place of the oldest.
#[actix_web::test]
async fn half_a_request_gets_503_and_no_request_gets_nothing() {
    let world = World::with(|c| (c.limits.anonymous, c.limits.api) = (2, 2)).await;
    let connector = TlsConnector::from(Arc::new(world.anonymous()));
    let at = world.server.addresses;
    let quiet = &world.server.gateway.doors.quiet;
    let mut half = begun(at.https, Some(&connector), b"GET /transitions.json HT").await;
    until("a place", async || quiet.taken() == 1).await;
    let mut silent = begun(at.https, Some(&connector), b"").await;
    until("two places", async || quiet.taken() == 2).await;
    let _third = begun(at.https, Some(&connector), b"").await;
    is_refusal(&everything(&mut half).await);
    let mut plain = begun(at.api, None, b"GET /signin HT").await;
    assert_eq!(everything(&mut silent).await, "");
    let _more = [begun(at.api, None, b"G").await, begun(at.api, None, b"G").await];
    is_refusal(&everything(&mut plain).await);
}

/// Whole heads of requests, whose bodies do not end.
#[actix_web::test]
async fn a_request_without_its_end_gets_503_when_it_gives_way() {
    let world = World::with(|c| (c.limits.anonymous, c.limits.stalled_ms) = (2, 0)).await;
    let connector = TlsConnector::from(Arc::new(world.anonymous()));
    let (to, places) = (world.server.addresses.https, &world.server.gateway.doors.anonymous);
    let head = b"POST /enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 9000\r\n\r\n{";
    let mut first = begun(to, Some(&connector), head).await;
    until("a place", async || places.taken() == 1).await;
    let _second = begun(to, Some(&connector), head).await;
    until("two places", async || places.taken() == 2).await;
    let _third = begun(to, Some(&connector), head).await;
    is_refusal(&everything(&mut first).await);
}
