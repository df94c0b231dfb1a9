//! `fleeti fleet`.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Output, rows};
use clap::Subcommand;

/// What to do with fleets.
#[derive(Subcommand)]
pub enum Command {
    /// List the fleets that have devices, with the numbers of enrolled and of revoked devices.
    List {
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let Command::List { server } = command;
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
