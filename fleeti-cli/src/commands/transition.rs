//! `fleeti pki transition`: what an old anchor says of the one that follows it.

use super::keys::{self, Passphrase, public_keys, read, write};
use super::root::{self, Opened};
use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows};
use clap::Subcommand;
use fleeti_core::strict;
use fleeti_core::wire::device::SignedTransition;
use fleeti_pki::certificate;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::openpgp;
use fleeti_pki::signer::Signer;
use fleeti_pki::transition::{self, Change, KIND, ServerMove, Transition};
use fleeti_pki::transparency::note::LogKey;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What follows what.
#[derive(Subcommand)]
pub enum Command {
    /// Have the previous root introduce the next one: devices with old images find to a server of
    /// the next root.
    Root {
        /// The previous root's folder.
        root: PathBuf,
        /// Certificate of the next root.
        #[arg(long)]
        to: PathBuf,
        /// The previous root counts no more on devices that have heard of it.
        #[arg(long)]
        ends_previous: bool,
        /// Where the transition goes.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        opened: Opened,
    },
    /// Have release keys introduce the next release keys.
    ReleaseKeys {
        /// `release.pem` as it was.
        #[arg(long)]
        from: PathBuf,
        /// `release.pem` as it is.
        #[arg(long)]
        to: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Have release keys introduce the next key of the audit log.
    LogKey {
        /// `audit.pub` as it was.
        #[arg(long)]
        from: PathBuf,
        /// `audit.pub` as it is.
        #[arg(long)]
        to: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Have release keys say that an audit log goes on from a checkpoint: after it was restored
    /// from an older backup. Devices forget what they had seen after it, and their alarm.
    LogReset {
        /// `audit.pub` of the log.
        #[arg(long)]
        log: PathBuf,
        /// A checkpoint of the restored log: `audit/checkpoint` of the signer.
        #[arg(long)]
        checkpoint: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Have release keys say that the server has another address. Publish it before the server
    /// moves; afterwards whoever answers at the previous address (a file server will do) can serve
    /// `transitions.json` to devices that were away.
    Server {
        /// The address that devices have, as in `https://old.example:8443`.
        #[arg(long)]
        from: String,
        /// The next address, as in `https://fleeti.example:8443`.
        #[arg(long)]
        to: String,
        /// The next MQTT address, as in `fleeti.example:8883`.
        #[arg(long)]
        mqtt: String,
        /// The HTTP proxy through which devices reach both, as in `http://proxy.example:3128`.
        #[arg(long)]
        proxy: Option<String>,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Have release keys introduce other OpenPGP keys, where those that images know can sign no
    /// more. Devices then take `SHA256SUMS.gpg` by the next ones, until they run an image that
    /// brings its own.
    OpenpgpKeys {
        /// `openpgp.gpg` as images have it. Repeat it where they have several; a part of one counts
        /// as well.
        #[arg(long, required = true)]
        from: Vec<PathBuf>,
        /// `openpgp.gpg` as it is from now on: what `pki openpgp-key` wrote.
        #[arg(long)]
        to: PathBuf,
        /// The `release.pem` that devices have.
        #[arg(long)]
        release_keys: PathBuf,
        #[command(flatten)]
        signed: Signed,
    },
    /// Add another person's signature.
    Sign {
        /// The transition.
        transition: PathBuf,
        /// A release key.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Publish a transition: the server keeps it for ever and tells devices of it.
    Publish {
        /// The transition.
        transition: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Show what was published.
    Show {
        #[command(flatten)]
        server: Server,
    },
}

/// Who signs, and where it goes.
#[derive(clap::Args)]
pub struct Signed {
    /// A release key that devices know. Others add theirs with `transition sign`.
    #[arg(long)]
    key: PathBuf,
    /// Where the transition goes.
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
            "made {0}; {n} more must sign it: `fleeti pki transition sign {0} --key ...`",
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
                    "root after {from_sha256}{}",
                    if ends_previous { ", which ends" } else { "" }
                )
            }
            Ok(Change::ReleaseKeys { from_sha256, .. }) => {
                format!("release keys after {from_sha256}")
            }
            Ok(Change::LogKey { to, .. }) => format!("key of the audit log {to}"),
            Ok(Change::LogReset { log, .. }) => format!("reset of the audit log {log}"),
            Ok(Change::Server(moved)) => {
                format!("the server {} moves to {}", moved.from, moved.https_url)
            }
            Ok(Change::OpenpgpKeys { to_base64, .. }) => {
                format!("OpenPGP keys, {} characters", to_base64.len())
            }
            Err(e) => e.to_string(),
        };
        format!("{what}, {} signatures", signed.signatures.len())
    };
    rows(all, "there are no transitions", line)
}
