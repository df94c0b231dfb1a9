//! HTTP requests to the server.

use crate::reach::Proxy;
use anyhow::{Context, Result};
use fleeti_core::strict;
use fleeti_core::wire::HTTP_IDLE;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum size of a response that is not a file.
pub const RESPONSE_MAX: usize = 64 * 1024;

/// A client of the server over this TLS, through a proxy if there is one.
///
/// # Errors
/// If the proxy's address is invalid.
pub fn client(tls: ClientConfig, proxy: Option<&Proxy>) -> Result<reqwest::ClientBuilder> {
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).pool_idle_timeout(HTTP_IDLE);
    Ok(match proxy {
        Some(proxy) => {
            let of_all = reqwest::Proxy::all(proxy.url())?;
            client.proxy(match &proxy.credential {
                Some(given) => of_all.basic_auth(&given.user, &given.password),
                None => of_all,
            })
        }
        None => client,
    })
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// If it is larger, or breaks off.
pub async fn read_limited(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        anyhow::ensure!(bytes.len() + chunk.len() <= max, "the response has more than {max} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a document of at most `max` bytes, and parses it strictly.
///
/// # Errors
/// As [`read_limited`]; if the document has another form. Both name the document.
pub async fn read_document<T: DeserializeOwned + Serialize>(
    name: &'static str,
    response: reqwest::Response,
    max: usize,
) -> Result<T> {
    let bytes = read_limited(response, max).await.context(name)?;
    strict::from_slice(&bytes).context(name)
}
