//! `fleeti rollout plan`, `apply` and `export`: what a rollout would come to, and rollouts as files.

use super::rollout_file::{difference, read, text};
use super::rollout_plan::{PlanArgs, title};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::Args;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::forecast::{End, Forecast, Group, WaveForecast};
use fleeti_core::wire::api::{CreateRollout, Rollout, RolloutQuery, RolloutSummary, Urgent};
use serde::Serialize;
use std::path::PathBuf;

/// What to plan: a file, or options as for `start`.
#[derive(Args)]
pub struct Planned {
    /// File of a rollout, as `fleeti rollout export` writes it.
    #[arg(conflicts_with_all = ["release", "fleet", "waves"])]
    file: Option<PathBuf>,
    /// The release, as in kiosk@2.
    #[arg(long, required_unless_present = "file")]
    release: Option<ReleaseName>,
    /// Name of the fleet.
    #[arg(long, required_unless_present = "file")]
    fleet: Option<FleetId>,
    /// It is urgent, for this reason.
    #[arg(long, value_name = "REASON", conflicts_with = "file")]
    urgent: Option<String>,
    #[command(flatten)]
    plan: PlanArgs,
}

impl Planned {
    fn request(self) -> Result<CreateRollout, Failure> {
        match (self.file, self.release, self.fleet) {
            (Some(file), _, _) => read(&file),
            (None, Some(release), Some(fleet)) => {
                let urgent = self.urgent.map(|reason| Urgent { reason });
                Ok(CreateRollout { release, fleet, plan: self.plan.read()?, urgent })
            }
            (None, _, _) => Err(Failure::plain("name a file, or --release and --fleet")),
        }
    }
}

/// Shows what a rollout would come to.
pub fn plan(planned: Planned, server: &Server, output: &Output) -> CommandResult {
    let request = planned.request()?;
    let found = server.ask(async |c| c.plan_rollout(&request).await)?;
    output.data(&found, forecast_lines);
    Ok(())
}

/// Writes a rollout as a file.
pub fn export(id: &str, server: &Server, output: &Output) -> CommandResult {
    let query = RolloutQuery { limit: Some(1), ..RolloutQuery::default() };
    let found = server.ask(async |c| c.rollout_page(id, &query).await)?;
    let Rollout { release, fleet, plan, urgent, .. } = found;
    let rollout = CreateRollout { release, fleet, plan, urgent };
    let exported = Exported { file: text(&rollout) };
    output.data(&exported, |exported| Lines::of_document(&exported.file));
    Ok(())
}

#[derive(Serialize)]
struct Exported {
    file: String,
}

/// What a file would change, or has changed.
#[derive(Serialize)]
struct Applied {
    /// `unchanged`, `would_start` or `started`.
    act: &'static str,
    /// The newest rollout of the fleet, or the one that was started.
    rollout: Option<RolloutSummary>,
    /// Lines: `-` as it is, `+` as the file has it.
    difference: Vec<String>,
    /// What it would come to.
    forecast: Option<Forecast>,
}

/// How a file is applied.
#[derive(Args)]
pub struct ApplyArgs {
    /// The file.
    pub file: PathBuf,
    /// Show what differs and what it would come to, and start nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Start it once more, though the newest rollout of the fleet is the same.
    #[arg(long)]
    pub again: bool,
    /// Abort the active rollout of the fleet for this one.
    #[arg(long)]
    pub supersede: bool,
}

/// Starts a rollout, also in place of an active one.
pub fn begin(
    request: &CreateRollout,
    supersede: Option<&str>,
    server: &Server,
) -> Result<RolloutSummary, Failure> {
    server.ask(async |c| match supersede {
        Some(other) => c.supersede_rollout(other, request).await,
        None => c.start_rollout(request).await,
    })
}

