//! `fleeti rollout`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, rows};
use clap::Subcommand;
use fleeti_client::Client;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::{Counts, DevicePhase, Phase};
use fleeti_core::wire::api::{CreateRollout, Event, Rollout};

/// What to do with rollouts.
#[derive(Subcommand)]
pub enum Command {
    /// Roll a published release out to a fleet.
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
        #[command(flatten)]
        server: Server,
    },
    /// List the newest rollouts.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a rollout.
    Show {
        /// Id of the rollout, as in `fleeti rollout list`.
        rollout: String,
        #[command(flatten)]
        server: Server,
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
    let rollout = match command {
        Command::List { server } => {
            let rollouts = server.ask(async |c| c.rollouts().await)?;
            output.data(&rollouts, |list| {
                rows(list, "no rollouts yet; start one with `fleeti rollout start`", |r| {
                    let phase = format!("{:?}", r.phase).to_lowercase();
                    let (release, fleet) = (r.release.to_string(), r.fleet.to_string());
                    format!(
                        "{:<30} {release:<20} {fleet:<16} {phase:<10} {}",
                        r.id,
                        count_words(r.counts)
                    )
                })
            });
            return Ok(());
        }
        Command::Start { release, fleet, wait, server } => {
            let rollout =
                server.ask(async |c| c.start_rollout(&CreateRollout { release, fleet }).await)?;
            if wait { block_on(wait_for(&server.client()?, rollout))? } else { rollout }
        }
        Command::Show { rollout, server } => server.ask(async |c| c.rollout(&rollout).await)?,
        Command::Abort { rollout, server } => {
            server.ask(async |c| c.abort_rollout(&rollout).await)?
        }
    };
    output.data(&rollout, describe);
    match rollout.state.phase {
        Phase::Failed => Err(Failure::new(
            "not every device runs the release",
            Some("see the reason for each device in the list above"),
        )),
        Phase::Ready
        | Phase::Starting
        | Phase::Running
        | Phase::Succeeded
        | Phase::Aborting
        | Phase::Aborted => Ok(()),
    }
}

fn describe(r: &Rollout) -> Lines {
    let devices = r
        .state
        .devices
        .iter()
        .map(|(device, phase)| format!("  {device:<26} {}", phase_words(phase)));
    let title =
        format!("{} {} in {}: {:?}", r.id, r.state.release, r.fleet, r.state.phase).to_lowercase();
    Lines::from(title).and(count_words(r.state.counts())).and(devices.collect::<Vec<_>>())
}

/// As `3/5 finished, 1 failed, 1 unconfirmed`; counts of zero are omitted.
fn count_words(Counts { total, succeeded, failed, moving, unconfirmed }: Counts) -> String {
    let more = [(failed, "failed"), (moving, "in progress"), (unconfirmed, "unconfirmed")];
    let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!(", {n} {word}"));
    format!("{}/{total} finished{}", succeeded + failed, more.collect::<String>())
}

fn phase_words(phase: &DevicePhase) -> String {
    match phase {
        DevicePhase::Blocked => {
            "blocked: its attestation level is below the minimum of its fleet (`fleeti attest show`)".into()
        }
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
async fn wait_for(client: &Client, mut rollout: Rollout) -> Result<Rollout, Failure> {
    let progress = Progress::of(rollout.state.devices.len(), "devices");
    // Subscribe before reading the state, so that no event is missed.
    let mut events = client.events().await.map_err(refused)?;
    loop {
        rollout = client.rollout(&rollout.id).await.map_err(refused)?;
        let devices = &rollout.state.devices;
        progress.reached(devices.values().filter(|p| p.is_finished()).count());
        let ways: std::collections::BTreeSet<_> =
            devices.values().filter(|p| !p.is_finished()).map(phase_words).collect();
        progress.say(&ways.into_iter().collect::<Vec<_>>().join(", "));
        if rollout.state.phase.is_terminal() {
            progress.end();
            return Ok(rollout);
        }
        events
            .wait_for(|e| matches!(e, Event::Rollout { id } if *id == rollout.id))
            .await
            .map_err(refused)?;
    }
}
