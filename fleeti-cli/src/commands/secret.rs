//! `fleeti secret`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use clap::Subcommand;
use fleeti_core::id::{FleetId, SecretName};
use fleeti_core::wire::vault::{FleetSecret, SECRET_MAX};
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What to do with secrets of fleets.
#[derive(Subcommand)]
pub enum Command {
    /// Set a secret of a fleet from a file, or from standard input. A terminal prompts for it.
    ///
    /// Devices get secrets at each boot, after they have proved the level of `fleeti attest policy
    /// FLEET --secrets`. The agent writes them to memory, as /run/fleeti-secrets/NAME. A service
    /// reads one with `LoadCredential=NAME:/run/fleeti-secrets/NAME` and is started by
    /// `WantedBy=fleeti-secrets.target`.
    ///
    /// A secret that the profile marks with `boot = true` stays on the encrypted data partition and
    /// is in /run/fleeti-boot-secrets/NAME before the network starts. A device tries a new value
    /// beside the old one, which returns if the server is not reached: set the new value first,
    /// look at `fleeti device show`, then change the network.
    Set {
        /// Name of the fleet.
        fleet: FleetId,
        /// Name of the secret, as in `wifi.psk`.
        name: SecretName,
        /// File with the value; every byte counts, also a line end.
        #[arg(long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// List the names of a fleet's secrets, without their values.
    List {
        /// Name of the fleet.
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a secret of a fleet. Connected devices delete it after their next attestation, but
    /// may have copied it.
    Remove {
        /// Name of the fleet.
        fleet: FleetId,
        /// Name of the secret.
        name: SecretName,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let (secrets, said) = match command {
        Command::Set { fleet, name, file, server } => {
            let value = read(file.as_ref())?;
            let secrets = block_on(async {
                server.client()?.set_secret(&fleet, &name, &value).await.map_err(refused)
            })?;
            (
                secrets,
                Lines::from(format!(
                    "{name} is set; devices of {fleet} get it when they prove the required level (`fleeti attest policy {fleet}`)"
                )),
            )
        }
        Command::List { fleet, server } => (
            block_on(async { server.client()?.secrets(&fleet).await.map_err(refused) })?,
            Lines::default(),
        ),
        Command::Remove { fleet, name, server } => {
            let secrets = block_on(async {
                server.client()?.remove_secret(&fleet, &name).await.map_err(refused)
            })?;
            (
                secrets,
                Lines::from(format!(
                    "{name} is removed; devices may have copied it, so change it where it is accepted if they must not use it"
                )),
            )
        }
    };
    output.data(&secrets, |list| {
        let line = |s: &FleetSecret| {
            format!("{:<32} version {:<5} set {}", s.name.to_string(), s.version, when(s.changed_s))
        };
        said.and(rows(
            list,
            "no secrets; set one with `fleeti secret set FLEET NAME --file FILE`",
            line,
        ))
    });
    Ok(())
}

fn read(file: Option<&PathBuf>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = match file {
        Some(path) => Zeroizing::new(super::keys::read(path)?),
        None if std::io::stdin().is_terminal() => super::keys::prompt("secret")?,
        None => {
            let mut value = Zeroizing::new(Vec::new());
            std::io::stdin()
                .take(SECRET_MAX as u64 + 1)
                .read_to_end(&mut value)
                .map_err(Failure::plain)?;
            value
        }
    };
    if value.is_empty() || value.len() > SECRET_MAX {
        return Err(Failure::plain(format!(
            "the secret has {} bytes, expected 1 to {SECRET_MAX}",
            value.len()
        )));
    }
    Ok(value)
}
