//! `fleeti approval`: acts that need a second person.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use fleeti_client::Client;
use fleeti_core::id::FleetId;
use fleeti_core::wire::approval::{
    Approval, ApprovalDetails, ApprovalPolicy, AskedAct, RequestApproval,
};
use std::path::PathBuf;

/// Acts that need a second person.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List acts that wait for a second person, and then the newest that waited.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show an act with exactly what the server performs, and whether you may approve it.
    Show {
        /// Id of the act, as in `fleeti approval list`.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Request the approval of an act. `--ask` of `rollout start`, `device change-all` and
    /// `device recovery-key` does the same.
    Request {
        /// File with the act as JSON, such as {"type": "pin_fleet", "fleet": "shop", "request": {...}}.
        file: PathBuf,
        /// Why, for the second person.
        #[arg(long)]
        reason: String,
        /// Hours within which it is approved.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
        #[command(flatten)]
        server: Server,
    },
    /// Approve an act as a second person. The server then performs it.
    Approve(Decision),
    /// Deny an act as a second person, or withdraw your own.
    Deny(Decision),
    /// Show the recovery key of an approved act that you requested. The server shows it once.
    Collect {
        /// Id of the act.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Show which acts need a second person.
    Policy {
        #[command(flatten)]
        server: Server,
    },
    /// Set which acts need a second person: those that are named here and no others. Where any act
    /// does already, this one does as well.
    SetPolicy {
        /// Number of devices that an account revokes within an hour without a second person.
        #[arg(long, value_name = "DEVICES", value_parser = clap::value_parser!(u32).range(0..=1000))]
        revoked_max: Option<u32>,
        /// A fleet to which rollouts need a second person; repeat it for several.
        #[arg(long = "rollout-fleet", value_name = "FLEET")]
        rollout_fleets: Vec<FleetId>,
        /// Recovery keys need a second person.
        #[arg(long)]
        recovery_keys: bool,
        /// Urgent rollouts need a second person.
        #[arg(long)]
        urgent_rollouts: bool,
        /// Floors and blocked ways of releases need a second person.
        #[arg(long)]
        release_paths: bool,
        /// Why, for the second person, if this act needs one.
        #[arg(long, value_name = "REASON")]
        ask: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

/// What a second person decides.
#[derive(clap::Args)]
pub struct Decision {
    /// Id of the act, as in `fleeti approval list`.
    id: String,
    /// A note for the audit log.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    server: Server,
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let all = server.ask(Client::approvals)?;
            output.data(&all, |all| rows(all, "no act waits for a second person", line));
        }
        Command::Show { id, server } => {
            output.data(&server.ask(async |c| c.approval(&id).await)?, details);
        }
        Command::Request { file, reason, hours, server } => {
            let request =
                RequestApproval { act: read(&file)?, reason, valid_s: Some(hours * 3600) };
            output.data(&server.ask(async |c| c.request_approval(&request).await)?, waits);
        }
        Command::Approve(Decision { id, note, server }) => {
            output.data(&server.ask(async |c| c.approve_act(&id, &note).await)?, line);
        }
        Command::Deny(Decision { id, note, server }) => {
            output.data(&server.ask(async |c| c.deny_act(&id, &note).await)?, line);
        }
        Command::Collect { id, server } => {
            let key = server.ask(async |c| c.collect_recovery_key(&id).await)?;
            output.data(&serde_json::json!({ "recovery_key": key }), |_| key.expose().to_owned());
        }
        Command::Policy { server } => output.data(&server.ask(Client::approval_policy)?, policy),
        Command::SetPolicy {
            revoked_max,
            rollout_fleets,
            recovery_keys,
            urgent_rollouts,
            release_paths,
            ask,
            server,
        } => {
            let wanted = ApprovalPolicy {
                revoked_max,
                rollout_fleets,
                recovery_keys,
                urgent_rollouts,
                release_paths,
            };
            if let Some(reason) = ask {
                return request(AskedAct::SetPolicy { policy: wanted }, reason, &server, output);
            }
            output.data(&server.ask(async |c| c.set_approval_policy(&wanted).await)?, policy);
        }
    }
    Ok(())
}

/// Requests the approval of a second person instead of the act itself.
pub fn request(act: AskedAct, reason: String, server: &Server, output: &Output) -> CommandResult {
    let request = RequestApproval { act, reason, valid_s: None };
    output.data(&server.ask(async |c| c.request_approval(&request).await)?, waits);
    Ok(())
}

fn read(path: &std::path::Path) -> Result<AskedAct, Failure> {
    let at = |e: String| Failure::plain(format!("{}: {e}", path.display()));
    let text = std::fs::read(path).map_err(|e| at(e.to_string()))?;
    fleeti_core::strict::from_slice(&text).map_err(|e| at(e.to_string()))
}

fn waits(of: &Approval) -> Lines {
    vec![line(of), format!("another person runs `fleeti approval approve {}`", of.id)].into()
}

fn line(of: &Approval) -> String {
    let Approval { id, state, act, requester, .. } = of;
    let by = of.decided_by.as_ref().map_or_else(String::new, |by| format!(", decided by {by}"));
    let outcome = if of.outcome.is_empty() { String::new() } else { format!(": {}", of.outcome) };
    format!("{id}  {state:<9}  {act}, requested by {requester}{by}{outcome}")
}

fn details(of: &ApprovalDetails) -> Lines {
    let mut lines = vec![
        line(&of.approval),
        format!(
            "requested  {} by {} ({})",
            when(of.approval.requested_s),
            of.approval.requester,
            of.approval.via
        ),
        format!("reason     {}", of.approval.reason),
        format!("expires    {}", when(of.approval.expires_s)),
        format!("act        {}", serde_json::to_string(&of.act).unwrap_or_default()),
    ];
    lines.push(match &of.why_not {
        None => "you may approve it".to_owned(),
        Some(why) => format!("you may not approve it: {why}"),
    });
    lines.into()
}

fn policy(policy: &ApprovalPolicy) -> Lines {
    if policy.is_empty() {
        return Lines::from("no act needs a second person".to_owned());
    }
    let mut lines = Vec::new();
    if let Some(max) = policy.revoked_max {
        lines.push(format!("more than {max} revoked devices within an hour"));
    }
    lines.extend(policy.rollout_fleets.iter().map(|fleet| format!("rollouts to {fleet}")));
    if policy.recovery_keys {
        lines.push("recovery keys".to_owned());
    }
    if policy.urgent_rollouts {
        lines.push("urgent rollouts".to_owned());
    }
    if policy.release_paths {
        lines.push("floors and blocked ways of releases".to_owned());
    }
    lines.into()
}
