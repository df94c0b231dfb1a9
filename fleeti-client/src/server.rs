//! The server itself: its health, its figures, and its documents.

use crate::{Client, Content, Result};

impl Client {
    async fn open_text(&self, path: &str) -> Result<String> {
        let bytes = self.call("GET", path, Content::Nothing).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
    /// Whether the server's process runs.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn livez(&self) -> Result<String> {
        self.open_text("/livez").await
    }
    /// Whether the server works: database and signing service respond.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn healthz(&self) -> Result<String> {
        self.open_text("/healthz").await
    }
    /// Whether the server takes requests, with its warnings.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn readyz(&self) -> Result<String> {
        self.open_text("/readyz").await
    }
    /// The server's figures, in the text format of Prometheus.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn metrics(&self) -> Result<String> {
        self.open_text("/metrics").await
    }
    /// The CRL of an intermediate CA (DER), by the id of its key.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn crl(&self, issuer: &str) -> Result<Vec<u8>> {
        Ok(self.call("GET", &format!("/pki/{issuer}.crl"), Content::Nothing).await?.to_vec())
    }
    /// The OpenAPI document.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn document(&self) -> Result<serde_json::Value> {
        self.get("openapi.json").await
    }
}
