//! `fleeti profile`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Output, rows};
use clap::Subcommand;
use fleeti_core::profile::{self, Finding, Profile, Revision};
use std::path::{Path, PathBuf};

/// What to do with profiles.
#[derive(Subcommand)]
pub enum Command {
    /// Check a profile and print every error with path, line and remedy.
    Check {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
    },
    /// Save a profile on the server as its next revision.
    Save {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest revision of each profile on the server.
    List {
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Check { file } => {
            let profile = read(&file)?;
            let revision = Revision::new(1, profile).map_err(Failure::plain)?;
            output.data(&revision, |r| format!("{} is valid; digest {}", r.profile.name, r.digest));
            Ok(())
        }
        Command::Save { file, server } => {
            let profile = read(&file)?;
            let saved =
                block_on(async { server.client()?.save_profile(&profile).await.map_err(refused) })?;
            output.data(&saved, |r| {
                format!(
                    "{} revision {}; build it with `fleeti build start {} --version 1`",
                    r.line,
                    r.number,
                    file.display()
                )
            });
            Ok(())
        }
        Command::List { server } => {
            let profiles = block_on(async { server.client()?.profiles().await.map_err(refused) })?;
            output.data(&profiles, |list| {
                rows(list, "no profiles yet; save one with `fleeti profile save FILE`", |r| {
                    format!("{:<16} revision {:<4} {}", r.line, r.number, r.profile.description)
                })
            });
            Ok(())
        }
    }
}

/// Reads and checks a profile.
pub fn read(file: &Path) -> Result<Profile, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::plain(format!("{}: {e}", file.display())))?;
    profile::check(&text).map_err(|findings| {
        let lines = |f: &Finding| {
            let path = if f.path.is_empty() { "document" } else { &f.path };
            [
                format!("{}:{}: {path}: {}", file.display(), f.line, f.message),
                format!("  hint: {}", f.remedy),
            ]
        };
        let details: Vec<_> = findings.iter().flat_map(lines).collect();
        Failure::plain(format!("{} errors in {}", findings.len(), file.display()))
            .with_details(details)
    })
}
