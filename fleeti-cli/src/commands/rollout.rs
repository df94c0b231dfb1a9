//! `fleeti rollout`.

use super::approval;
use super::request::{block_on, refused};
use super::rollout_apply::{self, ApplyArgs, Planned, begin};
use super::rollout_plan::{PlanArgs, count_words, family, plan_lines, title};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, rows, when};
use clap::Subcommand;
use fleeti_client::{Client, ClientError};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::cohort::cohort;
use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
use fleeti_core::wire::api::{
    CreateRollout, Event, NextWave, Rollout, RolloutDevice, RolloutQuery, RolloutSummary, Urgent,
    UrgentCounts,
};
use fleeti_core::wire::approval::AskedAct;
use std::time::{SystemTime, UNIX_EPOCH};

/// Devices that are shown without `--limit`.
const DEVICES: u32 = 100;

/// What to do with rollouts.
#[derive(Subcommand)]
pub enum Command {
    /// Roll a published release out to a fleet: to everybody at once, or in waves.
    Start {
        /// The release, as in kiosk@2.
        #[arg(long)]
        release: ReleaseName,
        /// Name of the fleet.
        #[arg(long)]
        fleet: FleetId,
        /// Wait until every device has finished, and fail if one did not succeed.
        #[arg(long)]
        wait: bool,
        /// The active rollout of the fleet, which is aborted for this one.
        #[arg(long, value_name = "ROLLOUT")]
        supersede: Option<String>,
        /// Request the approval of a second person instead, for this reason.
        #[arg(long, value_name = "REASON", conflicts_with = "wait")]
        ask: Option<String>,
        /// It is urgent, for this reason: its waves do not soak, and devices skip their update windows.
        /// Levels, health checks, limits and budgets count as always.
        #[arg(long, value_name = "REASON")]
        urgent: Option<String>,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        server: Server,
    },
    /// Plan a rollout: show how many devices would be in which wave, what they would do, and when it
    /// would end. Starts nothing.
    Plan {
        #[command(flatten)]
        planned: Planned,
        #[command(flatten)]
        server: Server,
    },
    /// Start the rollout of a file, unless the newest rollout of its fleet is the same.
    Apply {
        #[command(flatten)]
        arguments: ApplyArgs,
        #[command(flatten)]
        server: Server,
    },
    /// Write a rollout as a file for `fleeti rollout apply`.
    Export {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest rollouts.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a rollout, its waves and its devices.
    #[command(visible_alias = "status")]
    Show {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        /// Show only devices of this category: failed, unconfirmed, moving, waiting, pending, queued,
        /// unreached or succeeded.
        #[arg(long)]
        category: Option<Category>,
        /// Show the devices after this one, by id.
        #[arg(long)]
        after: Option<DeviceId>,
        /// Maximum number of devices to show, 1 to 1000.
        #[arg(long, default_value_t = DEVICES, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        server: Server,
    },
    /// Pause a rollout. Devices that have not rebooted into the release lose its offer.
    Pause {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        #[command(flatten)]
        server: Server,
    },
    /// Pause all rollouts that run, of every fleet that you may roll out to. Each can be resumed.
    PauseAll {
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// Resume a rollout that is paused. Its errors so far are accepted.
    Resume {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        #[command(flatten)]
        server: Server,
    },
    /// Begin the next wave of a rollout, whatever it waits for. Its webhook gate is asked first.
    Next {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// Request the approval of a second person, for a wave that waits for it.
        #[arg(long)]
        ask: bool,
        /// Do not wait for the webhook gate of the rollout, either.
        #[arg(long)]
        over_gate: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Take the devices of a rollout back to the release that most of them ran before, by another
    /// rollout. They switch to their other slot; no image is downloaded. An active rollout is aborted.
    RollBack {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// Compute the cohorts of devices in a rollout: those with the lowest come first. Needs no
    /// server.
    Cohort {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        /// Device ids.
        #[arg(required = true)]
        devices: Vec<DeviceId>,
    },
    /// Abort a rollout. Devices that have not started the update keep their version.
    Abort {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let rollouts = server.ask(async |c| c.rollouts().await)?;
            output.data(&rollouts, |list| {
                rows(list, "no rollouts yet; start one with `fleeti rollout start`", row)
            });
            Ok(())
        }
        Command::Start { release, fleet, wait, supersede, ask, urgent, plan, server } => {
            let urgent = urgent.map(|reason| Urgent { reason });
            let request = CreateRollout { release, fleet, plan: plan.read()?, urgent };
            if let Some(reason) = ask {
                let act = match supersede {
                    Some(rollout) => AskedAct::SupersedeRollout { rollout, request },
                    None => AskedAct::StartRollout { request },
                };
                return approval::request(act, reason, &server, output);
            }
            let started = begin(&request, supersede.as_deref(), &server)?;
            shown(&started, wait, &server, output)
        }
        Command::Plan { planned, server } => rollout_apply::plan(planned, &server, output),
        Command::Apply { arguments, server } => rollout_apply::apply(&arguments, &server, output),
        Command::Export { rollout, server } => rollout_apply::export(&rollout, &server, output),
        Command::Show { rollout, category, after, limit, server } => {
            let query = RolloutQuery { category, after, limit: Some(limit) };
            show(&server.ask(async |c| attention(c, &rollout, &query).await)?, output)
        }
        Command::Pause { rollout, server } => {
            output.data(&server.ask(async |c| c.pause_rollout(&rollout).await)?, title);
            Ok(())
        }
        Command::PauseAll { reason, server } => pause_all(&reason, &server, output),
        Command::Resume { rollout, server } => {
            output.data(&server.ask(async |c| c.resume_rollout(&rollout).await)?, title);
            Ok(())
        }
        Command::Next { rollout, reason, ask, over_gate, server } => {
            let request = NextWave { reason: reason.clone(), over_gate };
            if ask {
                let act = AskedAct::NextWave { rollout, request };
                return approval::request(act, reason, &server, output);
            }
            output.data(&server.ask(async |c| c.begin_wave(&rollout, &request).await)?, title);
            Ok(())
        }
        Command::RollBack { rollout, reason, server } => {
            let back = server.ask(async |c| c.roll_back_rollout(&rollout, &reason).await)?;
            output.data(&back, title);
            Ok(())
        }
        Command::Cohort { rollout, devices } => {
            show_cohorts(&rollout, devices, output);
            Ok(())
        }
        Command::Abort { rollout, server } => {
            output.data(&server.ask(async |c| c.abort_rollout(&rollout).await)?, title);
            Ok(())
        }
    }
}

fn pause_all(reason: &str, server: &Server, output: &Output) -> CommandResult {
    let all = server.ask(async |c| c.pause_all_rollouts(reason).await)?;
    output.data(&all, |all| rows(&all.paused, "no rollout was running", row));
    let Some(first) = all.left.first() else { return Ok(()) };
    let text = format!("{} rollouts are left: {} is {}", all.left.len(), first.id, first.phase);
    let hint = "their devices still join, or they wait for another rollout: run the command again";
    Err(Failure::new(text, Some(hint)))
}

pub fn shown(
    started: &RolloutSummary,
    wait: bool,
    server: &Server,
    output: &Output,
) -> CommandResult {
    if wait {
        let ended = block_on(wait_for(&server.client()?, &started.id))?;
        show(&ended, output)?;
        return if ended.phase == Phase::Paused { Err(paused(&ended)) } else { Ok(()) };
    }
    output.data(started, title);
    Ok(())
}

fn show_cohorts(rollout: &str, devices: Vec<DeviceId>, output: &Output) {
    let mut cohorts: Vec<_> = devices
        .into_iter()
        .map(|device| Cohort { cohort: cohort(rollout, &device), device })
        .collect();
    cohorts.sort_by_key(|row| row.cohort);
    output.data(&cohorts, |rows| Lines::from(rows.iter().map(Cohort::words).collect::<Vec<_>>()));
}

fn paused(rollout: &Rollout) -> Failure {
    let hint = format!("`fleeti rollout resume {0}`, or `fleeti rollout abort {0}`", rollout.id);
    Failure::new("the rollout is paused", Some(hint))
}

/// The cohort of a device.
#[derive(serde::Serialize)]
struct Cohort {
    device: DeviceId,
    cohort: u64,
}

impl Cohort {
    #[allow(clippy::cast_precision_loss, reason = "a percentage with two places")]
    fn words(&self) -> String {
        let part = self.cohort as f64 / 2f64.powi(64) * 100.0;
        format!("{:<26} {:016x} {part:6.2} %", self.device.to_string(), self.cohort)
    }
}

fn show(rollout: &Rollout, output: &Output) -> CommandResult {
    output.data(rollout, describe);
    match rollout.phase {
        Phase::Failed => Err(Failure::new(
            "not every device runs the release",
            Some("see the reason for each device in the list above"),
        )),
        Phase::Ready
        | Phase::Starting
        | Phase::Running
        | Phase::Pausing
        | Phase::Paused
        | Phase::Succeeded
        | Phase::Aborting
        | Phase::Aborted => Ok(()),
    }
}

/// A rollout with a page of its devices. Without a filter, devices that need attention come first.
async fn attention(
    client: &Client,
    id: &str,
    query: &RolloutQuery,
) -> Result<Rollout, ClientError> {
    let mut rollout = client.rollout_page(id, query).await?;
    if query.category.is_some() || query.after.is_some() {
        return Ok(rollout);
    }
    if rollout.next.take().is_none() {
        rollout.devices.sort_by_key(|d| d.phase.category());
        return Ok(rollout);
    }
    let limit = query.limit.unwrap_or(DEVICES);
    rollout.devices.clear();
    for category in Category::ALL {
        let left = limit.saturating_sub(u32::try_from(rollout.devices.len()).unwrap_or(limit));
        if left > 0 && rollout.counts.of(category) > 0 {
            let (category, limit) = (Some(category), Some(left));
            let query = RolloutQuery { category, limit, after: None };
            rollout.devices.extend(client.rollout_page(id, &query).await?.devices);
        }
    }
    Ok(rollout)
}

fn row(r: &RolloutSummary) -> String {
    let (release, fleet) = (r.release.to_string(), r.fleet.to_string());
    let phase = r.phase.name();
    format!("{:<30} {release:<20} {fleet:<16} {phase:<10} {}", r.id, count_words(r.counts))
}

fn describe(r: &Rollout) -> Lines {
    let title = format!("{} {} in {}: {}", r.id, r.release, r.fleet, r.phase);
    let device = |d: &RolloutDevice| {
        let words = phase_words(&d.phase);
        let via = d.via.as_ref().filter(|_| !d.phase.is_finished());
        let via = via.map_or_else(String::new, |via| format!("; by way of {via}"));
        format!("  {:<26} {words}{via}", d.device.to_string())
    };
    let devices = r.devices.iter().map(device).collect::<Vec<_>>();
    let rest = match &r.next {
        Some(next) => vec![format!("more devices may follow: `--after {next}`")],
        None if r.devices.len() < r.counts.total => {
            vec!["not all devices are shown: see `--category`, `--after` and `--limit`".to_owned()]
        }
        None => Vec::new(),
    };
    let waves = plan_lines(r.plan.as_ref(), r.waves.as_ref());
    let family = family(r.back_of.as_ref(), r.follows.as_ref());
    let urgent = urgent_lines(r, now_s());
    let counts = count_words(r.counts);
    Lines::from(title).and(counts).and(urgent).and(family).and(waves).and(devices).and(rest)
}

/// How far an urgent rollout is.
fn urgent_lines(r: &Rollout, now_s: u64) -> Vec<String> {
    let Some(urgent) = &r.urgent else { return Vec::new() };
    let minutes = now_s.saturating_sub(r.created_s) / 60;
    let UrgentCounts { proved, blocked, unreached } = r.urgent_counts.unwrap_or_default();
    let since = format!("{} h {:02} min since it began", minutes / 60, minutes % 60);
    vec![
        format!("urgent: {}", urgent.reason),
        format!("{since}: {proved} proved, {blocked} blocked, {unreached} unreached"),
    ]
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

fn phase_words(phase: &DevicePhase) -> String {
    match phase {
        DevicePhase::Blocked => {
            "blocked: its attestation level is below the minimum of its fleet (`fleeti attest show`)".into()
        }
        DevicePhase::Held => "held back by a gate: see `fleeti why DEVICE`".into(),
        DevicePhase::Queued => "queued: enough devices of its group update".into(),
        DevicePhase::Retrying { code, until_s } => {
            format!("retrying: failed ({code:?}), again from {}", when(*until_s))
        }
        DevicePhase::Pending => "pending: waits for its wave, a place, or for the rollout to be resumed".into(),
        DevicePhase::Unreached => "unreached: did not start; gets it when it returns".into(),
        DevicePhase::Silent => "silent: started, and is not heard of".into(),
        DevicePhase::Offered => "offered".into(),
        DevicePhase::Staging => "staging".into(),
        DevicePhase::Staged => "staged".into(),
        DevicePhase::Rebooting => "rebooting".into(),
        DevicePhase::Trying => "trying".into(),
        DevicePhase::Unconfirmed => {
            "unconfirmed: did not reach the server with this version; will try it again".into()
        }
        DevicePhase::Proving => "runs it, and must prove it with its TPM".into(),
        DevicePhase::Succeeded => "succeeded".into(),
        DevicePhase::AttestationFailed => "attestation failed (`fleeti attest show`)".into(),
        DevicePhase::Revoked => "revoked".into(),
        DevicePhase::RolledBack { reason } => format!("rolled back: {reason:?}"),
        DevicePhase::Failed { code } => format!("failed: {code:?}"),
    }
}

/// Follows the event stream until the rollout is over.
async fn wait_for(client: &Client, id: &str) -> Result<Rollout, Failure> {
    let query = RolloutQuery { limit: Some(DEVICES), ..RolloutQuery::default() };
    let mut progress = (0, Progress::endless());
    // Subscribe before reading the state, so that no event is missed.
    let mut events = client.events().await.map_err(refused)?;
    loop {
        let rollout = client.rollout_page(id, &query).await.map_err(refused)?;
        let Counts { total, succeeded, failed, .. } = rollout.counts;
        // Devices join while the rollout starts.
        if progress.0 != total {
            progress.1.end();
            progress = (total, Progress::of(total, "devices"));
        }
        progress.1.reached(succeeded + failed);
        let unfinished = rollout.devices.iter().map(|d| &d.phase).filter(|p| !p.is_finished());
        let ways: std::collections::BTreeSet<_> = unfinished.map(phase_words).collect();
        progress.1.say(&ways.into_iter().collect::<Vec<_>>().join(", "));
        if rollout.phase.is_terminal() || rollout.phase == Phase::Paused {
            progress.1.end();
            return attention(client, id, &query).await.map_err(refused);
        }
        events
            .wait_for(|e| matches!(e, Event::Rollout { id: changed } if changed == id))
            .await
            .map_err(refused)?;
    }
}
