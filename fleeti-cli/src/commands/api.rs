//! `fleeti api`: any operation of the API, for scripts and for what has no subcommand.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::{Args, ValueEnum};
use fleeti_client::Content;
use fleeti_core::strict;
use serde_json::Value;
use std::path::PathBuf;

/// Send one request to the API and print the response.
///
/// The operations are in the server's document: `fleeti api get openapi.json`. The exit code is 1 if
/// the server refuses.
#[derive(Args)]
pub struct Api {
    /// Method.
    #[arg(value_enum, ignore_case = true)]
    method: Method,
    /// Path below /api/v1/, as in devices?limit=5, or from the root of the server, as in /metrics.
    path: String,
    /// File with the body, JSON.
    #[arg(long)]
    body: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

/// Method of a request.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

pub fn run(arguments: Api, output: &Output) -> CommandResult {
    let Api { method, path, body, server } = arguments;
    let path = if path.starts_with('/') { path } else { format!("/api/v1/{path}") };
    let content = match &body {
        None => Content::Nothing,
        Some(file) => Content::Json(super::keys::read(file)?),
    };
    let answer = server.ask(async |c| c.call(method.name(), &path, content).await)?;
    if answer.is_empty() {
        output.data(&Value::Null, |_| "done");
    } else if let Ok(document) = strict::from_slice::<Value>(&answer) {
        output.document(&document);
    } else {
        let text = std::str::from_utf8(&answer)
            .map_err(|_| Failure::new("the response is not text", Some("use curl for it")))?;
        output.data(&text, |text| Lines::of_document(text));
    }
    Ok(())
}
