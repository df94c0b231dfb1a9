//! How a connection comes in, the same on every port: it has to say something before it costs
//! anything.
//!
//! accept -> a place among the silent, which the newest always gets -> ClientHello -> a place for a
//! handshake, shared fairly by address -> handshake -> a place of its kind: of a device by its id,
//! of everybody else by address.

use super::places::{Origin, Place, Places};
use crate::limits::{Budget, Limits};
use fleeti_core::id::DeviceId;
use fleeti_pki::certificate;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Every place that a connection may hold. One for all ports, so that none can starve another.
#[derive(Debug)]
pub struct Doors {
    /// How long the parts of a connection may take.
    pub limits: Limits,
    /// How many places there are.
    pub budget: Budget,
    silent: Arc<Places<Origin>>,
    /// HTTP connections that have not sent a whole request yet, or are refused with an answer.
    pub quiet: Arc<Places<Origin>>,
    handshakes: Arc<Places<Origin>>,
    /// HTTPS without a device certificate.
    pub anonymous: Arc<Places<Origin>>,
    /// HTTPS of devices.
    pub downloads: Arc<Places<DeviceId>>,
    /// MQTT.
    pub sessions: Arc<Places<DeviceId>>,
    /// API and pages.
    pub api: Arc<Places<Origin>>,
}

/// A connection after its handshake. It holds its place for handshakes until that is dropped.
pub struct Arrived {
    /// Encrypted.
    pub stream: TlsStream<TcpStream>,
    /// Dropped once the connection has a place of its kind.
    pub handshake: Place<Origin>,
}

/// A device by its certificate.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What the certificate names.
    pub device: DeviceId,
    /// SHA-256 of its public key.
    pub key_sha256: String,
    /// When the certificate ends, Unix seconds.
    pub not_after_s: u64,
}

impl Peer {
    /// Reads the verified certificate of a connection, if the client showed one.
    #[must_use]
    pub fn of(stream: &TlsStream<TcpStream>) -> Option<Self> {
        let leaf = certificate::from_der(stream.get_ref().1.peer_certificates()?.first()?).ok()?;
        let (device, key_sha256) =
            (certificate::device_of(&leaf).ok()?, certificate::key_sha256(&leaf).ok()?);
        Some(Self { device, key_sha256, not_after_s: certificate::not_after_s(&leaf) })
    }
}

impl Doors {
    /// With places for as many descriptors as this process may have.
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
        }
    }

    /// A connection that was just accepted. Says whether an older one has to end for it: let its
    /// task run then.
    #[must_use]
    pub fn knock(&self, address: SocketAddr) -> (Place<Origin>, bool) {
        self.silent.enter_newest(&Origin::from(address.ip()), Arc::default())
    }

    /// Reads the ClientHello, waits for a place and makes the handshake; `None` when the client
    /// does not do its part in time.
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
        Some(Arrived { stream, handshake: place })
    }
}

impl Doors {
    /// Whether a client without TLS says anything in time.
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

/// Nothing is allocated for TLS before the first byte.
async fn hello_of(stream: TcpStream) -> Option<tokio_rustls::StartHandshake<TcpStream>> {
    stream.readable().await.ok()?;
    stream.set_nodelay(true).ok();
    LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()
}
