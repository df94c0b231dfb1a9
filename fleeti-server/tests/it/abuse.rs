//! One client harms only itself: clients that are silent, slow, greedy or do not read, on every
//! port.

use crate::peer::Peer;
use crate::process::start_with;
use crate::rollout::publish_release;
use crate::world::{TestDevice, World, write_keys};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::mqtt::ALPN_MQTT;
use fleeti_core::wire::problem::Problem;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Maximum time that an honest client waits, beside any number of hostile ones.
const SOON: Duration = Duration::from_secs(1);
/// Timeout of a test's step.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source address of this host: the first one for all, or one for each number.
fn source(number: usize, spread: bool) -> Ipv4Addr {
    let number = u32::try_from(number).unwrap();
    if spread { Ipv4Addr::from_bits(0x7f01_0001 + number) } else { Ipv4Addr::new(127, 1, 0, 1) }
}

async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn encrypted(
    tcp: TcpStream,
    tls: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(Arc::clone(tls))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
}

fn with_alpn(tls: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Arc::new(tls)
}

/// Reads all that the server sends until it closes.
async fn everything(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut said = Vec::new();
    // A connection that is reset has ended as well.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("the server does not close")
        .ok();
    String::from_utf8_lossy(&said).into_owned()
}

/// Waits until a condition holds.
async fn until(what: impl Fn() -> bool) {
    let holds = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.expect("it does not come to hold");
}

/// An MQTT session, an HTTPS request and a page succeed, each within a second.
async fn honest_clients_are_served(world: &World, device: &TestDevice) {
    let began = Instant::now();
    Peer::session(world, device).await.is_alive().await;
    let mqtt = began.elapsed();
    let answer =
        world.https((*device.tls).clone()).get(world.url("/desired")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let https = began.elapsed() - mqtt;
    let page = reqwest::get(format!("http://{}/signin", world.server.addresses.api)).await.unwrap();
    assert_eq!(page.status(), 200);
    let took = [mqtt, https, began.elapsed() - https - mqtt];
    assert!(took.iter().all(|t| *t < SOON), "{took:?}");
}

#[actix_web::test]
async fn a_thousand_silent_connections_from_one_address_or_a_thousand_keep_nobody_waiting() {
    for spread in [false, true] {
        let world = World::new().await;
        let device = world.enroll().await;
        let at = world.server.addresses;
        let mut silent = Vec::new();
        for number in 0..1000 {
            let to = [at.mqtt, at.https, at.api][number % 3];
            silent.push(connect_from(source(number, spread), to).await);
        }
        honest_clients_are_served(&world, &device).await;
        // The first bytes of a handshake, and no more.
        for tcp in &mut silent {
            tcp.write_all(&[0x16, 0x03, 0x01]).await.ok();
        }
        honest_clients_are_served(&world, &device).await;
    }
}

#[actix_web::test]
async fn half_requests_keep_nobody_from_pages_or_enrollment() {
    for spread in [false, true] {
        let world = World::with(|c| (c.limits.api, c.limits.anonymous) = (50, 50)).await;
        let device = world.enroll().await;
        let tls = Arc::new(world.anonymous());
        let (mut plain, mut encrypted_ones) = (Vec::new(), Vec::new());
        for number in 0..100 {
            let mut tcp = connect_from(source(number, spread), world.server.addresses.api).await;
            tcp.write_all(b"GET /signin HT").await.unwrap();
            plain.push(tcp);
            let tcp = connect_from(source(number, spread), world.server.addresses.https).await;
            // A connection that has completed its handshake may already have given way to another.
            if let Ok(mut stream) = encrypted(tcp, &tls).await {
                stream.write_all(b"POST /enr").await.ok();
                encrypted_ones.push(stream);
            }
        }
        honest_clients_are_served(&world, &device).await;
        world.enroll().await;
    }
}

#[actix_web::test]
async fn who_stalls_in_a_handshake_gives_way_to_another_address() {
    let world = World::with(|c| c.limits.handshakes = 8).await;
    let device = world.enroll().await;
    let at = world.server.addresses;
    // A ClientHello, and no response to what the server sends then.
    let mut hello = Vec::new();
    let tls = Arc::new(world.anonymous());
    rustls::ClientConnection::new(tls, ServerName::try_from("localhost").unwrap())
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    let mut stalled = Vec::new();
    for number in 0..100 {
        let mut tcp = connect_from(source(0, false), [at.mqtt, at.https][number % 2]).await;
        tcp.write_all(&hello).await.unwrap();
        stalled.push(tcp);
    }
    honest_clients_are_served(&world, &device).await;
}

#[actix_web::test]
async fn a_body_that_does_not_end_gets_an_error_and_its_connection_ends() {
    let world = World::with(|c| c.limits.body_ms = 1500).await;
    let device = world.enroll().await;
    let tls = Arc::new(world.anonymous());
    let mut bodies = Vec::new();
    for number in 0..200 {
        let mut stream =
            encrypted(connect_from(source(number, true), world.server.addresses.https).await, &tls)
                .await
                .unwrap();
        stream
            .write_all(b"POST /enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{")
            .await
            .unwrap();
        bodies.push(stream);
    }
    honest_clients_are_served(&world, &device).await;
    for mut stream in bodies {
        let said = everything(&mut stream).await;
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("urn:fleeti:problem:timeout"),
            "{said:?}"
        );
    }
    until(|| world.server.gateway.doors.anonymous.taken() == 0).await;
}

