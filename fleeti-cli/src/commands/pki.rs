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

/// What to do with keys and certificates.
#[derive(Subcommand)]
pub enum Command {
    /// Create the keys and certificates of an organisation on this machine.
    ///
    /// Keep DIR/offline on a machine without a network, copy DIR/online to the server, and publish
    /// DIR/public. All keys are encrypted with one passphrase.
    Init {
        /// Output folder; must not exist.
        dir: PathBuf,
        /// Certificate of an existing root CA (`fleeti pki root create`). DIR/requests then holds
        /// the certificate requests for its ceremony; copy the certificates from the ceremony to
        /// DIR/public.
        #[arg(long)]
        root: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// The offline root CA, which several people open together on a machine without a network.
    #[command(subcommand)]
    Root(root::Command),
    /// Make the key of a new intermediate CA, and the certificate request for the root CA.
    Request {
        /// Purpose of the intermediate CA.
        #[arg(value_parser = root::purpose_of)]
        purpose: Purpose,
        /// The signing service's folder, with `online` and `public`.
        #[arg(long)]
        pki: PathBuf,
        /// Make the key in a token (PKCS#11, RFC 7512), as in
        /// `pkcs11:token=T;object=device-ca-2?module-path=/M.so`.
        #[arg(long)]
        uri: Option<String>,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// The trust bundle: the intermediate CAs that the server and devices trust.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Transitions from an old trust anchor to the next one: they let devices with old images find
    /// the current server without a visit.
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
                    Some("choose a new folder; keys are never overwritten"),
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
