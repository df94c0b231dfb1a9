//! Downloads over HTTPS with client certificates: a large artifact, and the manifest. Compares with
//! nginx on the same files.

use super::organisation::{Device, Organisation};
use super::process::{Peer, cpu_s, free_port, spent_s};
use super::{Record, Scale};
use crate::synthetic;
use anyhow::{Context, Result, ensure};
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::CreateRollout;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECTIONS: usize = 8;

/// Duration of the load before and during the measurement.
#[derive(Clone, Copy)]
struct Times {
    warm_up: Duration,
    measured: Duration,
}

/// Runs the scenario in a folder.
///
/// # Errors
/// If a server does not start or serve.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let size: usize = scale.pick(256 << 20, 1 << 20);
    let millis = |ms| Duration::from_millis(ms);
    let times =
        Times { warm_up: millis(scale.pick(1000, 50)), measured: millis(scale.pick(8000, 400)) };
    let mut organisation = Organisation::found(dir)?;
    let device = organisation.devices("bench", 1)?.remove(0);
    let ports = organisation.start_server()?;
    let name: ReleaseName = "kiosk@1".parse()?;
    let release = organisation.world.path("releases/1");
    synthetic::release(&release, &name, &organisation.release_key()?, size)?;
    organisation.world.fleeti(&["release", "publish", &release.display().to_string()])?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let request =
        CreateRollout { release: name.clone(), fleet: "bench".parse()?, plan: None, urgent: None };
    runtime.block_on(organisation.world.client()?.start_rollout(&request))?;
    let ours = organisation.world.server_id()?;
    let mut records =
        measure(&runtime, &device, &Target { port: ports.https, id: ours, who: "fleeti" }, times)?;

    let port = free_port()?;
    let files = organisation.peer_files()?;
    // The files are at the paths of Fleeti's server, so that the URLs are the same for both.
    let root = organisation.world.path("nginx");
    fs::create_dir_all(root.join("files/releases/kiosk"))?;
    std::os::unix::fs::symlink(&release, root.join("files/releases/kiosk/1"))?;
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 10000000; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
         fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi; open_file_cache max=100;\n\
         server {{ listen {port} ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};\n\
         ssl_client_certificate {}; ssl_verify_client on; ssl_verify_depth 3; root {root}/files; }} }}\n",
        files.certificate.display(),
        files.key.display(),
        files.authorities.display(),
        root = root.display(),
    );
    let file = root.join("nginx.conf");
    fs::write(&file, config)?;
    let arguments = ["-p", &root.display().to_string(), "-c", &file.display().to_string()];
    let nginx = Peer::start("/usr/sbin/nginx", &arguments, port, &root.join("log"))?;
    records.extend(measure(
        &runtime,
        &device,
        &Target { port, id: nginx.id(), who: "nginx" },
        times,
    )?);
    Ok(records)
}

/// A measured server.
struct Target {
    port: SocketAddr,
    /// Process id.
    id: u32,
    who: &'static str,
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    device: &Device,
    target: &Target,
    times: Times,
) -> Result<Vec<Record>> {
    let artifact = "/releases/kiosk/1/raw/kiosk_1.root";
    let files = runtime.block_on(load(device, target, artifact, times))?;
    let manifest = "/releases/kiosk/1/manifest.json";
    let manifests = runtime.block_on(load(device, target, manifest, times))?;
    let gb_per_cpu_s = files.bytes / 1e9 / files.cpu_s;
    let requests_per_cpu_s = manifests.requests / manifests.cpu_s;
    Ok(vec![
        Record::new("artifact_gb_per_cpu_s", gb_per_cpu_s, "GB/CPU-s", target.who),
        Record::new("manifest_requests_per_cpu_s", requests_per_cpu_s, "1/CPU-s", target.who),
    ])
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    stop: AtomicBool,
}

/// What a server served, and its CPU time for that.
struct Served {
    requests: f64,
    bytes: f64,
    cpu_s: f64,
}

#[allow(clippy::cast_precision_loss)]
async fn load(
    device: &Device,
    target: &Target,
    path: &'static str,
    times: Times,
) -> Result<Served> {
    let counters = Arc::new(Counters::default());
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = connect(device, target.port).await?;
        tasks.push(tokio::spawn(drive(connection, path, Arc::clone(&counters))));
    }
    tokio::time::sleep(times.warm_up).await;
    let read = || {
        (
            counters.requests.load(Ordering::Relaxed) as f64,
            counters.bytes.load(Ordering::Relaxed) as f64,
        )
    };
    let (before, cpu_before) = (read(), cpu_s(target.id)?);
    tokio::time::sleep(times.measured).await;
    let (after, cpu_after) = (read(), cpu_s(target.id)?);
    counters.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok(Served {
        requests: after.0 - before.0,
        bytes: after.1 - before.1,
        cpu_s: spent_s(cpu_before, cpu_after),
    })
}

async fn connect(device: &Device, port: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let tcp = TcpStream::connect(port).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::clone(&device.tls))
        .connect(ServerName::try_from("localhost")?, tcp)
        .await?;
    let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn drive(
    mut connection: SendRequest<Empty<Bytes>>,
    path: &'static str,
    counters: Arc<Counters>,
) -> Result<()> {
    while !counters.stop.load(Ordering::Relaxed) {
        connection.ready().await?;
        let request = Request::get(path).header("host", "localhost").body(Empty::new())?;
        let mut response = connection.send_request(request).await?;
        ensure!(response.status() == 200, "{path}: {}", response.status());
        while let Some(frame) = response.frame().await {
            let data = frame?.into_data().ok().context("trailers")?;
            counters.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if counters.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        counters.requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
