//! `fleeti channel`.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Lines, Output, when};
use clap::Subcommand;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::wire::updates::{Channel, PinFleet};

/// What to do with the channel of a fleet.
#[derive(Subcommand)]
pub enum Command {
    /// Show what the devices of a fleet should run.
    Show {
        /// Name of the fleet.
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
    /// Pin a fleet to a release, instead of its channel.
    ///
    /// Devices that run a lower version are offered the release when they next report or connect,
    /// without waves. No rollout can start in the fleet until the pin ends.
    Pin {
        /// Name of the fleet.
        fleet: FleetId,
        /// The release.
        #[arg(long)]
        release: ReleaseName,
        /// Reason, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// End the pin of a fleet. The fleet follows its channel again.
    Unpin {
        /// Name of the fleet.
        fleet: FleetId,
        /// Reason, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let channel = match command {
        Command::Show { fleet, server } => server.ask(async |c| c.channel(&fleet).await)?,
        Command::Pin { fleet, release, reason, server } => {
            let request = PinFleet { release: Some(release), reason };
            server.ask(async |c| c.pin_fleet(&fleet, &request).await)?
        }
        Command::Unpin { fleet, reason, server } => {
            let request = PinFleet { release: None, reason };
            server.ask(async |c| c.pin_fleet(&fleet, &request).await)?
        }
    };
    output.data(&channel, described);
    Ok(())
}

fn described(channel: &Channel) -> Lines {
    let Channel { fleet, release, rollout, since_s, pin } = channel;
    let channel = match (release, since_s, rollout) {
        (Some(release), Some(since_s), Some(rollout)) => {
            format!("{release}, since {} by {rollout}", when(*since_s))
        }
        (release, ..) => release
            .as_ref()
            .map_or_else(|| "empty: no rollout has succeeded".to_owned(), ToString::to_string),
    };
    let lines = Lines::from(fleet.to_string()).and(format!("  channel  {channel}"));
    match pin {
        None => lines,
        Some(pin) => lines.and(format!("  pinned   {}: {}", pin.release, pin.reason)),
    }
}
