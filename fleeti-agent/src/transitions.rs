//! Transitions from the image's trust anchors to newer ones, as the server lists them.

use crate::anchors::take;
use crate::http::{self, read_document};
use crate::identity::Server;
use crate::{Paths, server_trust};
use anyhow::Result;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::transition::{BYTES_MAX, TRANSITIONS_MAX};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum size of a list of transitions, bytes.
pub const LIST_MAX: usize = TRANSITIONS_MAX * BYTES_MAX;

/// Fetches the server's list of transitions.
///
/// # Errors
/// If the server does not respond, or responds with something else.
pub async fn fetch(http: &reqwest::Client, https_url: &str) -> Result<Vec<SignedTransition>> {
    let response =
        http.get(format!("{https_url}/transitions.json")).timeout(PATIENCE).send().await?;
    // An older server has no transitions.
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(vec![]);
    }
    let response = response.error_for_status()?;
    read_document("transitions.json", response, LIST_MAX).await
}

/// Whether the trusted server answers at this address. Its transitions are stored.
pub async fn is_there(paths: &Paths, tls: rustls::ClientConfig, server: &Server) -> bool {
    let ask = async {
        let http = http::client(tls, server.proxy()?.as_ref())?.build()?;
        take(paths, &paths.state, &fetch(&http, &server.https_url).await?)
    };
    ask.await.inspect_err(|e| tracing::info!("{}: {e:#}", server.https_url)).is_ok()
}

/// Asks any server at the server's address for transitions from this image's trust anchors, because
/// its certificate chains to none that this device knows. The server need not be trusted:
/// transitions are signed. `true` if they lead on.
///
/// # Errors
/// If no server answers.
pub async fn ask_any_server(paths: &Paths, server: &Server) -> Result<bool> {
    let http =
        http::client(server_trust::danger::of_any_server()?, server.proxy()?.as_ref())?.build()?;
    let given = fetch(&http, &server.https_url).await?;
    take(paths, &paths.state, &given)
}
