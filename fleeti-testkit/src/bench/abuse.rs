//! Honest clients beside hostile ones, with default limits: silent connections, bodies that do not
//! end, HTTP/2, and one enrolled device that publishes garbage, renews and pairs in a loop. Runs
//! once with all clients at one address, and once with attackers at a thousand addresses of
//! 127.0.0.0/8.

use super::channel::Session;
use super::organisation::{Device, Organisation, Ports};
use super::pages;
use super::process::peak_kib;
use super::{Record, Scale};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fleeti_core::wire::mqtt::Up;
use fleeti_pki::csr;
use fleeti_pki::signer::{Algorithm, SoftKey};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time between two honest requests.
const PAUSE: Duration = Duration::from_millis(100);
/// An attacker that was refused at once retries after this time; otherwise the benchmark would
/// measure itself.
const AGAIN: Duration = Duration::from_millis(100);
/// Limits that the server must keep.
const RSS_MIB_MAX: f64 = 120.0;
const LOG_KIB_PER_MIN_MAX: f64 = 1024.0;

/// Number of attackers, and duration.
#[derive(Debug, Clone, Copy)]
struct Size {
    silent: usize,
    bodies: usize,
    http2: usize,
    lasts: Duration,
    p99_ms_max: f64,
}

const WHOLE: Size = Size {
    silent: 1000,
    bodies: 200,
    http2: 20,
    lasts: Duration::from_secs(60),
    p99_ms_max: 1000.0,
};
/// For a gate, on a busy machine.
const TINY: Size =
    Size { silent: 100, bodies: 20, http2: 4, lasts: Duration::from_secs(3), p99_ms_max: 3000.0 };

/// Source and target addresses of attackers.
#[derive(Clone)]
struct Target {
    https: SocketAddr,
    mqtt: SocketAddr,
    api: SocketAddr,
    spread: bool,
    anonymous: Arc<ClientConfig>,
}

impl Target {
    async fn connect(&self, number: usize, to: SocketAddr) -> Result<TcpStream> {
        let from = if self.spread {
            Ipv4Addr::from_bits(0x7f01_0001 + u32::try_from(number)?)
        } else {
            Ipv4Addr::LOCALHOST
        };
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(socket.connect(to).await?)
    }

    async fn encrypted(
        &self,
        number: usize,
        tls: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>> {
        encrypted(self.connect(number, self.https).await?, tls).await
    }
}

async fn encrypted(tcp: TcpStream, tls: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    // The server does not acknowledge the last flight of the handshake: the request follows it.
    tcp.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::clone(tls)).connect(ServerName::try_from("localhost")?, tcp).await?)
}

/// Sends a request on its own connection, and returns the status.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &str,
    body: &str,
) -> Result<u16> {
    let mut said = Vec::new();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    let request = format!("{request}content-type: application/json\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    // A peer that closes without a TLS close_notify may still have responded.
    stream.read_to_end(&mut said).await.ok();
    let text = String::from_utf8_lossy(&said);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.with_context(|| format!("{head}: no status in {text:?}"))
}

/// Runs the scenario in a folder.
///
/// # Errors
/// If an honest client is refused or fails, or a limit of this module is exceeded.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let size = scale.pick(WHOLE, TINY);
    let mut organisation = Organisation::found(dir)?;
    let devices = organisation.devices("bench", 9)?;
    let ports = organisation.start_server()?;
    let id = organisation.world.server_id()?;
    let log = organisation.world.path("server.log");
    let honest = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cookie = honest.block_on(pages::sign_in(&organisation))?;
    let api = organisation.world.api().trim_start_matches("http://").parse()?;
    let mut worst = Latencies::default();
    let mut log_kib_per_min = 0.0f64;
    for spread in [false, true] {
        let target = Target {
            https: ports.https,
            mqtt: ports.mqtt,
            api,
            spread,
            anonymous: organisation.anonymous_tls()?,
        };
        let attackers =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        attack(&attackers, &target, size, &devices[0]);
        let (before, began) = (bytes_of(&log), Instant::now());
        let measured = honest.block_on(measure(&devices[1..], ports, api, &cookie, size.lasts))?;
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        #[allow(clippy::cast_precision_loss)]
        let kib = (bytes_of(&log) - before) as f64 / 1024.0;
        log_kib_per_min = log_kib_per_min.max(kib / minutes);
        eprintln!(
            "    from {}: {measured:?}, log {:.1} KiB/min",
            if spread { "1,000 addresses" } else { "one address" },
            kib / minutes
        );
        worst = worst.worse(measured);
        attackers.shutdown_background();
    }
    let rss_mib = peak_kib(id)? / 1024.0;
    ensure!(
        worst.all().iter().all(|p99| *p99 < size.p99_ms_max),
        "honest clients wait too long: {worst:?}"
    );
    ensure!(rss_mib < RSS_MIB_MAX, "the server took {rss_mib:.1} MiB");
    ensure!(
        log_kib_per_min < LOG_KIB_PER_MIN_MAX,
        "the log grew by {log_kib_per_min:.1} KiB a minute"
    );
    Ok(vec![
        Record::new("honest_mqtt_p99_ms", worst.mqtt, "ms", "fleeti"),
        Record::new("honest_https_p99_ms", worst.https, "ms", "fleeti"),
        Record::new("honest_page_p99_ms", worst.page, "ms", "fleeti"),
        Record::new("server_rss_mib", rss_mib, "MiB", "fleeti"),
        Record::new("log_kib_per_min", log_kib_per_min.max(0.001), "KiB/min", "fleeti"),
    ])
}

fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// 99th percentiles, milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Latencies {
    mqtt: f64,
    https: f64,
    page: f64,
}

