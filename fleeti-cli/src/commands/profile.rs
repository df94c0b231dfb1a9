//! `fleeti profile`.

use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_core::profile::{self, Profile, Revision};
use std::path::{Path, PathBuf};

/// What to do with profiles.
#[derive(Subcommand)]
pub enum Command {
    /// Check a profile: every error at once, with path, line and remedy.
    Check {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Check { file } => {
            let profile = read(&file)?;
            let revision = Revision::new(1, profile).map_err(Failure::plain)?;
            output.data(&revision, |r| format!("{} is a good profile; digest {}", r.profile.name, r.digest));
            Ok(())
        }
    }
}

/// Reads and checks a profile.
pub fn read(file: &Path) -> Result<Profile, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::plain(format!("{}: {e}", file.display())))?;
    profile::check(&text).map_err(|findings| {
        let list: Vec<_> = findings.iter().map(|f| format!("{}:{}", file.display(), f.to_string().trim_start_matches("line "))).collect();
        Failure::plain(format!("{} errors in {}\n{}", findings.len(), file.display(), list.join("\n")))
    })
}
