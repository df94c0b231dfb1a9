//! `fleeti package`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Lines, Output};
use clap::Subcommand;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::package::{PackageDevices, PackageQuery, PackageRelease};

/// Largest number of devices of one answer.
const PAGE: u32 = 500;

/// What to do with packages.
#[derive(Subcommand)]
pub enum Command {
    /// Find the devices that have a package, by the SBOM of the release that each device proves or
    /// reports.
    ///
    /// Versions are compared as dpkg does. A source package finds all packages that were built from
    /// it. Devices that have not reported, or whose release has no SBOM, are listed as unknown.
    Who {
        /// A package, or a package and a version: `openssl`, `openssl<3.5.1-1+deb13u2`; also `<=`,
        /// `=`, `>=` and `>`. Quote it for the shell.
        query: PackageQuery,
        /// Continue after this device.
        #[arg(long)]
        after: Option<DeviceId>,
        /// Maximum number of devices.
        #[arg(long, default_value_t = PAGE, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE)))]
        limit: u32,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let Command::Who { query, after, limit, server } = command;
    let after = after.map_or_else(String::new, |id| id.to_string());
    let found = block_on(async {
        server.client()?.package_devices(&query, &after, limit).await.map_err(refused)
    })?;
    output.data(&found, |found| lines(found, limit));
    Ok(())
}

fn lines(found: &PackageDevices, limit: u32) -> Lines {
    let PackageDevices { query, proved, reported, unknown, others, releases, devices } = found;
    let release = |r: &PackageRelease| {
        let names: Vec<_> =
            r.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
        format!(
            "  {:<24} {} proved, {} reported: {}",
            r.release.to_string(),
            r.proved,
            r.reported,
            names.join(", ")
        )
    };
    let mut lines = Lines::from(format!(
        "{query}: {proved} proved, {reported} reported, {unknown} unknown, {others} without it"
    ))
    .and(releases.iter().map(release).collect::<Vec<_>>());
    for device in devices {
        let release = device.release.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let (id, fleet) = (device.id.as_str(), device.fleet.as_str());
        lines = lines.and(format!("{id:<40} {fleet:<20} {release:<20} {}", device.basis.as_str()));
    }
    match devices.last() {
        Some(last) if devices.len() == limit as usize => {
            lines.and(format!("more: add --after {}", last.id))
        }
        Some(_) | None => lines,
    }
}