#[actix_web::test]
async fn one_address_has_a_share_of_anonymous_connections_and_gets_an_error() {
    let world = World::with(|c| c.limits.anonymous_per_address = 3).await;
    let device = world.enroll().await;
    let tls = Arc::new(world.anonymous());
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream =
            encrypted(connect_from(source(0, false), world.server.addresses.https).await, &tls)
                .await
                .unwrap();
        stream
            .write_all(b"POST /enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n")
            .await
            .unwrap();
        open.push(stream);
    }
    until(|| world.server.gateway.doors.anonymous.taken() == 3).await;
    let mut refused =
        encrypted(connect_from(source(0, false), world.server.addresses.https).await, &tls)
            .await
            .unwrap();
    refused
        .write_all(b"POST /pair HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    let said = everything(&mut refused).await;
    assert!(
        said.starts_with("HTTP/1.1 429") && said.to_lowercase().contains("retry-after: 5"),
        "{said:?}"
    );
    let problem: Problem = serde_json::from_str(said.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (429, "urn:fleeti:problem:too_many"));
    honest_clients_are_served(&world, &device).await;
}

#[actix_web::test]
async fn no_port_speaks_http_2() {
    let world = World::new().await;
    let device = world.enroll().await;
    for _ in 0..20 {
        let tcp = TcpStream::connect(world.server.addresses.https).await.unwrap();
        assert!(
            encrypted(tcp, &with_alpn(&world.anonymous(), &[b"h2"])).await.is_err(),
            "no protocol in common"
        );
    }
    let tcp = TcpStream::connect(world.server.addresses.https).await.unwrap();
    let both = encrypted(tcp, &with_alpn(&world.anonymous(), &[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut plain = TcpStream::connect(world.server.addresses.api).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(everything(&mut plain).await.starts_with("HTTP/1.1 400"));
    honest_clients_are_served(&world, &device).await;
}

#[actix_web::test]
async fn a_download_that_nobody_reads_ends() {
    let world = World::with(|c| c.limits.download_ms = 500).await;
    let device = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let request = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&request).await.unwrap();
    let file = world.dir.path().join("releases/kiosk/2/raw/kiosk_2.efi");
    let file = if file.exists() { file } else { find(world.dir.path(), "kiosk_2.efi") };
    // Larger than the kernel's buffers of a connection.
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(64 << 20).unwrap();
    let mut stream =
        encrypted(TcpStream::connect(world.server.addresses.https).await.unwrap(), &device.tls)
            .await
            .unwrap();
    stream
        .write_all(b"GET /releases/kiosk/2/raw/kiosk_2.efi HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    assert_eq!(world.server.gateway.doors.downloads.taken(), 1);
    until(|| world.server.gateway.doors.downloads.taken() == 0).await;
}

fn find(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                return entry.path();
            }
        }
    }
    panic!("no {name}")
}

#[actix_web::test]
async fn a_connection_ends_that_asks_nothing_whole() {
    let world = World::with(|c| (c.limits.idle_ms, c.limits.hello_ms) = (700, 700)).await;
    let tls = Arc::new(world.anonymous());
    let whole = b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let chunked = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n";
    for begun in [&whole[..], &[&whole[..], b"GET /nothi"].concat(), &chunked[..]] {
        let tcp = TcpStream::connect(world.server.addresses.https).await.unwrap();
        let mut stream = encrypted(tcp, &tls).await.unwrap();
        stream.write_all(begun).await.unwrap();
        assert!(everything(&mut stream).await.starts_with("HTTP/1.1 404"), "{begun:?}");
    }
    for begun in [&b""[..], b"GET / HT"] {
        let mut stream = TcpStream::connect(world.server.addresses.api).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let said = everything(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said:?}");
    }
}

