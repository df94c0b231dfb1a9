//! `fleeti device`: what is ordered for the updates of a device.

use super::super::approval;
use super::super::server::Server;
use super::super::why::explained;
use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::approval::AskedAct;
use fleeti_core::wire::updates::UpdateOrder;
use std::time::{SystemTime, UNIX_EPOCH};

/// What to order for the updates of a device.
#[derive(Subcommand)]
pub enum Order {
    /// Offer a device no release, until a time or until `fleeti device resume-updates`. It stays
    /// connected.
    HoldUpdates {
        /// Id of the device.
        device: DeviceId,
        /// Reason, shown by `fleeti why` and kept in the audit log.
        #[arg(long)]
        reason: String,
        /// Hours until the hold ends; without it, until it is ended.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        hours: Option<u64>,
        #[command(flatten)]
        server: Server,
    },
    /// End the hold of a device's updates.
    ResumeUpdates {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Pin a device to a release: it is offered this one, and no other.
    Pin {
        /// Id of the device.
        device: DeviceId,
        /// The release.
        #[arg(long)]
        release: ReleaseName,
        /// Reason, shown by `fleeti why` and kept in the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// Take a device back to a lower version that it ran before, and pin it to that. Its other slot must
    /// still have it; no image is downloaded. Never below a floor, nor below the minimum version of what
    /// it runs. It does not install the version that it leaves again until you allow it (`fleeti device
    /// forgive`).
    Downgrade {
        /// Id of the device.
        device: DeviceId,
        /// The release.
        #[arg(long)]
        release: ReleaseName,
        /// Reason, shown by `fleeti why` and kept in the audit log.
        #[arg(long)]
        reason: String,
        /// Request the approval of a second person instead, for this reason.
        #[arg(long, value_name = "REASON")]
        ask: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// End the pin of a device. It follows its fleet again.
    Unpin {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Let a device download, install and reboot now, whatever its windows say, and without waiting
    /// for a user: for an urgent update.
    SkipWindows {
        /// Id of the device.
        device: DeviceId,
        /// Reason, for the audit log.
        #[arg(long)]
        reason: String,
        /// Hours until its windows count again.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=167))]
        hours: u64,
        #[command(flatten)]
        server: Server,
    },
    /// Let a device observe its windows again.
    ObserveWindows {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Move a device to another fleet. It is offered what that fleet should run, and gets that
    /// fleet's secrets and policy.
    Move {
        /// Id of the device.
        device: DeviceId,
        /// The fleet.
        #[arg(long)]
        fleet: FleetId,
        /// Reason, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(order: Order, output: &Output) -> CommandResult {
    let (device, order, server) = match order {
        Order::HoldUpdates { device, reason, hours, server } => {
            let until_s = hours.map(in_hours).transpose()?;
            (device, UpdateOrder::Hold { reason, until_s }, server)
        }
        Order::ResumeUpdates { device, server } => (device, UpdateOrder::Unhold {}, server),
        Order::Pin { device, release, reason, server } => {
            (device, UpdateOrder::Pin { release, reason }, server)
        }
        Order::Downgrade { device, release, reason, ask, server } => {
            let request = UpdateOrder::Downgrade { release, reason };
            if let Some(reason) = ask {
                let act = AskedAct::OrderUpdates { device, request };
                return approval::request(act, reason, &server, output);
            }
            (device, request, server)
        }
        Order::Unpin { device, server } => (device, UpdateOrder::Unpin {}, server),
        Order::SkipWindows { device, reason, hours, server } => {
            // An hour less than a week: the clock of the server may be behind.
            let until_s = in_hours(hours)?;
            (device, UpdateOrder::SkipWindows { until_s, reason }, server)
        }
        Order::ObserveWindows { device, server } => {
            (device, UpdateOrder::ObserveWindows {}, server)
        }
        Order::Move { device, fleet, reason, server } => {
            (device, UpdateOrder::Move { fleet, reason }, server)
        }
    };
    let why = server.ask(async |c| c.order_updates(&device, &order).await)?;
    output.data(&why, explained);
    Ok(())
}

fn in_hours(hours: u64) -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::plain)?;
    Ok(now.as_secs().saturating_add(hours.saturating_mul(3600)))
}
