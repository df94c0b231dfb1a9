//! `fleeti pki`.

use super::keys::{self, Passphrase};
use super::{bundle, root, transition};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Subcommand;
use fleeti_pki::certificate::{self, Purpose};
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
        /// Certificate of a root that is elsewhere (`fleeti pki root create`): DIR/requests is then
        /// for its ceremony, and DIR/public gets the certificates that come out of it.
        #[arg(long)]
        root: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// The offline root: opened by several people together, on a machine without a network.
    #[command(subcommand)]
    Root(root::Command),
    /// Make the key of a new intermediate, and the request that the root is to sign.
    Request {
        /// What the intermediate is to certify.
        #[arg(value_parser = root::purpose_of)]
        purpose: Purpose,
        /// The signer's folder, with `online` and `public`.
        #[arg(long)]
        pki: PathBuf,
        /// Make the key in a token (PKCS#11, RFC 7512), as in
        /// `pkcs11:token=T;object=device-ca-2?module-path=/M.so`.
        #[arg(long)]
        uri: Option<String>,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// The intermediates that count: what came out of a ceremony, in the field.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// What old anchors say of new ones: how devices with old images find to today's server without
    /// a visit.
    #[command(subcommand)]
    Transition(transition::Command),
    #[command(flatten)]
    Keys(keys::Command),
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Init { dir, root, passphrase } => {
            if dir.exists() {
                return Err(Failure::new(
                    format!("{} exists already", dir.display()),
                    Some("choose a new folder: keys are never overwritten"),
                ));
            }
            let passphrase = passphrase.read()?;
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let files = match &root {
                None => hierarchy::create(&passphrase, now_s),
                Some(path) => {
                    let pem = String::from_utf8(keys::read(path)?).map_err(Failure::plain)?;
                    certificate::from_pem(&pem)
                        .and_then(|root| hierarchy::create_below(&root, &passphrase, now_s))
                }
            };
            let files = files.map_err(Failure::plain)?;
            for file in &files {
                keys::write(&dir.join(&file.path), &file.bytes, file.secret)?;
            }
            let paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
            output.data(&json!({"dir": dir, "files": paths}), |_| {
                let dir = dir.display();
                Lines::from(format!("made {} files in {dir}", paths.len()))
                    .and(format!("  keep {dir}/offline away from networks"))
            });
            Ok(())
        }
        Command::Root(command) => root::run(command, output),
        Command::Request { purpose, pki, uri, passphrase } => {
            bundle::request(&pki, purpose, uri.as_deref(), &passphrase, output)
        }
        Command::Bundle(command) => bundle::run(command, output),
        Command::Transition(command) => transition::run(command, output),
        Command::Keys(command) => keys::run(command, output),
    }
}
