//! Which server a command talks to.

use super::login::Target;
use crate::output::Failure;
use fleeti_client::danger::PlainHttp;
use fleeti_client::{Client, ClientError, Pin};
use std::path::PathBuf;

/// The server and its token.
#[derive(clap::Args)]
pub struct Server {
    /// The server's API; the one of `fleeti login` by default, or http://127.0.0.1:8080.
    #[arg(long, env = "FLEETI_SERVER")]
    server: Option<String>,
    /// SHA-256 of the public key that the server must have, `sha256:...`.
    #[arg(long, env = "FLEETI_FINGERPRINT")]
    fingerprint: Option<Pin>,
    /// File with the API token, such as DIR/admin.token of the server; the token of `fleeti login`
    /// by default.
    #[arg(long, env = "FLEETI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Send the token without TLS to a server that is not on this machine: everybody on the way can
    /// read it.
    #[arg(long, env = "FLEETI_INSECURE")]
    insecure: bool,
}

impl Server {
    /// Asks the server, and waits for its answer.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let client = self.client()?;
        block_on(async { question(&client).await.map_err(refused) })
    }

    /// A client.
    pub fn client(&self) -> Result<Client, Failure> {
        let plain_http = if self.insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly };
        Target::choose(
            self.server.as_deref(),
            self.fingerprint.as_ref(),
            self.token_file.as_deref(),
        )?
        .client(plain_http)
    }
}

/// A client's error, with its hint.
pub fn refused(e: ClientError) -> Failure {
    let hint = e.hint();
    Failure::new(e, hint)
}

/// Runs a future to its end. A command is not asynchronous itself and calls this where it talks to
/// a server, never around anything that calls it again: a runtime inside a runtime panics.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::plain)?
        .block_on(future)
}
