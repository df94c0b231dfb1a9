//! `fleeti why`.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Lines, Output, when};
use clap::Args;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::gates::{Check, GateState, Source};
use fleeti_core::wire::updates::Why;

/// Explain why a device is, or is not, offered a release.
///
/// Prints what it should run, the first gate that does not let the offer through, what would change
/// that, and then all gates in the order in which the server reads them. The server offers releases
/// by the same list.
#[derive(Args)]
pub struct Command {
    /// Id of the device.
    device: DeviceId,
    #[command(flatten)]
    server: Server,
}

pub fn run(command: &Command, output: &Output) -> CommandResult {
    let why = command.server.ask(async |c| c.why(&command.device).await)?;
    output.data(&why, explained);
    Ok(())
}

/// Why a device is, or is not, offered a release, as text.
pub fn explained(why: &Why) -> Lines {
    let name = |release: &Option<_>| {
        release
            .as_ref()
            .map_or_else(|| "-".to_owned(), |r: &fleeti_core::id::ReleaseName| r.to_string())
    };
    let target = why.target.as_ref().map_or_else(
        || "nothing".to_owned(),
        |target| format!("{} ({})", target.release, source(target.source)),
    );
    let mut lines = Lines::from(why.device.to_string())
        .and(format!("  should run    {target}"))
        .and(format!("  runs          {}", name(&why.running)))
        .and(format!("  is offered    {}", name(&why.desired)));
    if let Some(rollout) = &why.rollout {
        lines = lines.and(format!("  rollout       {rollout}"));
    }
    if let Some(until_s) = why.skip_windows_until_s {
        lines = lines.and(format!("  skips windows until {}", when(until_s)));
    }
    lines = match why.deciding() {
        None => lines.and("  because       no gate is closed"),
        Some(check) => {
            let change = check.change.as_deref().unwrap_or_default();
            let change = change.replace("DEVICE", why.device.as_str());
            lines
                .and(format!("  because       {}{}", check.text, until(check)))
                .and(format!("  to change it  {change}"))
        }
    };
    why.gates.iter().fold(lines, |lines, check| {
        let state = match check.state {
            GateState::Open => "yes",
            GateState::Waits => "waits",
            GateState::Closed => "no",
        };
        let title = check.gate.title();
        let text = match check.state {
            GateState::Open => String::new(),
            GateState::Waits | GateState::Closed => format!(": {}{}", check.text, until(check)),
        };
        lines.and(format!("  {state:<6} {title}{text}"))
    })
}

fn until(check: &Check) -> String {
    check.until_s.map_or_else(String::new, |until_s| format!(", until {}", when(until_s)))
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Pin => "the device is pinned to it",
        Source::Downgrade => "an operator takes the device back to it",
        Source::Rollout => "a rollout",
        Source::WayBack => "a rollout that goes back to it",
        Source::FleetPin => "its fleet is pinned to it",
        Source::Channel => "the channel of its fleet",
    }
}
