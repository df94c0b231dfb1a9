//! Reads responses of the server: up to a size limit, and only in their documented form.

use crate::{Client, ClientError, Result};
use bytes::{Bytes, BytesMut};
use fleeti_core::strict;
use fleeti_core::wire::problem::Problem;
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Size limit of a response, bytes. The largest document of the API is a rollout of 100,000
/// devices, with 2.6 kB for each.
pub const ANSWER_MAX: usize = 256 << 20;
/// Size limit of an error response, bytes.
pub const PROBLEM_MAX: usize = 1 << 20;

impl Client {
    pub(crate) async fn send(request: RequestBuilder) -> Result<Response> {
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = match limited(response, PROBLEM_MAX).await {
            Ok(bytes) => strict::from_slice(&bytes).ok(),
            Err(ClientError::TooLarge(_)) => None,
            Err(e) => return Err(e),
        };
        Err(ClientError::Refused(problem.unwrap_or_else(|| Problem {
            kind: "about:blank".into(),
            status: status.as_u16(),
            detail: format!("the server answered {status}"),
            hint: None,
            errors: vec![],
        })))
    }
    /// Reads a document strictly.
    pub(crate) async fn read<T: DeserializeOwned + Serialize>(response: Response) -> Result<T> {
        strict::from_slice(&Self::bytes(response).await?).map_err(ClientError::Answer)
    }
    /// Reads a response as bytes.
    pub(crate) async fn bytes(response: Response) -> Result<Bytes> {
        limited(response, ANSWER_MAX).await
    }
    /// Reads a response as text.
    pub(crate) async fn text(response: Response) -> Result<String> {
        Ok(String::from_utf8_lossy(&Self::bytes(response).await?).into_owned())
    }
}

/// Reads at most `max` bytes of a body into memory.
async fn limited(mut response: Response, max: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    if response.content_length().is_some_and(|length| length > max as u64) {
        return Err(ClientError::TooLarge(max));
    }
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > max {
            return Err(ClientError::TooLarge(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
