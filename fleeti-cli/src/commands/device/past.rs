//! `fleeti device history` and `drift`.

use crate::CommandResult;
use crate::commands::server::Server;
use crate::output::{Lines, Output, when};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::history::{DeviceState, Drift, History, HistoryQuery, Metrics};

/// A part of the history of a device.
#[derive(clap::Args)]
pub struct Past {
    /// Id of the device.
    device: DeviceId,
    /// From when on, Unix seconds (`date +%s -d tuesday`). Default: the beginning.
    #[arg(long)]
    from_s: Option<u64>,
    /// Until when, Unix seconds. Default: now.
    #[arg(long)]
    until_s: Option<u64>,
    #[command(flatten)]
    server: Server,
}

/// Shows what a device was.
pub fn history(past: &Past, output: &Output) -> CommandResult {
    let query = HistoryQuery { from_s: past.from_s, until_s: past.until_s };
    let found = past.server.ask(async |c| c.history(&past.device, &query).await)?;
    output.data(&found, lines);
    Ok(())
}

/// Shows how a device differs from what is desired of it.
pub fn drift(device: &DeviceId, server: &Server, output: &Output) -> CommandResult {
    let found = server.ask(async |c| c.drift(device).await)?;
    output.data(&found, differences);
    Ok(())
}

fn lines(history: &History) -> Lines {
    let mut lines: Vec<String> = history.states.iter().map(state).collect();
    if lines.is_empty() {
        lines.push("nothing is known of that time".to_owned());
    }
    lines.extend(history.metrics.iter().map(metrics));
    lines.into()
}

fn state(state: &DeviceState) -> String {
    let running = state.running.as_ref().map_or_else(|| "unknown".into(), ToString::to_string);
    format!(
        "{}  {running:<20}  {}  boot {}  fleet {}",
        when(state.at_s),
        state.level,
        Foreign::log(&state.boot_id),
        state.fleet
    )
}

fn metrics(of: &Metrics) -> String {
    let span = if of.span_s > 3600 { "day " } else { "hour" };
    format!(
        "{}  {span}  load {}.{:02} (max {}.{:02})  memory {} % (max {} %)  data {} % (max {} %)",
        when(of.at_s),
        of.load_milli / 1000,
        of.load_milli % 1000 / 10,
        of.load_milli_max / 1000,
        of.load_milli_max % 1000 / 10,
        of.memory_percent,
        of.memory_percent_max,
        of.data_percent,
        of.data_percent_max
    )
}

fn differences(drift: &Drift) -> Lines {
    let mut lines: Vec<String> = drift
        .differences
        .iter()
        .map(|of| {
            let title = of.aspect.title();
            format!("{:<8}  {title:<18}  expected {}, found {}", of.severity, of.expected, of.found)
        })
        .collect();
    if lines.is_empty() {
        lines.push("no drift".to_owned());
    }
    if let Some(since_s) = drift.since_s {
        lines.push(format!("not on its desired release since {}", when(since_s)));
    }
    lines.into()
}
