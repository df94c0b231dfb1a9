//! `fleeti rollout`.

use super::server::{Server, block_on, refused};
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
        /// As in kiosk@2.
        #[arg(long)]
        release: ReleaseName,
        #[arg(long)]
        fleet: FleetId,
        /// Wait until every device has finished; fails when one did not get there.
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
        rollout: String,
        #[command(flatten)]
        server: Server,
    },
    /// Stop a rollout; devices that have not begun keep what they run.
    Abort {
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
                rows(
                    list,
                    "nothing has been rolled out yet; begin with `fleeti rollout start`",
                    |r| {
                        let phase = format!("{:?}", r.phase).to_lowercase();
                        let (release, fleet) = (r.release.to_string(), r.fleet.to_string());
                        format!(
                            "{:<30} {release:<20} {fleet:<16} {phase:<10} {}",
                            r.id,
                            count_words(r.counts)
                        )
                    },
                )
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
            Some("the list above says why, device by device"),
        )),
        Phase::Ready | Phase::Running | Phase::Succeeded | Phase::Aborted => Ok(()),
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

/// As `3/5 finished, 1 failed, 1 unconfirmed`; what is none is left out.
fn count_words(Counts { total, succeeded, failed, moving, unconfirmed }: Counts) -> String {
    let more = [(failed, "failed"), (moving, "on their way"), (unconfirmed, "unconfirmed")];
    let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!(", {n} {word}"));
    format!("{}/{total} finished{}", succeeded + failed, more.collect::<String>())
}

fn phase_words(phase: &DevicePhase) -> String {
    match phase {
        DevicePhase::Held => {
            "held: it is not trusted as far as its fleet asks (`fleeti attest show`)".into()
        }
        DevicePhase::Granted => "granted".into(),
        DevicePhase::Staging => "staging".into(),
        DevicePhase::Staged => "staged".into(),
        DevicePhase::Rebooting => "rebooting".into(),
        DevicePhase::Trying => "trying".into(),
        DevicePhase::Unconfirmed => {
            "unconfirmed: did not reach the server with it; tries it again".into()
        }
        DevicePhase::Proving => "runs it by its own word; its TPM's is waited for".into(),
        DevicePhase::Succeeded => "succeeded".into(),
        DevicePhase::Contradicted => "contradicted by its TPM (`fleeti attest show`)".into(),
        DevicePhase::Revoked => "revoked".into(),
        DevicePhase::RolledBack { reason } => format!("rolled back: {reason:?}"),
        DevicePhase::Failed { code } => format!("failed: {code:?}"),
    }
}

/// Follows the event stream until the rollout is over.
async fn wait_for(client: &Client, mut rollout: Rollout) -> Result<Rollout, Failure> {
    let progress = Progress::of(rollout.state.devices.len(), "devices");
    // The stream first, then the state: nothing that happens in between is missed.
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
