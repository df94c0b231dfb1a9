//! `fleeti token`: API tokens.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Output, rows, when};
use fleeti_client::Client;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{ApiToken, CreateToken, Permission};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// API tokens.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List the API tokens of the own account.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Create an API token, of the own account or of a service account.
    Add {
        /// What it is for.
        label: String,
        /// Validity in days.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
        /// A permission that the token is limited to; repeat it for several. Default: all those of
        /// its account.
        #[arg(long = "permission")]
        permissions: Vec<Permission>,
        /// The service account that it is for; the own account by default.
        #[arg(long)]
        account: Option<AccountName>,
        /// Output file of the token (mode 0600); standard output by default.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove an API token.
    Remove {
        /// Id of the token.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let all = server.ask(Client::tokens)?;
            output.data(&all, |all| {
                rows(all, "no API tokens; create one with `fleeti token add LABEL`", line)
            });
        }
        Command::Add { label, days, permissions, account, out, server } => {
            let permissions = Some(permissions).filter(|all| !all.is_empty());
            let request = CreateToken { label, valid_s: days * 86_400, permissions, account };
            let created = server.ask(async |c| c.create_token(&request).await)?;
            match out {
                Some(path) => {
                    write(&path, created.token.expose())?;
                    output.data(&created.about, |about| {
                        format!("created {}; the token is in {}", about.id, path.display())
                    });
                }
                None => output.data(&created, |c| c.token.expose().to_owned()),
            }
        }
        Command::Remove { id, server } => {
            server.ask(async |c| c.remove_token(&id).await)?;
            output.data(&serde_json::json!({ "removed": id }), |_| format!("removed {id}"));
        }
    }
    Ok(())
}

/// Writes a secret to a new file that only its owner can read.
pub(super) fn write(path: &Path, secret: &str) -> Result<(), Failure> {
    let at = |e: std::io::Error| Failure::plain(format!("{}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(at)?;
    file.write_all(format!("{secret}\n").as_bytes()).map_err(at)
}

fn line(token: &ApiToken) -> String {
    let used =
        token.used_s.map_or_else(|| "never used".to_owned(), |s| format!("used {}", when(s)));
    let limit = token.permissions.as_ref().map_or_else(String::new, |all| {
        format!("  only {}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    });
    format!("{}  {}  until {}  {used}{limit}", token.id, token.label, when(token.expires_s))
}
