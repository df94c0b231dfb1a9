//! MQTT sessions: the cost of a connect, the memory of an idle session, and the latency of a notice
//! to all devices. Compares with mosquitto and rumqttd, with the same certificates.

use super::organisation::{Device, Organisation};
use super::process::{Peer, cpu_s, free_port, resident_kib, spent_s};
use super::{Record, Scale};
use crate::synthetic;
use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::mqtt::Down;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, Filter, Packet, PubAck, Publish, Subscribe,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use rustls_pki_types::ServerName;
use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Concurrent handshakes, and unacknowledged messages of a publisher.
const AT_ONCE: usize = 16;
const WINDOW: usize = 50;
const SETTLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);
/// The device that publishes the notice to peers, which cannot do so themselves.
const PUBLISHER: &str = "bench-publisher";

/// Runs the scenario in a folder. `rumqttd` is its executable, if there is one.
///
/// # Errors
/// If a server does not start or deliver.
pub fn run(dir: &Path, rumqttd: Option<&Path>, scale: Scale) -> Result<Vec<Record>> {
    let mut organisation = Organisation::found(dir)?;
    let devices = organisation.devices("bench", scale.pick(5000, 20))?;
    let ports = organisation.start_server()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut records = Vec::new();

    let name: ReleaseName = "kiosk@1".parse()?;
    let release = organisation.world.path("releases/1");
    synthetic::release(&release, &name, &organisation.release_key()?, 4096)?;
    organisation.world.fleeti(&["release", "publish", &release.display().to_string()])?;
    let ours = organisation.world.server_id()?;
    let client = organisation.world.client()?.clone();
    let request =
        CreateRollout { release: name, fleet: "bench".parse()?, plan: None, urgent: None };
    let measured = runtime.block_on(measure(&devices, ports.mqtt, ours, async move {
        client.start_rollout(&request).await?;
        Ok(())
    }))?;
    records.extend(measured.records("fleeti"));

    let port = free_port()?;
    let folder = organisation.world.path("mosquitto");
    let config = mosquitto(&organisation, &folder, port)?;
    let peer = Peer::start(
        "/usr/sbin/mosquitto",
        &["-c", &config.display().to_string()],
        port,
        &folder.join("log"),
    )?;
    records.extend(peer_figures(&runtime, &devices, port, peer.id(), "mosquitto")?);
    drop(peer);

    if let Some(program) = rumqttd {
        let port = free_port()?;
        let folder = organisation.world.path("rumqttd");
        let config = rumqttd_config(&organisation, &folder, port)?;
        let program = program.display().to_string();
        let peer = Peer::start(
            &program,
            &["-c", &config.display().to_string()],
            port,
            &folder.join("log"),
        )?;
        records.extend(peer_figures(&runtime, &devices, port, peer.id(), "rumqttd")?);
    }
    Ok(records)
}

fn peer_figures(
    runtime: &tokio::runtime::Runtime,
    devices: &[Device],
    port: SocketAddr,
    id: u32,
    who: &'static str,
) -> Result<[Record; 5]> {
    let all = devices.to_vec();
    let measured = runtime.block_on(async {
        let publisher = Session::open(&all[0], port, PUBLISHER).await?;
        measure(devices, port, id, publish_to_all(publisher, all)).await
    })?;
    Ok(measured.records(who))
}

/// TLS with client certificates only: access rules and CRLs would cost the peers more, while
/// Fleeti's server always includes them.
fn mosquitto(organisation: &Organisation, folder: &Path, port: SocketAddr) -> Result<PathBuf> {
    let files = organisation.peer_files()?;
    fs::create_dir_all(folder)?;
    let config = format!(
        "user root\nlistener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous true\n\
         tls_version tlsv1.3\nmax_queued_messages 10000\nset_tcp_nodelay true\nconnection_messages false\nlog_type error\n",
        port.port(),
        files.authorities.display(),
        files.certificate.display(),
        files.key.display()
    );
    let path = folder.join("mosquitto.conf");
    fs::write(&path, config)?;
    Ok(path)
}

fn rumqttd_config(organisation: &Organisation, folder: &Path, port: SocketAddr) -> Result<PathBuf> {
    let files = organisation.peer_files()?;
    fs::create_dir_all(folder)?;
    let authority = organisation.world.path("public/device-ca.pem");
    let config = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 200\nmax_segment_size = 65536\nmax_segment_count = 2\n\
         [v5.1]\nname = \"v5\"\nlisten = \"{port}\"\nnext_connection_delay_ms = 0\n\
         [v5.1.tls]\ncapath = \"{}\"\ncertpath = \"{}\"\nkeypath = \"{}\"\n\
         [v5.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 65536\nmax_inflight_count = 100\n",
        authority.display(),
        files.certificate.display(),
        files.key.display()
    );
    let path = folder.join("rumqttd.toml");
    fs::write(&path, config)?;
    Ok(path)
}

struct Measured {
    connect_cpu_ms: f64,
    kib_per_device: f64,
    messages_per_s: f64,
    p99_ms: f64,
    fanout_cpu_us: f64,
}

impl Measured {
    fn records(&self, who: &'static str) -> [Record; 5] {
        [
            Record::new("connect_cpu_ms", self.connect_cpu_ms, "ms", who),
            Record::new("fanout_5k_msgs_per_s", self.messages_per_s, "1/s", who),
            Record::new("fanout_5k_p99_ms", self.p99_ms, "ms", who),
            Record::new("fanout_server_cpu_us_per_msg", self.fanout_cpu_us, "us", who),
            Record::new("kib_per_idle_device", self.kib_per_device, "KiB", who),
        ]
    }
}

