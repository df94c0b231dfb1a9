//! One TLS connection to the server, and the value that both ends derive from it (RFC 9266): a
//! certification by the TPM that contains it is not valid on another connection.

use crate::http::RESPONSE_MAX;
use crate::reach::{self, Proxy};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fleeti_core::strict;
use fleeti_core::wire::problem::Problem;
use fleeti_pki::attestation::key::{CHANNEL_BYTES, CHANNEL_LABEL};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ProtocolVersion};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Timeout for connecting, and for each response.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Channel {
    requests: SendRequest<Full<Bytes>>,
    authority: String,
    binding: Option<[u8; CHANNEL_BYTES]>,
    connection: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Channel {
    /// Connects to `https://HOST:PORT`, through a proxy if there is one.
    ///
    /// # Errors
    /// If the server is unreachable, or is not the trusted one.
    pub async fn open(url: &str, tls: ClientConfig, proxy: Option<&Proxy>) -> Result<Self> {
        let (host, port) = reach::authority(url)?;
        let authority = url.trim_start_matches("https://").to_owned();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .context("the server's host name")?;
        let connecting = async {
            let stream = reach::connect(&host, port, proxy).await?;
            TlsConnector::from(Arc::new(tls)).connect(name, stream).await.context("TLS")
        };
        let stream = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .context(Unreachable)?;
        let (_, tls) = stream.get_ref();
        let binding = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => {
                Some(tls.export_keying_material([0; CHANNEL_BYTES], CHANNEL_LABEL, None)?)
            }
            _ => None,
        };
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, authority, binding, connection })
    }

    /// The value that both ends derive from the connection.
    ///
    /// # Errors
    /// If it is not TLS 1.3: two older connections may derive the same value.
    pub fn binding(&self) -> Result<[u8; CHANNEL_BYTES]> {
        self.binding.context("the server does not use TLS 1.3, which a key in a TPM needs")
    }

    /// `POST path`; returns the response.
    ///
    /// # Errors
    /// [`Refused`] if the server refuses.
    pub async fn post<Q: Serialize, A: DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        body: &Q,
    ) -> Result<A> {
        let request = Request::post(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        let asking = async {
            self.requests.ready().await?;
            let response = self.requests.send_request(request).await?;
            let status = response.status();
            match Limited::new(response.into_body(), RESPONSE_MAX).collect().await {
                Ok(body) => anyhow::Ok((status, Some(body.to_bytes()))),
                Err(e) if e.is::<LengthLimitError>() => Ok((status, None)),
                Err(e) => bail!("the answer: {e}"),
            }
        };
        let (status, body) = tokio::time::timeout(PATIENCE, asking)
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .context(Unreachable)?;
        let Some(body) = body else {
            bail!("the server's answer to {path} has more than {RESPONSE_MAX} bytes")
        };
        if status.is_success() {
            return strict::from_slice(&body)
                .with_context(|| format!("the server's answer to {path}"));
        }
        let detail =
            strict::from_slice::<Problem>(&body).map_or_else(|_| status.to_string(), |p| p.detail);
        if status.is_client_error() {
            bail!(Refused(detail));
        }
        Err(anyhow::anyhow!(detail).context(Unreachable))
    }
}

/// The server was unreachable, or unable to respond: its decision is unknown.
#[derive(Debug, Clone, Copy)]
pub struct Unreachable;

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server does not answer")
    }
}

/// A refusal by the server.
#[derive(Debug)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}
