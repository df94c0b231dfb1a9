//! `fleeti fleet`.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows, when};
use clap::Subcommand;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::FleetId;
use fleeti_core::wire::fixes::{FleetFixes, MissingFix};

/// What to do with fleets.
#[derive(Subcommand)]
pub enum Command {
    /// List the fleets that have devices, with the numbers of enrolled and of revoked devices.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// List the security fixes that the release of a fleet lacks, the oldest first.
    Fixes {
        /// Fleet id.
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => list(&server, output),
        Command::Fixes { fleet, server } => {
            let found = server.ask(async |c| c.fixes(&fleet).await)?;
            output.data(&found, fixes);
            Ok(())
        }
    }
}

fn fixes(found: &FleetFixes) -> String {
    let Some(release) = &found.release else {
        return "no release is rolled out to the fleet".to_owned();
    };
    if !found.is_known {
        return format!(
            "unknown: the server has no packages of {release}, or no index of the suite"
        );
    }
    let row = |fix: &MissingFix| {
        let MissingFix { package, installed, fixed, since_s } = fix;
        let (package, installed) = (Foreign::log(package), Foreign::log(installed));
        format!(
            "{package}  {installed}  fixed in {}  since {}",
            Foreign::log(fixed),
            when(*since_s)
        )
    };
    let fixes = if found.count == 1 { "fix" } else { "fixes" };
    let mut lines = vec![format!("{release} lacks {} security {fixes}", found.count)];
    lines.extend(found.fixes.iter().map(row));
    lines.join("\n")
}

fn list(server: &Server, output: &Output) -> CommandResult {
    let fleets = server.ask(async |c| c.fleets().await)?;
    output.data(&fleets, |list| {
        rows(list, "no fleet has a device yet; enroll one with `fleeti device enrollment`", |f| {
            let revoked =
                if f.revoked == 0 { String::new() } else { format!(", {} revoked", f.revoked) };
            let noun = if f.devices == 1 { "device" } else { "devices" };
            format!("{:<24} {} {noun}{revoked}", f.name.to_string(), f.devices)
        })
    });
    Ok(())
}
