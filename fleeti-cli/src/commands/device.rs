//! `fleeti device`.

use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::{Subcommand, ValueEnum};
use fleeti_core::id::{DeviceId, FleetId, Version};
use fleeti_core::wire::api::{CreateCommand, Device, RevocationReason};
use fleeti_core::wire::device::Order;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// What to do with devices.
#[derive(Subcommand)]
pub enum Command {
    /// List devices: what they run, where their update stands.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one device.
    Show {
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Make an enrollment record with a one-time token for a new device.
    Enrollment {
        /// The fleet that the device joins.
        #[arg(long)]
        fleet: FleetId,
        /// Hours until the token expires.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// Where the record goes (mode 0600); give it to `fleeti release disk --record`.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Order a device to do something; delivered now, or when it is back.
    #[command(name = "command")]
    Order {
        device: DeviceId,
        #[arg(value_enum)]
        order: OrderName,
        /// Minutes until it is not to be carried out any more.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        #[command(flatten)]
        server: Server,
    },
    /// Let a device try a version again that was rolled back on it.
    Forgive {
        device: DeviceId,
        #[arg(long)]
        version: Version,
        #[command(flatten)]
        server: Server,
    },
    /// Revoke a device: its sessions end now and it cannot come back.
    Revoke {
        device: DeviceId,
        /// Why; a hold is the only one that can be taken back.
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: ReasonName,
        #[command(flatten)]
        server: Server,
    },
    /// Take back a revocation that was a hold.
    ReleaseHold {
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
}

/// Why a certificate is revoked (RFC 5280, 5.3.1).
#[derive(Clone, Copy, ValueEnum)]
pub enum ReasonName {
    /// Nobody says.
    Unspecified,
    /// Somebody else has the key, or may have it.
    KeyCompromise,
    /// The device is not used any more.
    CessationOfOperation,
    /// The device may not take part any more.
    PrivilegeWithdrawn,
    /// For the time being.
    Hold,
}

impl From<ReasonName> for RevocationReason {
    fn from(name: ReasonName) -> Self {
        match name {
            ReasonName::Unspecified => Self::Unspecified,
            ReasonName::KeyCompromise => Self::KeyCompromise,
            ReasonName::CessationOfOperation => Self::CessationOfOperation,
            ReasonName::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
            ReasonName::Hold => Self::CertificateHold,
        }
    }
}

/// What a device can be ordered to do.
#[derive(Clone, Copy, ValueEnum)]
pub enum OrderName {
    /// Send a report.
    Report,
    /// Reboot.
    Reboot,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    block_on(async {
        match command {
            Command::List { server } => {
                let devices = server.client()?.devices().await.map_err(refused)?;
                output.data(&devices, |d| {
                    if d.is_empty() {
                        return "no device yet; make a record with `fleeti device enrollment`".to_owned();
                    }
                    d.iter().map(row).collect::<Vec<_>>().join("\n")
                });
                Ok(())
            }
            Command::Show { device, server } => {
                let device = server.client()?.device(&device).await.map_err(refused)?;
                output.data(&device, |d| format!("{}\n{}", row(d), serde_json::to_string_pretty(d).unwrap_or_default()));
                Ok(())
            }
            Command::Enrollment { fleet, hours, out, server } => {
                let valid_s = hours.saturating_mul(3600);
                let enrollment = server.client()?.create_enrollment(&fleet, valid_s).await.map_err(refused)?;
                let text = serde_json::to_vec_pretty(&enrollment.record).map_err(Failure::plain)?;
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&out)
                    .map_err(|e| Failure::plain(format!("{}: {e}", out.display())))?;
                file.write_all(&text).map_err(Failure::plain)?;
                let data = serde_json::json!({"record": out, "expires_s": enrollment.expires_s});
                output.data(&data, |_| format!("wrote {}, good for one device and {hours} hours", out.display()));
                Ok(())
            }
            Command::Order { device, order, minutes, server } => {
                let order = match order {
                    OrderName::Report => Order::Report,
                    OrderName::Reboot => Order::Reboot,
                };
                let request = CreateCommand { order, valid_s: minutes.saturating_mul(60) };
                let status = server.client()?.create_command(&device, &request).await.map_err(refused)?;
                output.data(&status, |s| format!("{} {}", s.id, s.status));
                Ok(())
            }
            Command::Forgive { device, version, server } => {
                let device = server.client()?.forgive_device(&device, &version).await.map_err(refused)?;
                output.data(&device, |d| format!("{} may try {version} again", d.id));
                Ok(())
            }
            Command::Revoke { device, reason, server } => {
                let device = server.client()?.revoke_device(&device, reason.into()).await.map_err(refused)?;
                output.data(&device, |d| format!("{} is revoked", d.id));
                Ok(())
            }
            Command::ReleaseHold { device, server } => {
                let device = server.client()?.release_hold(&device).await.map_err(refused)?;
                output.data(&device, |d| format!("{} may come back", d.id));
                Ok(())
            }
        }
    })
}

fn row(d: &Device) -> String {
    let online = if d.revoked {
        "revoked"
    } else if d.online {
        "online"
    } else {
        "offline"
    };
    let running = d.boot.as_ref().map_or_else(|| "-".to_owned(), |b| b.running.to_string());
    let update = d.update.as_ref().map_or("-", |u| u.name());
    format!("{:<26} {:<12} {online:<8} {running:<16} {update}", d.id, d.fleet)
}
