//! `fleeti pki transition`: documents in which an old trust anchor signs the next one.

use super::keys::{self, Passphrase, public_keys, read, write};
use super::request::{block_on, refused};
use super::root::{self, Opened};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows};
use clap::Subcommand;
use fleeti_core::strict;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::certificate;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::openpgp;
use fleeti_pki::signer::Signer;
use fleeti_pki::transition::{self, Change, KIND, ServerMove, Transition};
use fleeti_pki::transparency::note::LogKey;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with transitions.
#[derive(Subcommand)]
pub enum Command {
    /// Sign the transition to the next root CA with the previous one. Devices with old images can
    /// then reach a server of the next root CA.
    Root {
        /// Folder of the previous root CA.
        root: PathBuf,
        /// Certificate of the next root CA.
        #[arg(long)]
        to: PathBuf,
        /// Devices that get this transition stop trusting the previous root CA.
        #[arg(long)]
        ends_previous: bool,
        /// Output file of the transition.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        opened: Opened,
    },
    /// Sign the transition to the next release keys with release keys.
    ReleaseKeys {
        /// Previous `release.pem`.
        #[arg(long)]
        from: PathBuf,
        /// Next `release.pem`.
        #[arg(long)]
        to: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Sign the transition to the next key of the audit log with release keys.
    LogKey {
        /// Previous `audit.pub`.
        #[arg(long)]
        from: PathBuf,
        /// Next `audit.pub`.
        #[arg(long)]
        to: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Sign, with release keys, that an audit log continues from a checkpoint, after a restore from
    /// an older backup. Devices drop the later checkpoints that they have, and their alarm.
    LogReset {
        /// `audit.pub` of the log.
        #[arg(long)]
        log: PathBuf,
        /// Checkpoint of the restored log: `audit/checkpoint` in the signing service's folder.
        #[arg(long)]
        checkpoint: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Sign, with release keys, that the server moves to another address. Publish it before the
    /// move. Afterwards, any server at the previous address (a file server is enough) can serve
    /// `transitions.json` to devices that were offline.
    Server {
        /// Current address, as in `https://old.example:8443`.
        #[arg(long)]
        from: String,
        /// Next address, as in `https://fleeti.example:8443`.
        #[arg(long)]
        to: String,
        /// Next MQTT address, as in `fleeti.example:8883`.
        #[arg(long)]
        mqtt: String,
        /// HTTP proxy through which devices reach both addresses, as in
        /// `http://proxy.example:3128`.
        #[arg(long)]
        proxy: Option<String>,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Sign the transition to other OpenPGP keys with release keys, if the OpenPGP keys of images
    /// can no longer sign. Devices then verify `SHA256SUMS.gpg` with the next keys until they run
    /// an image that contains its own.
    OpenpgpKeys {
        /// `openpgp.gpg` of the images. Repeat it if images have different ones; a subset of its
        /// keys matches as well.
        #[arg(long, required = true)]
        from: Vec<PathBuf>,
        /// Next `openpgp.gpg`, as written by `pki openpgp-key`.
        #[arg(long)]
        to: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Add the signature of another release key.
    Sign {
        /// The transition.
        transition: PathBuf,
        /// A release key.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Publish a transition. The server keeps it permanently and announces it to devices.
    Publish {
        /// The transition.
        transition: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Show the published transitions.
    Show {
        #[command(flatten)]
        server: Server,
    },
}

/// The signing key and the output file.
#[derive(clap::Args)]
pub struct Signed {
    /// A release key that devices trust. Other release signers add theirs with `fleeti pki
    /// transition sign`.
    #[arg(long)]
    key: PathBuf,
    /// Output file of the transition.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(Failure::plain)
}

impl Signed {
    fn sign(&self, change: Change, keys: &ReleaseKeys, output: &Output) -> CommandResult {
        let key = release_key(&self.key, &self.passphrase)?;
        transition::check_release_key(keys, key.as_ref()).map_err(Failure::plain)?;
        let made = Transition { kind: KIND.into(), issued_s: now_s(), change };
        let signed = transition::sign(&made, &[key.as_ref()]).map_err(Failure::plain)?;
        let missing = keys.threshold().saturating_sub(1);
        keep(&self.out, &signed, missing, output)
    }
}

fn release_key(path: &Path, passphrase: &Passphrase) -> Result<Box<dyn Signer>, Failure> {
    keys::open(path, purpose::RELEASE, passphrase)
}

fn keep(out: &Path, signed: &SignedTransition, missing: usize, output: &Output) -> CommandResult {
    write(out, &serde_json::to_vec_pretty(signed).map_err(Failure::plain)?, false)?;
    output.data(signed, |_| match missing {
        0 => Lines::from(format!("made {}", out.display()))
            .and(format!("  publish it: `fleeti pki transition publish {}`", out.display())),
        n => format!(
            "made {0}; it needs {n} more signatures: `fleeti pki transition sign {0} --key ...`",
            out.display()
        )
        .into(),
    });
    Ok(())
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let log_key = |path: &Path| LogKey::from_text(&text(path)?).map_err(Failure::plain);
    match command {
        Command::Root { root, to, ends_previous, out, opened } => {
            let next = certificate::from_pem(&text(&to)?).map_err(Failure::plain)?;
            let signed = root::introduce(&root, &opened, &next, ends_previous)?;
            keep(&out, &signed, 0, output)
        }
        Command::ReleaseKeys { from, to, signed } => {
            let (from, to) = (public_keys(&from)?, public_keys(&to)?);
            let from_sha256 = transition::release_keys_sha256(&from).map_err(Failure::plain)?;
            signed.sign(
                Change::ReleaseKeys { from_sha256, to_pem: to.to_pem().map_err(Failure::plain)? },
                &from,
                output,
            )
        }
        Command::LogKey { from, to, release_keys, signed } => {
            let change =
                Change::LogKey { from: log_key(&from)?.to_text(), to: log_key(&to)?.to_text() };
            signed.sign(change, &public_keys(&release_keys)?, output)
        }
        Command::LogReset { log, checkpoint, release_keys, signed } => {
            let change =
                Change::LogReset { log: log_key(&log)?.to_text(), checkpoint: text(&checkpoint)? };
            signed.sign(change, &public_keys(&release_keys)?, output)
        }
        Command::Server { from, to, mqtt, proxy, release_keys, signed } => {
            let bare = |url: String| url.trim_end_matches('/').to_owned();
            let moved = ServerMove {
                from: bare(from),
                https_url: bare(to),
                mqtt_address: mqtt,
                proxy: proxy.map(bare),
            };
            signed.sign(Change::Server(moved), &public_keys(&release_keys)?, output)
        }
        Command::OpenpgpKeys { from, to, release_keys, signed } => {
            let change = openpgp_keys(&from, &to)?;
            signed.sign(change, &public_keys(&release_keys)?, output)
        }
        Command::Sign { transition: path, key, passphrase } => {
            let mut signed: SignedTransition =
                strict::from_slice(&read(&path)?).map_err(Failure::plain)?;
            let key = release_key(&key, &passphrase)?;
            transition::sign_too(&mut signed, key.as_ref()).map_err(Failure::plain)?;
            keys::replace(&path, &serde_json::to_vec_pretty(&signed).map_err(Failure::plain)?)?;
            output.data(&signed, |s| format!("{} signatures", s.signatures.len()));
            Ok(())
        }
        Command::Publish { transition, server } => {
            let signed: SignedTransition =
                strict::from_slice(&read(&transition)?).map_err(Failure::plain)?;
            let all = block_on(async {
                server.client()?.import_transition(&signed).await.map_err(refused)
            })?;
            output.data(&all, |all| describe(all));
            Ok(())
        }
        Command::Show { server } => {
            let all = block_on(async { server.client()?.transitions().await.map_err(refused) })?;
            output.data(&all, |all| describe(all));
            Ok(())
        }
    }
}

fn openpgp_keys(from: &[PathBuf], to: &Path) -> Result<Change, Failure> {
    let rings = from.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let from_sha256 = openpgp::choices(&rings).map_err(Failure::plain)?;
    let next = read(to)?;
    if openpgp::keys(&next).map_err(Failure::plain)?.is_empty() {
        return Err(Failure::plain(format!("{} has no OpenPGP key", to.display())));
    }
    Ok(Change::OpenpgpKeys { from_sha256, to_base64: fleeti_pki::base64_text(&next) })
}

fn describe(all: &[SignedTransition]) -> Lines {
    let line = |signed: &SignedTransition| {
        let what = match transition::read(&signed.transition).map(|t| t.change) {
            Ok(Change::Root { from_sha256, ends_previous, .. }) => {
                format!(
                    "next root of {from_sha256}{}",
                    if ends_previous { " (no longer trusted)" } else { "" }
                )
            }
            Ok(Change::ReleaseKeys { from_sha256, .. }) => {
                format!("next release keys of {from_sha256}")
            }
            Ok(Change::LogKey { to, .. }) => format!("next key of the audit log {to}"),
            Ok(Change::LogReset { log, .. }) => format!("reset of the audit log {log}"),
            Ok(Change::Server(moved)) => {
                format!("server {} moves to {}", moved.from, moved.https_url)
            }
            Ok(Change::OpenpgpKeys { to_base64, .. }) => {
                format!("OpenPGP keys, {} characters", to_base64.len())
            }
            Err(e) => e.to_string(),
        };
        format!("{what}, {} signatures", signed.signatures.len())
    };
    rows(all, "no transitions", line)
}
