//! Answers of the server: no more of them than a limit, and in no form but the documented one.

use crate::{Client, ClientError, Result};
use bytes::{Bytes, BytesMut};
use fleeti_core::strict;
use fleeti_core::wire::problem::Problem;
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest answer, bytes. A rollout of 100,000 devices is the largest document of the API: each
/// device has room for 2.6 kB.
pub const ANSWER_MAX: usize = 256 << 20;
/// Largest answer that says why a request was refused, bytes.
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
    /// A document, as it is documented and in no other form.
    pub(crate) async fn read<T: DeserializeOwned + Serialize>(response: Response) -> Result<T> {
        strict::from_slice(&Self::bytes(response).await?).map_err(ClientError::Answer)
    }
    /// Bytes that this client does not read.
    pub(crate) async fn bytes(response: Response) -> Result<Bytes> {
        limited(response, ANSWER_MAX).await
    }
    /// Text that this client does not read.
    pub(crate) async fn text(response: Response) -> Result<String> {
        Ok(String::from_utf8_lossy(&Self::bytes(response).await?).into_owned())
    }
}

/// A body of at most `max` bytes, never more of it in memory.
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
