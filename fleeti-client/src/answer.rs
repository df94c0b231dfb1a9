//! Answers of the server.

use crate::{Client, ClientError, Result};
use fleeti_core::strict;
use fleeti_core::wire::problem::Problem;
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Client {
    pub(crate) async fn send(request: RequestBuilder) -> Result<Response> {
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.bytes().await?;
        Err(ClientError::Refused(strict::from_slice(&bytes).unwrap_or_else(|_| Problem {
            kind: "about:blank".into(),
            status: status.as_u16(),
            detail: format!("the server answered {status}"),
            hint: None,
            errors: vec![],
        })))
    }
    /// An answer, as it is documented and in no other form.
    pub(crate) async fn read<T: DeserializeOwned + Serialize>(response: Response) -> Result<T> {
        strict::from_slice(&response.bytes().await?).map_err(ClientError::Answer)
    }
}
