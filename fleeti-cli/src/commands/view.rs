//! `fleeti view`: filters of devices with a name.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows};
use clap::Subcommand;
use fleeti_core::id::ViewName;
use fleeti_core::wire::labels::View;

/// What to do with saved views.
#[derive(Subcommand)]
pub enum Command {
    /// List saved views with their filters.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Save a filter of devices under a name, for all accounts.
    Save {
        /// The name.
        name: ViewName,
        /// The filter, such as "site=berlin and version<2".
        filter: String,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a saved view.
    Remove {
        /// The name.
        name: ViewName,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let views = server.ask(async |c| c.views().await)?;
            output.data(&views, |views| {
                rows(views, "no views yet; save one with `fleeti view save NAME FILTER`", shown)
            });
        }
        Command::Save { name, filter, server } => {
            let view = server.ask(async |c| c.save_view(&name, &filter).await)?;
            output.data(&view, shown);
        }
        Command::Remove { name, server } => {
            server.ask(async |c| c.remove_view(&name).await)?;
            output.data(&serde_json::json!({"view": name}), |_| format!("{name} is removed"));
        }
    }
    Ok(())
}

fn shown(view: &View) -> String {
    format!("{:<24} {}", view.name.as_str(), view.filter)
}
