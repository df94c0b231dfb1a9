//! How the server accepts connections, the same on every port. A client must send something before
//! it costs anything.
//!
//! accept -> a place among silent connections, which the newest always gets -> ClientHello -> a
//! place for the handshake, shared fairly by address -> handshake -> a place by kind: per device id
//! for devices, per address for other clients.

use crate::limits::{Budget, Limits};
use fleeti_control::places::{Origin, Place, Places};
use fleeti_core::id::DeviceId;
use fleeti_pki::certificate;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// All places for connections. Shared by all ports, so that none can starve another.
#[derive(Debug)]
pub struct Doors {
    /// Timeouts of the phases of a connection.
    pub limits: Limits,
    /// Numbers of places.
    pub budget: Budget,
    silent: Arc<Places<Origin>>,
    /// HTTP connections without a whole request yet, or being refused with a response.
    pub quiet: Arc<Places<Origin>>,
    handshakes: Arc<Places<Origin>>,
    /// HTTPS connections without a device certificate.
    pub anonymous: Arc<Places<Origin>>,
    /// HTTPS connections of devices.
    pub downloads: Arc<Places<DeviceId>>,
    /// MQTT connections.
    pub sessions: Arc<Places<DeviceId>>,
    /// Connections to API and pages.
    pub api: Arc<Places<Origin>>,
    /// Connections that have given way, and get a response.
    pub leaving: Semaphore,
}

/// Maximum number of connections that get a response after they have given way. They have no place
/// any more, and a client that does not read must not keep file descriptors. Others just end.
const LEAVING_MAX: usize = 32;

/// A connection after its handshake. It holds its place for handshakes until `handshake` is
/// dropped.
pub struct Arrived {
    /// The TLS stream.
    pub stream: Box<TlsStream<TcpStream>>,
    /// Dropped once the connection has a place of its kind.
    pub handshake: Place<Origin>,
}

/// The device that a certificate identifies.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The device id in the certificate.
    pub device: DeviceId,
    /// SHA-256 of its public key.
    pub key_sha256: String,
    /// Expiry of the certificate, Unix seconds.
    pub not_after_s: u64,
}

impl Peer {
    /// Reads the verified certificate of a connection, if the client sent one.
    #[must_use]
    pub fn of(stream: &TlsStream<TcpStream>) -> Option<Self> {
        let leaf = certificate::from_der(stream.get_ref().1.peer_certificates()?.first()?).ok()?;
        let (device, key_sha256) =
            (certificate::device_of(&leaf).ok()?, certificate::key_sha256(&leaf).ok()?);
        Some(Self { device, key_sha256, not_after_s: certificate::not_after_s(&leaf) })
    }
}

impl Doors {
    /// Creates places for this number of file descriptors.
    #[must_use]
    pub fn new(limits: Limits, descriptors: usize) -> Self {
        let budget = Budget::of(&limits, descriptors);
        let stalled = Duration::from_millis(limits.stalled_ms);
        Self {
            limits,
            budget,
            silent: Places::new(budget.silent, budget.silent),
            quiet: Places::new(budget.quiet, budget.quiet),
            handshakes: Places::with_queue(
                budget.handshakes,
                budget.handshakes,
                budget.waiting,
                stalled,
            ),
            anonymous: Places::with_queue(
                budget.anonymous,
                limits.anonymous_per_address,
                0,
                stalled,
            ),
            downloads: Places::new(budget.downloads, limits.downloads_per_device),
            sessions: Places::new(budget.sessions, limits.sessions_per_device),
            api: Places::with_queue(budget.api, budget.api, 0, stalled),
            leaving: Semaphore::new(LEAVING_MAX),
        }
    }

    /// Gives a place to a connection that was just accepted. Also returns whether an older one was
    /// evicted for it: then let the task of that one run.
    #[must_use]
    pub fn knock(&self, address: SocketAddr) -> (Place<Origin>, bool) {
        self.silent.enter_newest(&Origin::from(address.ip()), Arc::default())
    }

    /// Reads the ClientHello, waits for a place and does the handshake. Returns `None` if the
    /// client times out.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        silent: Place<Origin>,
        config: impl FnOnce() -> Arc<ServerConfig>,
    ) -> Option<Arrived> {
        let (hello, deadline) = (
            Duration::from_millis(self.limits.hello_ms),
            Duration::from_millis(self.limits.handshake_ms),
        );
        let start = tokio::select! {
            biased;
            start = tokio::time::timeout(hello, hello_of(stream)) => start.ok()??,
            () = silent.evicted() => return None,
        };
        let place =
            tokio::time::timeout(deadline, self.handshakes.wait(silent.key())).await.ok()??;
        drop(silent);
        let stream = tokio::select! {
            biased;
            stream = tokio::time::timeout(deadline, start.into_stream(config())) => stream.ok()?.ok()?,
            () = place.evicted() => return None,
        };
        Some(Arrived { stream: Box::new(stream), handshake: place })
    }
}

impl Doors {
    /// Whether a client without TLS sends anything in time.
    pub async fn speaks(&self, stream: &TcpStream, silent: &Place<Origin>) -> bool {
        let hello = Duration::from_millis(self.limits.hello_ms);
        let spoke = tokio::select! {
            biased;
            spoke = tokio::time::timeout(hello, stream.readable()) => matches!(spoke, Ok(Ok(()))),
            () = silent.evicted() => false,
        };
        stream.set_nodelay(true).ok();
        spoke
    }
}

/// Reads the ClientHello. Allocates nothing for TLS before the first byte.
async fn hello_of(stream: TcpStream) -> Option<tokio_rustls::StartHandshake<TcpStream>> {
    stream.readable().await.ok()?;
    stream.set_nodelay(true).ok();
    LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()
}
