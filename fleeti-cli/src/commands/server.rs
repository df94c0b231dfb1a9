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
    /// A name for what this command does, for scripts: if it is run again with the same key within 24
    /// hours, the server does nothing twice, and answers as before.
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
}

/// Leaves room for the number of a second request.
fn idempotency_key(text: &str) -> Result<String, String> {
    let is_good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    if (1..=100).contains(&text.len()) && text.bytes().all(is_good) {
        return Ok(text.to_owned());
    }
    let form = "1 to 100 ASCII characters without spaces, quotation marks and backslashes";
    Err(format!("a key has {form}"))
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
        let target = Target::choose(
            self.server.as_deref(),
            self.fingerprint.as_ref(),
            self.token_file.as_deref(),
        )?;
        let client = target.client(plain_http)?;
        Ok(match &self.idempotency_key {
            Some(key) => client.with_idempotency_key(key),
            None => client,
        })
    }
}
