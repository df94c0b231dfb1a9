//! `fleeti email`: who gets e-mail about alerts.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows, when};
use fleeti_client::Client;
use fleeti_core::alert::Severity;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::FleetId;
use fleeti_core::wire::email::{AddReceiver, EmailAddress, EmailDelivery, EmailReceiver};

/// E-mail about alerts.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List receivers.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Add a receiver, which gets e-mail about alerts from now on.
    Add {
        /// Where e-mail is sent.
        address: EmailAddress,
        /// A fleet whose alerts are sent; repeat it for several. Default: all fleets and the server.
        #[arg(long = "fleet")]
        fleets: Vec<FleetId>,
        /// Lowest severity that is sent: info, warning or critical.
        #[arg(long, default_value = "warning")]
        severity: Severity,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a receiver with its e-mails.
    Remove {
        /// Receiver id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Send a receiver e-mail again. Alerts of the time between are not sent.
    Enable {
        /// Receiver id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Send a receiver no e-mail, also none that waits.
    Disable {
        /// Receiver id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Send a test e-mail to a receiver.
    Test {
        /// Receiver id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest e-mails to a receiver, with the last answers of the relay.
    Deliveries {
        /// Receiver id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let all = server.ask(Client::email_receivers)?;
            output.data(&all, |all| rows(all, "no receivers of e-mail", receiver));
        }
        Command::Add { address, fleets, severity, server } => {
            let request = AddReceiver { address, fleets, severity };
            let added = server.ask(async |c| c.add_email_receiver(&request).await)?;
            output.data(&added, receiver);
        }
        Command::Remove { id, server } => {
            server.ask(async |c| c.remove_email_receiver(&id).await)?;
            output.data(&serde_json::json!({ "removed": id }), |_| format!("removed {id}"));
        }
        Command::Enable { id, server } => {
            server.ask(async |c| c.enable_email_receiver(&id).await)?;
            output.data(&serde_json::json!({ "enabled": id }), |_| format!("enabled {id}"));
        }
        Command::Disable { id, server } => {
            server.ask(async |c| c.disable_email_receiver(&id).await)?;
            output.data(&serde_json::json!({ "disabled": id }), |_| format!("disabled {id}"));
        }
        Command::Test { id, server } => {
            server.ask(async |c| c.test_email_receiver(&id).await)?;
            output.data(&serde_json::json!({ "tested": id }), |_| {
                format!("sent a test e-mail; see `fleeti email deliveries {id}`")
            });
        }
        Command::Deliveries { id, server } => {
            let all = server.ask(async |c| c.emails(&id).await)?;
            output.data(&all, |all| rows(all, "no e-mails", delivery));
        }
    }
    Ok(())
}

fn receiver(receiver: &EmailReceiver) -> String {
    let fleets: Vec<_> = receiver.fleets.iter().map(ToString::to_string).collect();
    let fleets = if fleets.is_empty() { "all fleets".to_owned() } else { fleets.join(", ") };
    let disabled = if receiver.enabled { "" } else { "  disabled" };
    let EmailReceiver { id, address, severity, .. } = receiver;
    format!("{id}  {address}  {severity}  {fleets}{disabled}")
}

fn delivery(delivery: &EmailDelivery) -> String {
    let next = delivery.next_s.map_or_else(String::new, |s| format!("  next {}", when(s)));
    format!(
        "{}  {}  {}  attempts {}  {}  {}{next}",
        delivery.id,
        when(delivery.at_s),
        delivery.status.as_str(),
        delivery.attempts,
        Foreign::log(&delivery.subject),
        Foreign::log(&delivery.answer)
    )
}
