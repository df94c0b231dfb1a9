//! `fleeti alert`: alerts, their rules and silences.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use fleeti_client::Client;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::alerts::{
    Alert, AlertDetails, AlertQuery, CreateSilence, RuleStatus, SetRule, Silence,
};

/// Alerts.
/// Maximum number of alerts of one answer.
const PAGE: u32 = 500;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List alerts, newest first.
    List {
        /// Only alerts about this fleet and its devices.
        #[arg(long)]
        fleet: Option<FleetId>,
        /// Also resolved alerts.
        #[arg(long)]
        all: bool,
        /// Continue after this alert.
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Show an alert with its history.
    Show {
        /// Alert id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Acknowledge an open alert: somebody takes care of it.
    Acknowledge {
        /// Alert id.
        id: String,
        /// What is done about it.
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        server: Server,
    },
    /// List the rules that count now.
    Rules {
        #[command(flatten)]
        server: Server,
    },
    /// Change a shipped rule, or add or change another one.
    SetRule(RuleOf),
    /// Remove an added rule, or the change of a shipped one.
    ResetRule {
        /// Rule id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// List silences and maintenance windows that have not ended.
    Silences {
        #[command(flatten)]
        server: Server,
    },
    /// Add a silence: nobody is told of alerts that begin while it lasts.
    Silence(SilenceOf),
    /// Remove a silence.
    Unsilence {
        /// Silence id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// A rule.
#[derive(clap::Args)]
pub struct RuleOf {
    /// Rule id: that of a shipped rule, or a new one.
    id: String,
    /// What the rule watches. Default: what it watches now.
    #[arg(long)]
    kind: Option<Kind>,
    /// From which value on it raises an alert, in the unit of its kind. Default: as it is.
    #[arg(long)]
    threshold: Option<u64>,
    /// How severe its alerts are: info, warning or critical. Default: as it is.
    #[arg(long)]
    severity: Option<Severity>,
    /// A fleet that it watches; repeat it for several. Default: all fleets.
    #[arg(long = "fleet")]
    fleets: Vec<FleetId>,
    /// The rule raises no alerts.
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    server: Server,
}

/// A silence.
#[derive(clap::Args)]
pub struct SilenceOf {
    /// Only alerts of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only alerts about this fleet and its devices.
    #[arg(long)]
    fleet: Option<FleetId>,
    /// Only alerts about this device.
    #[arg(long)]
    device: Option<DeviceId>,
    /// When it begins, Unix seconds. Default: now.
    #[arg(long)]
    from_s: Option<u64>,
    /// Length in hours.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=2160))]
    hours: u64,
    /// Why, for other operators and the audit log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { fleet, all, after, server } => {
            let query = AlertQuery { all, fleet, after, limit: Some(PAGE) };
            let found = server.ask(async |c| c.alerts(&query).await)?;
            output.data(&found, |all| {
                let lines = rows(all, "no alerts", alert);
                match all.last().filter(|_| all.len() == PAGE as usize) {
                    Some(last) => lines.and(format!("more: add --after {}", last.id)),
                    None => lines,
                }
            });
        }
        Command::Show { id, server } => {
            output.data(&server.ask(async |c| c.alert(&id).await)?, details);
        }
        Command::Acknowledge { id, note, server } => {
            let acknowledged = server.ask(async |c| c.acknowledge_alert(&id, &note).await)?;
            output.data(&acknowledged, details);
        }
        Command::Rules { server } => {
            let all = server.ask(Client::alert_rules)?;
            output.data(&all, |all| rows(all, "no rules", rule));
        }
        Command::SetRule(rule_of) => output.data(&set_rule(rule_of)?, rule),
        Command::ResetRule { id, server } => {
            server.ask(async |c| c.remove_alert_rule(&id).await)?;
            output.data(&serde_json::json!({ "reset": id }), |_| format!("reset {id}"));
        }
        Command::Silences { server } => {
            let all = server.ask(Client::silences)?;
            output.data(&all, |all| rows(all, "no silences", silence));
        }
        Command::Silence(of) => {
            let SilenceOf { rule, fleet, device, from_s, hours, reason, server } = of;
            let valid_s = hours * 3600;
            let request = CreateSilence { rule, fleet, device, from_s, valid_s, reason };
            output.data(&server.ask(async |c| c.add_silence(&request).await)?, silence);
        }
        Command::Unsilence { id, server } => {
            server.ask(async |c| c.remove_silence(&id).await)?;
            output.data(&serde_json::json!({ "removed": id }), |_| format!("removed {id}"));
        }
    }
    Ok(())
}

/// Changes what the arguments name, and leaves the rest of a rule as it is.
fn set_rule(of: RuleOf) -> Result<RuleStatus, Failure> {
    let RuleOf { id, kind, threshold, severity, fleets, disabled, server } = of;
    let is_known = server.ask(Client::alert_rules)?.iter().any(|status| status.rule.id == id);
    let known = is_known.then(|| server.ask(async |c| c.alert_rule(&id).await)).transpose()?;
    let (known, tag) = known.map(|read| (read.value.rule, read.tag)).unzip();
    let Some(kind) = kind.or_else(|| known.as_ref().map(|rule| rule.kind)) else {
        let kinds = Kind::ALL.map(Kind::code).join(", ");
        return Err(Failure::new(
            format!("there is no rule {id}"),
            Some(format!("--kind adds one: {kinds}")),
        ));
    };
    let was = known.filter(|rule| rule.kind == kind);
    let rule = SetRule {
        kind,
        threshold: threshold
            .or_else(|| was.as_ref().map(|rule| rule.threshold))
            .unwrap_or_else(|| kind.default_threshold()),
        severity: severity
            .or_else(|| was.as_ref().map(|rule| rule.severity))
            .unwrap_or_else(|| kind.default_severity()),
        fleets: if fleets.is_empty() { was.map(|r| r.fleets).unwrap_or_default() } else { fleets },
        enabled: !disabled,
    };
    let tag = tag.flatten();
    server.ask(async |c| c.expecting(tag.as_ref()).set_alert_rule(&id, &rule).await)
}

fn alert(alert: &Alert) -> String {
    let about = match (&alert.device, &alert.fleet) {
        (Some(device), _) => device.to_string(),
        (None, Some(fleet)) => format!("fleet {fleet}"),
        (None, None) => "the server".to_owned(),
    };
    let silenced = if alert.silenced_until_s.is_some() { "  silenced" } else { "" };
    format!(
        "{}  {:<8}  {:<12}  {about}  {}  since {}{silenced}",
        alert.id,
        alert.severity,
        alert.state.as_str(),
        Foreign::log(&alert.detail),
        when(alert.since_s)
    )
}

fn details(details: &AlertDetails) -> Lines {
    let mut lines = vec![alert(&details.alert)];
    lines.extend(details.history.iter().map(|change| {
        let note = Foreign::log(&change.note).to_string();
        let line =
            format!("{}  {:<12}  {}  {note}", when(change.at_s), change.state.as_str(), change.by);
        line.trim_end().to_owned()
    }));
    lines.into()
}

fn rule(status: &RuleStatus) -> String {
    let rule = &status.rule;
    let fleets: Vec<_> = rule.fleets.iter().map(FleetId::as_str).collect();
    let fleets = if fleets.is_empty() { "all fleets".into() } else { fleets.join(", ") };
    let state = if rule.enabled { "" } else { "  disabled" };
    let threshold = match status.unit.as_str() {
        "none" => String::new(),
        unit => format!("{} {unit}", rule.threshold),
    };
    format!(
        "{:<16}  {:<14}  {:<8}  {threshold:<32}  {fleets}{state}",
        rule.id,
        rule.kind.code(),
        rule.severity
    )
}

fn silence(silence: &Silence) -> String {
    let rule = silence.rule.as_deref().unwrap_or("every rule");
    let fleet = silence.fleet.as_ref().map_or("all fleets", FleetId::as_str);
    let device = silence.device.as_ref().map_or("all devices", DeviceId::as_str);
    format!(
        "{}  {rule}  {fleet}  {device}  {} to {}  {} ({})",
        silence.id,
        when(silence.from_s),
        when(silence.until_s),
        silence.reason,
        silence.by
    )
}