/// Connects all devices, lets them idle, then sends the notice and waits until each device has it.
/// Latencies count from the start of the fan-out.
#[allow(clippy::cast_precision_loss)]
async fn measure(
    devices: &[Device],
    port: SocketAddr,
    id: u32,
    news: impl Future<Output = Result<()>>,
) -> Result<Measured> {
    let (memory, cpu) = (resident_kib(id)?, cpu_s(id)?);
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let (received, mut arrivals) = mpsc::unbounded_channel();
    let mut connecting = Vec::new();
    for device in devices {
        let permit = Arc::clone(&at_once).acquire_owned().await?;
        let (device, received) = (device.clone(), received.clone());
        connecting.push(tokio::spawn(async move {
            let mut session = Session::open(&device, port, device.id.as_str()).await?;
            session.subscribe(&Down::Desired.topic(&device.id)).await?;
            drop(permit);
            tokio::spawn(session.listen(received));
            anyhow::Ok(())
        }));
    }
    drop(received);
    for task in connecting {
        task.await??;
    }
    tokio::time::sleep(SETTLE).await;
    let connect_cpu_ms = spent_s(cpu, cpu_s(id)?) * 1000.0 / devices.len() as f64;
    let kib_per_device = (resident_kib(id)? - memory) / devices.len() as f64;
    // The desired state is sent right after the subscription, and not measured.
    while arrivals.try_recv().is_ok() {}

    let cpu_before = cpu_s(id)?;
    let started = Instant::now();
    let mut latencies = Vec::with_capacity(devices.len());
    let arrived = async {
        while latencies.len() < devices.len() {
            let at: Instant = arrivals.recv().await.context("a session ended")?;
            latencies.push(at.duration_since(started).as_secs_f64() * 1000.0);
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(news, arrived) };
    tokio::time::timeout(PATIENCE, both)
        .await
        .context("not every device received the notice")??;
    let fanout_cpu_us = spent_s(cpu_before, cpu_s(id)?) * 1e6 / devices.len() as f64;
    latencies.sort_by(f64::total_cmp);
    let last = latencies.last().copied().unwrap_or_default();
    let p99_ms = latencies[latencies.len() * 99 / 100];
    Ok(Measured {
        connect_cpu_ms,
        kib_per_device,
        messages_per_s: devices.len() as f64 * 1000.0 / last,
        p99_ms,
        fanout_cpu_us,
    })
}

async fn publish_to_all(mut publisher: Session, devices: Vec<Device>) -> Result<()> {
    // The message that Fleeti's server sends.
    let desired = DesiredState {
        generation: 1,
        release: Some("kiosk@1".parse()?),
        back: false,
        forgiven: None,
        boot_change: None,
        windows: fleeti_core::windows::Windows::default(),
        skip_windows_until_s: None,
        critical: vec!["release".into()],
    };
    let payload = Bytes::from(serde_json::to_vec(&desired)?);
    let mut waiting = HashSet::new();
    for (window, some) in devices.chunks(WINDOW).enumerate() {
        let mut out = BytesMut::new();
        for (i, device) in some.iter().enumerate() {
            let pkid = u16::try_from((window * WINDOW + i) % 60_000 + 1)?;
            waiting.insert(pkid);
            let topic = Down::Desired.topic(&device.id).into();
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic,
                pkid,
                payload: payload.clone(),
                properties: None,
            };
            Packet::Publish(publish).write(&mut out, None)?;
        }
        publisher.stream.write_all(&out).await?;
        publisher.stream.flush().await?;
        // Half a window is in flight while the next half is written.
        while waiting.len() > WINDOW / 2 {
            publisher.acknowledged(&mut waiting).await?;
        }
    }
    while !waiting.is_empty() {
        publisher.acknowledged(&mut waiting).await?;
    }
    Ok(())
}

pub(super) struct Session {
    stream: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Session {
    pub(super) async fn open(device: &Device, port: SocketAddr, client_id: &str) -> Result<Self> {
        let tcp = TcpStream::connect(port).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&device.tls))
            .connect(ServerName::try_from("localhost")?, tcp)
            .await?;
        let mut session = Self { stream, input: BytesMut::new() };
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(3600);
        let connect = Connect {
            keep_alive: 120,
            client_id: client_id.to_owned(),
            clean_start: false,
            properties: Some(properties),
        };
        session.send(&Packet::Connect(connect, None, None)).await?;
        match session.receive().await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(session),
            other => bail!("{other:?}"),
        }
    }

    pub(super) async fn subscribe(&mut self, filter: &str) -> Result<()> {
        let subscribe = Subscribe {
            pkid: 1,
            filters: vec![Filter::new(filter, QoS::AtLeastOnce)],
            properties: None,
        };
        self.send(&Packet::Subscribe(subscribe)).await?;
        let answer = self.receive().await?;
        ensure!(matches!(answer, Packet::SubAck(_)), "{answer:?}");
        Ok(())
    }

    pub(super) async fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, None)?;
        self.stream.write_all(&out).await?;
        Ok(self.stream.flush().await?)
    }

    pub(super) async fn receive(&mut self) -> Result<Packet> {
        loop {
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Ok(packet),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(e) => bail!("{e}"),
            }
            ensure!(
                self.stream.read_buf(&mut self.input).await? > 0,
                "the server closed the session"
            );
        }
    }

    async fn acknowledged(&mut self, waiting: &mut HashSet<u16>) -> Result<()> {
        if let Packet::PubAck(ack) = self.receive().await? {
            waiting.remove(&ack.pkid);
        }
        Ok(())
    }

    /// Records the arrival of a message and acknowledges it.
    async fn listen(mut self, received: mpsc::UnboundedSender<Instant>) -> Result<()> {
        loop {
            if let Packet::Publish(publish) = self.receive().await? {
                if received.send(Instant::now()).is_err() {
                    return Ok(());
                }
                self.send(&Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
            }
        }
    }
}
