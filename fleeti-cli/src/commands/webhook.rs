//! `fleeti webhook`: events for other programs.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows, when};
use fleeti_client::Client;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::webhook::{CreateWebhook, Delivery, EVENTS, Webhook};
use std::path::PathBuf;

/// Webhooks.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List webhooks, without their secrets.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Add a webhook, which gets events from now on.
    Add {
        /// Where events are sent, https.
        url: String,
        /// An event to send; repeat it for several. Default: alerts.raised and alerts.resolved.
        #[arg(long = "event", value_parser = EVENTS)]
        events: Vec<String>,
        /// Output file of the secret (mode 0600); standard output by default.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a webhook with its deliveries.
    Remove {
        /// Webhook id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Send a test event to a webhook.
    Test {
        /// Webhook id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest deliveries of a webhook, with their last answers.
    Deliveries {
        /// Webhook id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let all = server.ask(Client::webhooks)?;
            output.data(&all, |all| rows(all, "no webhooks", webhook));
        }
        Command::Add { url, mut events, out, server } => {
            if events.is_empty() {
                events = vec!["alerts.raised".to_owned(), "alerts.resolved".to_owned()];
            }
            let request = CreateWebhook { url, events };
            let created = server.ask(async |c| c.add_webhook(&request).await)?;
            match out {
                Some(path) => {
                    super::token::write(&path, created.secret.expose())?;
                    output.data(&created.webhook, |added| {
                        format!("added {}; its secret is in {}", added.id, path.display())
                    });
                }
                None => output.data(&created, |c| c.secret.expose().to_owned()),
            }
        }
        Command::Remove { id, server } => {
            server.ask(async |c| c.remove_webhook(&id).await)?;
            output.data(&serde_json::json!({ "removed": id }), |_| format!("removed {id}"));
        }
        Command::Test { id, server } => {
            server.ask(async |c| c.test_webhook(&id).await)?;
            output.data(&serde_json::json!({ "tested": id }), |_| {
                format!("sent a test event; see `fleeti webhook deliveries {id}`")
            });
        }
        Command::Deliveries { id, server } => {
            let all = server.ask(async |c| c.deliveries(&id).await)?;
            output.data(&all, |all| rows(all, "no deliveries", delivery));
        }
    }
    Ok(())
}

fn webhook(webhook: &Webhook) -> String {
    format!("{}  {}  {}", webhook.id, webhook.url, webhook.events.join(", "))
}

fn delivery(delivery: &Delivery) -> String {
    let next = delivery.next_s.map_or_else(String::new, |s| format!("  next {}", when(s)));
    format!(
        "{}  {}  {}  {}  attempts {}  {}{next}",
        delivery.id,
        delivery.event,
        when(delivery.at_s),
        delivery.status.as_str(),
        delivery.attempts,
        Foreign::log(&delivery.answer)
    )
}
