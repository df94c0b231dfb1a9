//! The server that a command talks to.

use super::login::Target;
use super::request::{block_on, refused};
use crate::output::Failure;
use fleeti_client::danger::PlainHttp;
use fleeti_client::{Client, ClientError, Pin};
use std::path::PathBuf;

/// Options that select the server and its token.
#[derive(clap::Args)]
pub struct Server {
    /// Address of the server's API. Default: the server of `fleeti login`, else
    /// http://127.0.0.1:8080.
    #[arg(long, env = "FLEETI_SERVER")]
    server: Option<String>,
    /// SHA-256 of the server's public key, `sha256:...`; the server must have this key.
    #[arg(long, env = "FLEETI_FINGERPRINT")]
    fingerprint: Option<Pin>,
    /// File with the API token, such as the server's DIR/admin.token. Default: the token of `fleeti
    /// login`.
    #[arg(long, env = "FLEETI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Send the token without TLS to a server on another machine. Every party on the network can read
    /// it.
    #[arg(long, env = "FLEETI_INSECURE")]
    insecure: bool,
}

impl Server {
    /// Sends one request and waits for the response.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let client = self.client()?;
        block_on(async { question(&client).await.map_err(refused) })
    }

    /// A client of the server.
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
