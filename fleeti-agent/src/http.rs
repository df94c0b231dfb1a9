//! Speaking HTTP to the server.

use crate::reach::Proxy;
use anyhow::{Context, Result};
use fleeti_core::strict;
use fleeti_core::wire::HTTP_IDLE;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest answer that is read of what is no file.
pub const RESPONSE_MAX: usize = 64 * 1024;

/// A client of the server over such TLS, and through a proxy where there is one.
///
/// # Errors
/// When the proxy's address is none.
pub fn client(tls: ClientConfig, proxy: Option<&Proxy>) -> Result<reqwest::ClientBuilder> {
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).pool_idle_timeout(HTTP_IDLE);
    Ok(match proxy {
        Some(proxy) => client.proxy(reqwest::Proxy::all(proxy.url())?),
        None => client,
    })
}

/// A body of at most `max` bytes, never more of it in memory.
///
/// # Errors
/// When it is larger, or breaks off.
pub async fn read_limited(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        anyhow::ensure!(bytes.len() + chunk.len() <= max, "the answer has more than {max} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A document of at most `max` bytes, as it is documented and in no other form.
///
/// # Errors
/// As [`read_limited`]; when it is another document. Both name it.
pub async fn read_document<T: DeserializeOwned + Serialize>(
    name: &'static str,
    response: reqwest::Response,
    max: usize,
) -> Result<T> {
    let bytes = read_limited(response, max).await.context(name)?;
    strict::from_slice(&bytes).context(name)
}
