//! `fleeti worker`: the build workers of a server.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows, when};
use fleeti_core::id::WorkerName;
use std::path::PathBuf;

/// Build workers.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List build workers and the time at which each last asked for a build.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Add a build worker. Its token only allows taking builds.
    ///
    /// Run `fleeti-server worker --server URL --token-file FILE` on a machine that has Nix.
    Add {
        /// Name of the worker, which builds and the audit log show.
        name: WorkerName,
        /// Output file of the token (mode 0600); standard output by default.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a build worker and its token.
    Remove {
        /// Name of the worker.
        name: WorkerName,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    block_on(async {
        match command {
            Command::List { server } => {
                let workers = server.client()?.workers().await.map_err(refused)?;
                output.data(&workers, |workers| {
                    rows(workers, "no workers; add one with `fleeti worker add NAME`", line)
                });
            }
            Command::Add { name, out, server } => {
                let created = server.client()?.add_worker(&name).await.map_err(refused)?;
                match out {
                    Some(path) => {
                        super::token::write(&path, created.token.expose())?;
                        output
                            .data(&serde_json::json!({ "name": name, "token_file": path }), |_| {
                                format!("added {name}; its token is in {}", path.display())
                            });
                    }
                    None => output.data(&created, |c| c.token.expose().to_owned()),
                }
            }
            Command::Remove { name, server } => {
                let left = server.client()?.remove_worker(&name).await.map_err(refused)?;
                output.data(&left, |_| format!("removed {name}"));
            }
        }
        Ok(())
    })
}

fn line(worker: &fleeti_core::wire::worker::Worker) -> String {
    let seen = worker.seen_s.map_or_else(|| "never".to_owned(), when);
    format!("{:<24}  added {}  asked for a build {seen}", worker.name, when(worker.created_s))
}
