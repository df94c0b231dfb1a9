//! `fleeti pki`.

use super::keys::{self, Passphrase};
use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_pki::hierarchy;
use serde_json::json;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with keys.
#[derive(Subcommand)]
pub enum Command {
    /// Make the keys and certificates of an organisation, all on this machine.
    ///
    /// DIR/offline belongs on a machine without a network, DIR/online to the server, DIR/public to
    /// everybody. Every key is sealed under one passphrase.
    Init {
        /// Where; must not exist.
        dir: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    #[command(flatten)]
    Keys(keys::Command),
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Init { dir, passphrase } => {
            if dir.exists() {
                return Err(Failure::new(
                    format!("{} exists already", dir.display()),
                    Some("choose a new folder: keys are never overwritten"),
                ));
            }
            let passphrase = passphrase.read()?;
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let files = hierarchy::create(&passphrase, now_s).map_err(Failure::plain)?;
            for file in &files {
                keys::write(&dir.join(&file.path), &file.bytes, file.secret)?;
            }
            let paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
            output.data(&json!({"dir": dir, "files": paths}), |_| {
                format!("made {} files in {dir}\n  keep {dir}/offline away from networks", paths.len(), dir = dir.display())
            });
            Ok(())
        }
        Command::Keys(command) => keys::run(command, output),
    }
}
