//! `fleeti pki`.

use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_pki::hierarchy::{self, purpose};
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::signer::{Algorithm, SoftKey};
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
    /// Make a release key of a person: sealed in KEY, its public half beside it as KEY's name with `.pem`.
    ReleaseKey {
        /// As in `alice.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show or change who may sign releases, and how many of them must.
    ///
    /// This is `release.pem` of a `public` folder. It goes into images when they are built, so a device trusts a new key
    /// from its next update on: add the new key, update every device by the old ones, then remove the old key.
    ReleaseKeys {
        /// The `public` folder.
        public: PathBuf,
        /// Public keys to add.
        #[arg(long)]
        add: Vec<PathBuf>,
        /// Ids of keys to remove.
        #[arg(long)]
        remove: Vec<String>,
        /// How many must sign.
        #[arg(long)]
        threshold: Option<usize>,
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
        Command::ReleaseKey { key, passphrase } => {
            let made = SoftKey::generate(Algorithm::P384).map_err(Failure::plain)?;
            let public = PublicKey::of(&made).map_err(Failure::plain)?;
            let secret = made.to_pkcs8_der().map_err(Failure::plain)?;
            let sealed = fleeti_pki::sealed::seal(&secret, purpose::RELEASE, &passphrase.read()?).map_err(Failure::plain)?;
            let pem = key.with_extension("pem");
            let failed = |path: &Path| {
                let path = path.display().to_string();
                move |e| Failure::plain(format!("{path}: {e}"))
            };
            write(&key, &sealed, true).map_err(failed(&key))?;
            write(&pem, public.to_pem().map_err(Failure::plain)?.as_bytes(), false).map_err(failed(&pem))?;
            output.data(&json!({"key": key, "public": pem, "key_id": public.id()}), |_| {
                format!("made {} and {}, key id {}", key.display(), pem.display(), public.id())
            });
            Ok(())
        }
        Command::ReleaseKeys { public, add, remove, threshold } => release_keys(&public, &add, &remove, threshold, output),
    }
}

fn release_keys(public: &Path, add: &[PathBuf], remove: &[String], threshold: Option<usize>, output: &Output) -> CommandResult {
    let path = public.join("release.pem");
    let read = |path: &Path| {
        let failed = |e: String| Failure::plain(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        ReleaseKeys::from_pem(&text).map_err(|e| failed(e.to_string()))
    };
    let before = read(&path)?;
    let mut keys = before.keys().to_vec();
    for file in add {
        keys.extend(read(file)?.keys().iter().cloned());
    }
    if let Some(unknown) = remove.iter().find(|id| !keys.iter().any(|k| k.id() == **id)) {
        return Err(Failure::new(format!("there is no release key {unknown}"), Some("`fleeti pki release-keys PUBLIC` shows them")));
    }
    keys.retain(|k| !remove.contains(&k.id()));
    let after = ReleaseKeys::new(keys, threshold.unwrap_or(before.threshold())).map_err(Failure::plain)?;
    if !add.is_empty() || !remove.is_empty() || threshold.is_some() {
        let new = path.with_extension("new");
        let text = after.to_pem().map_err(Failure::plain)?;
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    }
    let ids: Vec<_> = after.keys().iter().map(PublicKey::id).collect();
    output.data(&json!({"threshold": after.threshold(), "keys": ids}), |_| {
        format!("{} of {} release keys must sign:\n  {}", after.threshold(), ids.len(), ids.join("\n  "))
    });
    Ok(())
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
