//! Speaking HTTP to the server.

use anyhow::Result;
use fleeti_core::wire::HTTP_IDLE;
use rustls::ClientConfig;

/// Largest answer that is read of what is no file.
pub const RESPONSE_MAX: usize = 64 * 1024;

/// A client of the server over such TLS.
pub fn client(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls).pool_idle_timeout(HTTP_IDLE)
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