#[actix_web::test]
async fn five_hundred_devices_behind_one_address_come_back_at_once() {
    for spread in [false, true] {
        let world =
            World::with(|c| (c.limits.handshakes, c.limits.anonymous_per_address) = (32, 1)).await;
        let mut devices = Vec::new();
        for _ in 0..32 {
            devices.push(world.enroll().await);
        }
        let at = world.server.addresses.https;
        let ask = |number: usize| {
            let tls = Arc::clone(&devices[number % devices.len()].tls);
            tokio::spawn(async move {
                let mut stream =
                    encrypted(connect_from(source(number, spread), at).await, &tls).await.unwrap();
                stream
                    .write_all(
                        b"GET /desired HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
                    )
                    .await
                    .unwrap();
                everything(&mut stream).await
            })
        };
        let asked: Vec<_> = (0..500).map(ask).collect();
        for answer in asked {
            let said = answer.await.unwrap();
            assert!(said.starts_with("HTTP/1.1 200"), "{said:?}");
        }
    }
}

#[actix_web::test]
async fn one_device_has_a_share_of_connections_on_every_port() {
    let world =
        World::with(|c| (c.limits.downloads_per_device, c.limits.sessions_per_device) = (2, 1))
            .await;
    let (greedy, other) = (world.enroll().await, world.enroll().await);
    let ask = async |device: &TestDevice| {
        let mut stream =
            encrypted(TcpStream::connect(world.server.addresses.https).await.unwrap(), &device.tls)
                .await
                .unwrap();
        stream.write_all(b"GET /desired HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    let (first, second) = (ask(&greedy).await, ask(&greedy).await);
    assert_eq!([&first.0, &second.0], ["HTTP/1.1 200"; 2]);
    assert_eq!(ask(&greedy).await.0, "HTTP/1.1 429");
    assert_eq!(ask(&other).await.0, "HTTP/1.1 200");
    let _session = Peer::session(&world, &greedy).await;
    let again = Peer::connect_as(&world, &greedy, greedy.id.as_str(), None).await.1;
    assert_eq!(again, Some(ConnectReturnCode::QuotaExceeded));
    Peer::session(&world, &other).await.is_alive().await;
}

#[actix_web::test]
async fn mqtt_is_spoken_on_the_https_port_to_who_asks_for_it_and_has_a_certificate() {
    let world = World::new().await;
    let device = world.enroll().await;
    let at = world.server.addresses.https;
    let by_alpn = TestDevice { id: device.id.clone(), tls: with_alpn(&device.tls, &[ALPN_MQTT]) };
    Peer::session_at(at, &by_alpn).await.is_alive().await;
    let stranger =
        TestDevice { id: device.id.clone(), tls: with_alpn(&world.anonymous(), &[ALPN_MQTT]) };
    assert_eq!(
        Peer::connect_at(at, &stranger, device.id.as_str(), None).await.1,
        Some(ConnectReturnCode::NotAuthorized)
    );
    world
        .client
        .revoke_device(&device.id, fleeti_core::wire::api::RevocationReason::Unspecified)
        .await
        .unwrap();
    let tcp = TcpStream::connect(at).await.unwrap();
    let refused = match encrypted(tcp, &by_alpn.tls).await {
        // In TLS 1.3 a client learns of a refusal after its own part of the handshake.
        Ok(mut stream) => stream.read(&mut [0; 16]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "the same verifier");
}

#[actix_web::test]
async fn few_descriptors_are_shared_so_that_every_port_answers() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (roots, tls) = (world.anonymous(), Arc::new(world.anonymous()));
    let World { dir, server, .. } = world;
    server.stop().await;
    let mut process = start_with(dir.path(), "ulimit -n 300; exec \"$0\" \"$@\"");
    let mut open = Vec::new();
    for number in 0..300 {
        let tcp = connect_from(
            source(number, true),
            [process.https, process.mqtt, process.api_at()][number % 3],
        )
        .await;
        if number % 3 == 0 {
            // The server may have no place for the connection, and says so.
            if let Ok(mut stream) = encrypted(tcp, &tls).await {
                stream
                    .write_all(
                        b"POST /enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{",
                    )
                    .await
                    .ok();
                open.push((Some(stream), None));
            }
        } else {
            open.push((None, Some(tcp)));
        }
    }
    let began = Instant::now();
    Peer::session_at(process.mqtt, &device).await.is_alive().await;
    let https = reqwest::Client::builder()
        .tls_backend_preconfigured((*device.tls).clone())
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/desired", process.https.port());
    assert_eq!(https.get(url).send().await.unwrap().status(), 200);
    assert_eq!(reqwest::get(format!("{}/signin", process.api)).await.unwrap().status(), 200);
    assert!(began.elapsed() < SOON * 3, "{:?}", began.elapsed());
    drop((open, roots));
    process.child.kill().unwrap();
    process.child.wait().unwrap();
}

#[actix_web::test]
async fn a_limits_file_is_read_and_one_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    std::fs::write(dir.path().join("limits.toml"), "nameless = 1\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_fleeti-server"))
        .args(["--api", "127.0.0.1:0", "--https", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data"])
        .arg(dir.path())
        .arg("--limits")
        .arg(dir.path().join("limits.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("limits.toml") && said.contains("nameless"),
        "{said}"
    );
}
