//! `fleeti pki`.

use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_pki::hierarchy;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// What to do with keys.
#[derive(Subcommand)]
pub enum Command {
    /// Make the keys and certificates of an organisation.
    ///
    /// DIR/offline belongs on a machine without a network, DIR/online to the server, DIR/public to
    /// everybody. Every key is sealed under one passphrase.
    Init {
        /// Where; must not exist.
        dir: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
}

/// Where the passphrase comes from. Never an argument: arguments are seen by every user of a machine.
#[derive(clap::Args)]
pub struct Passphrase {
    /// File with the passphrase; else `$CREDENTIALS_DIRECTORY/fleeti-passphrase`, else standard input.
    #[arg(long, env = "FLEETI_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// Reads it.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let credential = || std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join("fleeti-passphrase"));
        let file = self.passphrase_file.clone().or_else(|| credential().filter(|p| p.exists()));
        let text = match file {
            Some(path) => std::fs::read(&path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?,
            None => {
                eprint!("passphrase: ");
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map_err(Failure::plain)?;
                line.into_bytes()
            }
        };
        let mut text = Zeroizing::new(text);
        while matches!(text.last(), Some(b'\n' | b'\r')) {
            text.pop();
        }
        if text.len() < 8 {
            return Err(Failure::new("the passphrase has fewer than 8 characters", Some("use --passphrase-file with a long one")));
        }
        Ok(text)
    }
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
                write(&dir.join(&file.path), &file.bytes, file.secret).map_err(|e| Failure::plain(format!("{}: {e}", file.path)))?;
            }
            let paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
            output.data(&json!({"dir": dir, "files": paths}), |_| {
                format!("made {} files in {dir}\n  keep {dir}/offline away from networks", paths.len(), dir = dir.display())
            });
            Ok(())
        }
    }
}

fn write(path: &Path, bytes: &[u8], secret: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
