//! Which server a command talks to.

use crate::output::Failure;
use fleeti_client::{Client, ClientError};
use std::path::PathBuf;

/// The server and its token.
#[derive(clap::Args)]
pub struct Server {
    /// The server's API.
    #[arg(long, env = "FLEETI_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// File with the API token, such as DIR/admin.token of the server.
    #[arg(long, env = "FLEETI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Server {
    /// A client.
    pub fn client(&self) -> Result<Client, Failure> {
        let path = self.token_file.as_ref().ok_or_else(|| {
            Failure::new("there is no API token", Some("set --token-file or FLEETI_TOKEN_FILE to the server's DIR/admin.token"))
        })?;
        let token = std::fs::read_to_string(path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
        Client::new(&self.server, token.trim()).map_err(refused)
    }
}

/// A client's error, with its hint.
pub fn refused(e: ClientError) -> Failure {
    let hint = e.hint();
    Failure::new(e, hint)
}

/// Runs one command's future.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::plain)?.block_on(future)
}