/// Makes a file true: starts its rollout, unless the newest rollout of the fleet is the same.
pub fn apply(arguments: &ApplyArgs, server: &Server, output: &Output) -> CommandResult {
    let wanted = read(&arguments.file)?;
    let all = server.ask(async |c| c.rollouts().await)?;
    let is_active = |r: &&RolloutSummary| {
        r.fleet == wanted.fleet && !r.phase.is_terminal() && r.phase != Phase::Ready
    };
    let active = all.iter().find(is_active).map(|r| r.id.clone());
    // A way back is not what a file asked for: what was rolled back must not start again.
    let newest = all.into_iter().find(|r| r.fleet == wanted.fleet && r.back_of.is_none());
    let is = newest.as_ref().map(|r| CreateRollout {
        release: r.release.clone(),
        fleet: r.fleet.clone(),
        plan: r.plan.clone(),
        urgent: r.urgent.clone(),
    });
    let is_same = is.as_ref().is_some_and(|is| text(is) == text(&wanted));
    if is_same && !arguments.again {
        let applied =
            Applied { act: "unchanged", rollout: newest, difference: vec![], forecast: None };
        output.data(&applied, unchanged);
        return Ok(());
    }
    let difference = difference(&is.map_or_else(String::new, |is| text(&is)), &text(&wanted));
    if arguments.dry_run {
        let forecast = server.ask(async |c| c.plan_rollout(&wanted).await)?;
        let act = "would_start";
        let applied = Applied { act, rollout: newest, difference, forecast: Some(forecast) };
        output.data(&applied, would_start);
        return Ok(());
    }
    let superseded = active.as_deref().filter(|_| arguments.supersede);
    let started = begin(&wanted, superseded, server)?;
    let applied = Applied { act: "started", rollout: Some(started), difference, forecast: None };
    output.data(&applied, |applied| {
        Lines::from(applied.difference.clone())
            .and(applied.rollout.as_ref().map_or_else(Lines::default, title))
    });
    Ok(())
}

fn unchanged(applied: &Applied) -> Lines {
    let Some(rollout) = &applied.rollout else { return Lines::default() };
    let line = format!("unchanged: {} is {}", rollout.id, rollout.phase);
    match rollout.phase {
        Phase::Failed | Phase::Aborted => Lines::from(line).and("`--again` starts it once more"),
        Phase::Ready
        | Phase::Starting
        | Phase::Running
        | Phase::Pausing
        | Phase::Paused
        | Phase::Succeeded
        | Phase::Aborting => Lines::from(line),
    }
}

fn would_start(applied: &Applied) -> Lines {
    let runs = applied.rollout.as_ref().map_or_else(
        || "no rollout of the fleet yet".to_owned(),
        |rollout| format!("newest rollout of the fleet: {} is {}", rollout.id, rollout.phase),
    );
    let forecast = applied.forecast.as_ref().map_or_else(Lines::default, forecast_lines);
    Lines::from(runs).and(applied.difference.clone()).and("").and(forecast)
}

fn group_lines(groups: &[Group]) -> Vec<String> {
    groups.iter().map(|group| format!("    {} {}", group.devices, group.expected.words())).collect()
}

fn wave_lines((number, wave): (usize, &WaveForecast)) -> Vec<String> {
    let devices: usize = wave.expected.iter().map(|group| group.devices).sum();
    let by_hand = if wave.is_by_hand { ", once you begin it," } else { "" };
    let size = wave.size.to_string();
    let begins = when(wave.begins_s);
    let title = format!("  wave {number:<2} {size:<18} {devices} devices{by_hand} from {begins}");
    std::iter::once(title).chain(group_lines(&wave.expected)).collect()
}

/// A forecast, in words.
fn forecast_lines(found: &Forecast) -> Lines {
    let title = format!("{} to fleet {}: {} devices", found.release, found.fleet, found.devices);
    let waves: Vec<_> = (1..).zip(&found.waves).flat_map(wave_lines).collect();
    let end = match &found.end {
        End::Succeeds { at_s } => format!("succeeds at {}", when(*at_s)),
        End::Fails { at_s } => format!("ends with errors at {}", when(*at_s)),
        End::Stops { at_s, wave, errors } => format!(
            "stops in wave {} at {}: {} errors among {} devices that have finished",
            wave + 1,
            when(*at_s),
            errors.failed,
            errors.finished
        ),
        End::Waits { from_s, wave } => format!(
            "stays open in wave {} from {}: it waits for devices that are offline or blocked",
            wave + 1,
            when(*from_s)
        ),
        End::TooLong { at_s } => format!("is still running at {}", when(*at_s)),
    };
    let seconds = found.duration.seconds;
    let duration = match found.duration.measured {
        0 => format!(
            "a device takes {seconds} s: an assumption, as no rollout of the fleet was measured"
        ),
        n => format!("a device takes {seconds} s: nine of ten of {n} devices in the last rollout"),
    };
    let windows = found.in_windows.then(|| {
        "the update windows of the fleet are in these times; those without a zone in UTC".to_owned()
    });
    let active = found.active.iter().map(|id| format!("rollout {id} must end before"));
    let windows: Vec<_> = windows.into_iter().collect();
    let active: Vec<_> = active.collect();
    Lines::from(title).and(waves).and(end).and(duration).and(windows).and(active)
}
