//! What the control plane needs of the ports on which devices connect. The server implements it
//! with its TLS configuration; a program without ports uses [`NoPorts`].

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use x509_cert::Certificate;

/// A server's certificate chain and key.
pub struct ServerIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

/// The addresses on which a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// API and pages.
    pub api: SocketAddr,
    /// Device port (HTTPS).
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
}

/// The ports on which devices connect.
pub trait Ports: Send + Sync {
    /// Accepts, for new connections, certificates of these intermediate CAs only, and resumes no
    /// earlier TLS session.
    ///
    /// # Errors
    /// When TLS refuses a certificate. Then nothing changes.
    fn use_issuers(&self, issuers: &[Certificate]) -> anyhow::Result<()>;

    /// Puts a new server certificate in use, for new connections.
    ///
    /// # Errors
    /// When TLS refuses the key.
    fn use_identity(&self, identity: ServerIdentity) -> anyhow::Result<()>;

    /// Expiry of the server's own certificate, Unix seconds; `None` without one.
    fn identity_ends_s(&self) -> Option<u64>;
}

/// No ports: devices cannot connect to this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPorts;

impl Ports for NoPorts {
    fn use_issuers(&self, _: &[Certificate]) -> anyhow::Result<()> {
        Ok(())
    }
    fn use_identity(&self, _: ServerIdentity) -> anyhow::Result<()> {
        Ok(())
    }
    fn identity_ends_s(&self) -> Option<u64> {
        None
    }
}
