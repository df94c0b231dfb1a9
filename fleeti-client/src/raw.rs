//! Requests by path, for clients in other languages that have their own types.

use crate::{Client, ClientError, Result};
use bytes::Bytes;
use reqwest::{Body, Method, RequestBuilder};
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// Size of the pieces of a file that is uploaded, bytes.
const PIECE: usize = 256 * 1024;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Nothing,
    /// JSON.
    Json(Vec<u8>),
    /// The bytes of a file.
    File(PathBuf),
}

impl Client {
    /// Sends a request to a path of the server, such as `/api/v1/devices`, and returns the body of
    /// the response. The caller has encoded the path, and reads the body. A POST request is repeated
    /// if its connection breaks, and done once.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Path`] for a path of no resource.
    pub async fn call(&self, method: &str, path: &str, content: Content) -> Result<Bytes> {
        let wrong = || ClientError::Path(format!("{method} {path}"));
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
        // Anything else would continue the name of the host.
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let is_post = method == Method::POST;
        let request =
            self.http.request(method, format!("{}{path}", self.origin())).bearer_auth(&self.token);
        let request = match content {
            Content::Nothing => request,
            Content::Json(bytes) => request.header("content-type", "application/json").body(bytes),
            Content::File(file) => with_file(request, &file).await?,
        };
        if is_post {
            return self.post_once(request).await;
        }
        Self::bytes(Self::send(request).await?).await
    }

    /// The address of the server, without a path.
    pub(crate) fn origin(&self) -> &str {
        self.base.strip_suffix("/api/v1").unwrap_or(&self.base)
    }
}

/// A request with the bytes of a file.
pub(crate) async fn with_file(request: RequestBuilder, file: &Path) -> Result<RequestBuilder> {
    let io = |source| ClientError::Io { path: file.display().to_string(), source };
    let opened = tokio::fs::File::open(file).await.map_err(io)?;
    let size = opened.metadata().await.map_err(io)?.len();
    let body = Body::wrap_stream(ReaderStream::with_capacity(opened, PIECE));
    Ok(request.header("content-length", size).body(body))
}
