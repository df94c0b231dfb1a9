//! Devices whose network allows only an HTTP proxy, and behind it one port.

use crate::rollout::publish_release;
use crate::trust::until;
use crate::world::World;
use fleeti_core::wire::api::CreateRollout;
use fleeti_testkit::host::{Host, Setup};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A name that only the proxy can resolve.
const NAME: &str = "fleeti.invalid";

/// A proxy that supports CONNECT and resolves one name, and connects only to the allowed ports.
#[derive(Clone)]
struct Proxy {
    url: String,
    allowed: Arc<Mutex<BTreeSet<u16>>>,
    used: Arc<Mutex<BTreeSet<u16>>>,
    refused: Arc<Mutex<BTreeSet<u16>>>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy =
            Self { url, allowed: Arc::default(), used: Arc::default(), refused: Arc::default() };
        let shared = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = shared.clone();
                tokio::spawn(async move { proxy.serve(stream).await });
            }
        });
        proxy
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut first, mut line) = (String::new(), String::new());
        stream.read_line(&mut first).await.unwrap();
        while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
            line.clear();
        }
        let target = first
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|t| t.rsplit_once(':'));
        let port =
            target.filter(|(host, _)| *host == NAME).and_then(|(_, port)| port.parse::<u16>().ok());
        let allowed = port.filter(|port| self.allowed.lock().unwrap().contains(port));
        let Some(port) = allowed else {
            self.refused.lock().unwrap().extend(port);
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.ok();
            return;
        };
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        self.used.lock().unwrap().insert(port);
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        copy_bidirectional(&mut stream, &mut server).await.ok();
    }
}

/// A device enrolls, holds a session and fetches a release, with only these ports behind the proxy.
async fn lives_behind(allowed: impl Fn(&World) -> Vec<u16>) -> (Proxy, World) {
    let proxy = Proxy::start().await;
    let url = proxy.url.clone();
    let world =
        World::with(|c| (c.names, c.device_proxy) = (vec![NAME.to_owned()], Some(url))).await;
    proxy.allowed.lock().unwrap().extend(allowed(&world));
    let record =
        world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    assert!(
        record.https_url.contains(NAME)
            && record.mqtt_address.contains(NAME)
            && record.proxy.is_some()
    );
    let home = tempfile::tempdir().unwrap();
    let running = "kiosk@1".parse().unwrap();
    let setup = Setup {
        dir: home.path().into(),
        public: world.dir.path().join("pki/public"),
        running,
        record,
        is_healthy: true,
    };
    let host = Host::new(setup).unwrap();
    let agent = tokio::spawn(async move { host.run().await });
    let device = async || world.client.devices().await.unwrap().pop();
    until("it enrolls and reports", async || {
        device().await.is_some_and(|d| d.online && d.boot.is_some())
    })
    .await;
    publish_release(&world, "kiosk@2").await;
    let request = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&request).await.unwrap();
    let moves = async || {
        device()
            .await
            .and_then(|d| d.update)
            .is_some_and(|u| !matches!(u.name(), "idle" | "failed"))
    };
    until("it fetches the release", moves).await;
    agent.abort();
    (proxy, world)
}

#[actix_web::test]
async fn a_device_behind_a_proxy_enrolls_talks_and_updates_through_it() {
    let (proxy, world) =
        lives_behind(|w| vec![w.server.addresses.https.port(), w.server.addresses.mqtt.port()])
            .await;
    let both = [world.server.addresses.https.port(), world.server.addresses.mqtt.port()];
    assert_eq!(*proxy.used.lock().unwrap(), BTreeSet::from(both));
    assert!(proxy.refused.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn one_port_is_enough_for_a_device() {
    let (proxy, world) = lives_behind(|w| vec![w.server.addresses.https.port()]).await;
    assert_eq!(*proxy.used.lock().unwrap(), BTreeSet::from([world.server.addresses.https.port()]));
    assert_eq!(
        *proxy.refused.lock().unwrap(),
        BTreeSet::from([world.server.addresses.mqtt.port()]),
        "MQTT was tried where it is usual"
    );
}
