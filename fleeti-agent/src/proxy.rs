//! The loopback proxy, from which systemd-sysupdate downloads one verified release.
//!
//! The proxy is no trust anchor: systemd-sysupdate checks signature and digests itself. It listens
//! on an ephemeral port below a path of 256 random bits, serves only the files of one verified
//! manifest, and resumes an upstream transfer that breaks off, which systemd-sysupdate cannot do.

use crate::pace::Pace;
use anyhow::{Result, bail};
use bytes::Bytes;
use fleeti_core::manifest::Artifact;
use fleeti_core::wire::device::Progress;
use fleeti_pki::manifest::Verified;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Maximum resumptions of one file before the download fails.
pub const RESUMES_MAX: u32 = 8;
/// An upstream that sends nothing for this long is disconnected and resumed.
const STALL: Duration = Duration::from_secs(30);

/// A proxy for one release; dropping it ends it.
pub struct Proxy {
    /// The URL for systemd-sysupdate.
    pub url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    client: reqwest::Client,
    upstream: String,
    prefix: String,
    verified: Verified,
    done: AtomicU64,
    total: u64,
    pace: Option<Pace>,
}

impl Proxy {
    /// Starts a proxy for a verified release; `upstream` is the release's URL on the server. All
    /// its transfers share the pace.
    ///
    /// # Errors
    /// If no loopback port is available.
    pub async fn start(
        client: reqwest::Client,
        upstream: String,
        verified: Verified,
        pace: Option<Pace>,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let prefix = format!("/{}/", hex::encode(rand::random::<[u8; 32]>()));
        let url = format!("http://{}{prefix}", listener.local_addr()?);
        let total =
            verified.manifest().artifacts.iter().filter(|a| is_payload(a)).map(|a| a.size).sum();
        let done = AtomicU64::new(0);
        let state = Arc::new(State { client, upstream, prefix, verified, done, total, pace });
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { url, state, task })
    }

    /// Bytes served so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            done: self.state.done.load(Ordering::Relaxed).min(self.state.total),
            total: self.state.total,
        }
    }
}

/// Whether systemd-sysupdate downloads the artifact into a slot or the ESP.
fn is_payload(artifact: &Artifact) -> bool {
    let payload = [".root", ".verity", ".efi"].iter().any(|suffix| artifact.path.ends_with(suffix));
    payload && artifact.path.starts_with("raw/") && !artifact.path.ends_with("/systemd-boot.efi")
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&request, &state)) }
            });
            // A client that disconnects ends only its own connection.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn answer(request: &Request<Incoming>, state: &Arc<State>) -> Response<Body> {
    let empty = |status| {
        let mut response = Response::new(Empty::new().map_err(|e: Infallible| match e {}).boxed());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(name) = request.uri().path().strip_prefix(&state.prefix) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let Some(artifact) = state.verified.manifest().artifact(&format!("raw/{name}")) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(fetch(Arc::clone(state), artifact.clone(), sender));
    let frames =
        futures::stream::unfold(
            receiver,
            |mut r| async move { r.recv().await.map(|item| (item, r)) },
        );
    let body = StreamBody::new(frames.map(|chunk: std::io::Result<Bytes>| chunk.map(Frame::data)));
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert(hyper::header::CONTENT_LENGTH, artifact.size.into());
    response
}

/// Streams a file of the release, resuming at the byte where it broke off.
async fn fetch(
    state: Arc<State>,
    artifact: Artifact,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
) {
    let (mut at, mut resumes) = (0u64, 0u32);
    while at < artifact.size {
        let before = at;
        match fetch_from(&state, &artifact, &mut at, &sender).await {
            Ok(()) => {}
            Err(e) => {
                resumes = if at > before { 1 } else { resumes + 1 };
                tracing::warn!("{} broke off at byte {at}: {e:#}", artifact.path);
                if resumes > RESUMES_MAX || sender.is_closed() {
                    // An error in the body shows the client a failed transfer instead of a short
                    // file.
                    sender.send(Err(std::io::Error::other(e.to_string()))).await.ok();
                    return;
                }
                tokio::time::sleep(Duration::from_millis(250 << resumes.min(6))).await;
            }
        }
    }
}

async fn fetch_from(
    state: &State,
    artifact: &Artifact,
    at: &mut u64,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> Result<()> {
    let mut request = state.client.get(format!("{}/{}", state.upstream, artifact.path));
    if *at > 0 {
        request = request.header("Range", format!("bytes={at}-"));
    }
    let response = tokio::time::timeout(STALL, request.send()).await??;
    let expected = if *at > 0 { 206 } else { 200 };
    if response.status().as_u16() != expected {
        bail!("the server answered {}", response.status());
    }
    let mut stream = response.bytes_stream();
    while *at < artifact.size {
        let Some(chunk) = tokio::time::timeout(STALL, stream.next()).await? else {
            bail!("the server stopped")
        };
        let mut chunk = chunk?;
        chunk.truncate(usize::try_from(artifact.size - *at).unwrap_or(usize::MAX));
        *at += chunk.len() as u64;
        if is_payload(artifact) {
            state.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        let received = chunk.len();
        if sender.send(Ok(chunk)).await.is_err() {
            bail!("systemd-sysupdate closed the connection");
        }
        if let Some(pace) = &state.pace {
            pace.take(received).await;
        }
    }
    Ok(())
}
