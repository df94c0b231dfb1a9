//! Forwards TCP as an attacker at a server's previous address would, and detects clients that
//! refuse the server's certificate.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Length of a record header (RFC 8446, 5.1), bytes.
const HEADER: usize = 5;
const ALERT: u8 = 21;
const PROTECTED: u8 = 23;
/// Length of a protected record that is an alert: level, description, type and tag (RFC 8446, 5.2
/// and 6). Otherwise the client sends its Finished or its certificate, which are longer.
const PROTECTED_ALERT: usize = 2 + 1 + 16;

/// Forwards connections until it is stopped or dropped.
#[derive(Debug)]
pub struct Forwarder {
    task: JoinHandle<()>,
    refused: watch::Receiver<u32>,
}

impl Forwarder {
    /// Forwards from one address, host and port, to another.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(from: &str, to: &str) -> Result<Self> {
        let listener = TcpListener::bind(from).await.with_context(|| from.to_owned())?;
        let (counter, refused) = watch::channel(0);
        let to = to.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (to, counter) = (to.clone(), counter.clone());
                connections.spawn(async move { forward(client, &to, &counter).await.ok() });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { task, refused })
    }

    /// Waits until a client ends the handshake with an alert after the server's certificate.
    ///
    /// # Errors
    /// If no client does so in time.
    pub async fn is_refused(&mut self, timeout: Duration) -> Result<()> {
        let waited = tokio::time::timeout(timeout, self.refused.wait_for(|n| *n > 0)).await;
        waited.context("no client refused the server's certificate")??;
        Ok(())
    }

    /// Closes every connection and frees the address.
    pub async fn stop(mut self) {
        self.task.abort();
        // Ignore the error: the task was aborted.
        (&mut self.task).await.ok();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, to: &str, refused: &watch::Sender<u32>) -> Result<()> {
    let server = TcpStream::connect(to).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async {
        let (mut records, mut buffer) = (Records::default(), vec![0; 16 << 10]);
        loop {
            let n = from_client.read(&mut buffer).await?;
            if n == 0 {
                return to_server.shutdown().await;
            }
            if records.refuse(&buffer[..n]) {
                refused.send_modify(|n| *n += 1);
            }
            to_server.write_all(&buffer[..n]).await?;
        }
    };
    let back = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(there, back)?;
    Ok(())
}

/// Parses the records of a TLS client.
#[derive(Default)]
struct Records {
    header: Vec<u8>,
    /// Remaining bytes of the current record's content.
    content: usize,
    is_decided: bool,
}

impl Records {
    /// Whether these bytes contain an alert that refuses the handshake.
    fn refuse(&mut self, mut bytes: &[u8]) -> bool {
        while !self.is_decided && !bytes.is_empty() {
            let (_, rest) = bytes.split_at(self.content.min(bytes.len()));
            self.content -= bytes.len() - rest.len();
            let (header, rest) = rest.split_at((HEADER - self.header.len()).min(rest.len()));
            self.header.extend_from_slice(header);
            bytes = rest;
            if let [kind, _, _, high, low] = self.header[..] {
                self.header.clear();
                self.content = usize::from(u16::from_be_bytes([high, low]));
                self.is_decided = matches!(kind, ALERT | PROTECTED);
                if kind == ALERT || (kind == PROTECTED && self.content == PROTECTED_ALERT) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use fleeti_pki::certificate::{self, Period, Role};
    use fleeti_pki::signer::{Algorithm, SoftKey};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use std::sync::Arc;
    use std::time::{SystemTime, UNIX_EPOCH};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    const NEW: &str = "new.example";

    fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let role = Role::Server { names: vec![NEW.to_owned()] };
        let issued = certificate::self_signed(role, Period::starting(now_s, 3600), &key).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec());
        (CertificateDer::from(certificate::to_der(&issued).unwrap()), PrivateKeyDer::Pkcs8(key))
    }

    #[tokio::test]
    async fn only_a_client_that_refuses_the_certificate_is_counted() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (certificate, key) = identity();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config =
            config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.write_all(b"welcome").await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            }
        });
        let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let mut forwarder = Forwarder::start(&at, &server).await.unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let connector = TlsConnector::from(Arc::new(
            config.with_root_certificates(roots).with_no_client_auth(),
        ));
        let connect = async |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            connector.connect(name, TcpStream::connect(&at).await.unwrap()).await
        };

        let mut said = String::new();
        connect(NEW).await.unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!((said.as_str(), *forwarder.refused.borrow()), ("welcome", 0), "it goes on");
        assert!(connect("old.example").await.is_err());
        forwarder.is_refused(Duration::from_secs(30)).await.unwrap();
        assert_eq!(*forwarder.refused.borrow(), 1);
        forwarder.stop().await;
        TcpListener::bind(&at).await.unwrap();
    }
}