impl Latencies {
    fn all(&self) -> [f64; 3] {
        [self.mqtt, self.https, self.page]
    }
    fn worse(self, other: Self) -> Self {
        Self {
            mqtt: self.mqtt.max(other.mqtt),
            https: self.https.max(other.https),
            page: self.page.max(other.page),
        }
    }
}

fn p99(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or(f64::INFINITY)
}

/// Sends requests of honest clients, one kind after the other, until the time is over.
async fn measure(
    devices: &[Device],
    ports: Ports,
    api: SocketAddr,
    cookie: &str,
    lasts: Duration,
) -> Result<Latencies> {
    let (mut mqtt, mut https, mut page) = (Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + lasts;
    for device in devices.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let began = Instant::now();
        let session = Session::open(device, ports.mqtt, device.id.as_str())
            .await
            .context("an honest MQTT session")?;
        mqtt.push(began.elapsed().as_secs_f64() * 1000.0);
        drop(session);
        let began = Instant::now();
        let mut stream = encrypted(TcpStream::connect(ports.https).await?, &device.tls)
            .await
            .context("an honest HTTPS connection")?;
        let status = ask(&mut stream, "GET /desired", "").await?;
        ensure!(status == 200, "an honest HTTPS request: {status}");
        https.push(began.elapsed().as_secs_f64() * 1000.0);
        let began = Instant::now();
        let status = ask_for_page(api, cookie).await?;
        ensure!(status == 200, "an honest request for a page: {status}");
        page.push(began.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Latencies { mqtt: p99(&mut mqtt), https: p99(&mut https), page: p99(&mut page) })
}

async fn ask_for_page(api: SocketAddr, cookie: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(api).await?;
    let mut said = Vec::new();
    let request = format!(
        "GET /devices HTTP/1.1\r\nhost: {api}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut said).await?;
    String::from_utf8_lossy(&said)
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .context("a page without a status")
}

/// Starts every attacker; they end with their runtime.
fn attack(runtime: &tokio::runtime::Runtime, target: &Target, size: Size, greedy: &Device) {
    for number in 0..size.silent {
        let target = target.clone();
        let to = [target.mqtt, target.https, target.api][number % 3];
        runtime.spawn(again(move || {
            let target = target.clone();
            async move {
                let mut stream = target.connect(number, to).await?;
                stream.read_to_end(&mut Vec::new()).await?;
                Ok(())
            }
        }));
    }
    for number in 0..size.bodies {
        let target = target.clone();
        runtime.spawn(again(move || endless_body(target.clone(), number)));
    }
    let mut h2 = (*target.anonymous).clone();
    h2.alpn_protocols = vec![b"h2".to_vec()];
    let h2 = Arc::new(h2);
    for number in 0..size.http2 {
        let (target, h2) = (target.clone(), Arc::clone(&h2));
        runtime.spawn(again(move || {
            let (target, h2) = (target.clone(), Arc::clone(&h2));
            async move {
                // Opens as many streams as possible: the requests ask for a thousand from a server
                // that speaks HTTP/2.
                let mut stream = target.encrypted(number, &h2).await?;
                stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
                for id in (1u32..2000).step_by(2) {
                    // HEADERS of `POST /` with the static table, without END_STREAM (RFC 9113, 6.2;
                    // RFC 7541, A).
                    stream
                        .write_all(
                            &[&[0, 0, 3, 1, 4][..], &id.to_be_bytes(), &[0x83, 0x84, 0x87]]
                                .concat(),
                        )
                        .await?;
                }
                stream.read_to_end(&mut Vec::new()).await?;
                Ok(())
            }
        }));
    }
    let (target, device) = (target.clone(), greedy.clone());
    runtime.spawn({
        let (target, device) = (target.clone(), device.clone());
        again(move || garbage(target.clone(), device.clone()))
    });
    runtime.spawn({
        let (target, device) = (target.clone(), device.clone());
        again(move || renew_and_pair(target.clone(), device.clone()))
    });
}

/// Repeats the attack.
async fn again<F: Future<Output = Result<()>>>(attack: impl Fn() -> F) {
    loop {
        // Attackers expect to be refused.
        attack().await.ok();
        tokio::time::sleep(AGAIN).await;
    }
}

async fn endless_body(target: Target, number: usize) -> Result<()> {
    let mut stream = target.encrypted(number, &target.anonymous).await?;
    let head = "POST /enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(b" ").await?;
        stream.flush().await?;
        // Ends when the server responds.
        if tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 1])).await.is_ok() {
            return Ok(());
        }
    }
}

async fn garbage(target: Target, device: Device) -> Result<()> {
    let mut session = Session::open(&device, target.mqtt, device.id.as_str()).await?;
    let payload = Bytes::from_static(b"garbage\n2026-01-01T00:00:00Z ERROR forged \x1b[2J");
    loop {
        let topic = Bytes::from(Up::Report.topic(&device.id));
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            pkid: 0,
            payload: payload.clone(),
            properties: None,
        };
        session.send(&Packet::Publish(publish)).await?;
    }
}

async fn renew_and_pair(target: Target, device: Device) -> Result<()> {
    let key = SoftKey::generate(Algorithm::P256)?;
    let csr_pem = serde_json::to_string(&csr::create(&key)?)?;
    ask(
        &mut target.encrypted(0, &device.tls).await?,
        "POST /renew",
        &format!("{{\"csr_pem\":{csr_pem}}}"),
    )
    .await?;
    let pair = format!("{{\"csr_pem\":{csr_pem},\"running\":\"kiosk@1\"}}");
    ask(&mut target.encrypted(0, &target.anonymous).await?, "POST /pair", &pair).await?;
    Ok(())
}
