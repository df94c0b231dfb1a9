//! `fleeti-signer --pki DIR --log DIR --socket PATH`.

use anyhow::{Context, Result, bail};
use clap::Parser;
use fleeti_core::foreign::{self, Foreign};
use fleeti_signer::embedded;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer::{disk, keys, socket};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::fmt::format::debug_fn;

/// The signing service: holds the keys of a Fleeti server, and writes the audit log.
///
/// It runs as its own user, without a network, and accepts one other user on a Unix socket. It
/// reads the passphrase of its keys from the systemd credential fleeti-passphrase, the file named
/// by FLEETI_PASSPHRASE_FILE, the file `passphrase` beside the folder of the keys, or a prompt, in
/// this order. A key file may contain the URI of a key in a token (PKCS#11).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder with `online/` and `public/` (`fleeti pki init`).
    #[arg(long)]
    pki: PathBuf,
    /// Folder of the audit log.
    #[arg(long)]
    log: PathBuf,
    /// Path of the Unix socket to listen on.
    #[arg(long)]
    socket: PathBuf,
    /// User id of the server. Root and the signing service's own user may connect as well.
    #[arg(long)]
    server_uid: Option<u32>,
    /// Name of the server's user in /etc/passwd, instead of its id.
    #[arg(long, value_name = "NAME", conflicts_with = "server_uid")]
    server_user: Option<String>,
    /// Address of the CRL of devices, which is put into every certificate.
    #[arg(long)]
    crl_url: Option<String>,
    /// Folder of the server's builds. Needed, with --outbox, to use release keys (`pki/signing`).
    #[arg(long, requires = "outbox")]
    builds: Option<PathBuf>,
    /// Folder in which the server expects signed releases: its `releases/.staging`, writable by
    /// both users.
    #[arg(long, requires = "builds")]
    outbox: Option<PathBuf>,
    /// Maximum number of certificates in a minute.
    #[arg(long, default_value_t = Limits::default().certificates_per_minute)]
    certificates_per_minute: u32,
    /// Maximum number of Secure Boot operations in a minute: keys made, variables changed, releases
    /// signed for a device.
    #[arg(long, default_value_t = Limits::default().boot_per_minute)]
    boot_per_minute: u32,
    /// Maximum number of releases signed in a minute.
    #[arg(long, default_value_t = Limits::default().releases_per_minute)]
    releases_per_minute: u32,
    /// Maximum number of secrets and recovery keys wrapped or given to devices in a minute.
    #[arg(long, default_value_t = Limits::default().secrets_per_minute)]
    secrets_per_minute: u32,
    /// Maximum number of CRLs signed in a minute.
    #[arg(long, default_value_t = Limits::default().lists_per_minute)]
    lists_per_minute: u32,
    /// Maximum number of acts of the server written to the audit log in a minute. Further ones wait
    /// on the server.
    #[arg(long, default_value_t = Limits::default().records_per_minute)]
    records_per_minute: u32,
}

/// Accounts of this machine. Accounts of a directory service are not in it: --server-uid.
const PASSWD: &str = "/etc/passwd";

/// Maximum characters of the error that ends the process.
const ERROR_CHARS_MAX: usize = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let field = debug_fn(|writer, field, value| foreign::log_field(writer, field.name(), value));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .fmt_fields(field)
        .init();
    run(Arguments::parse()).await.map_or_else(
        |e| {
            eprintln!("Error: {}", Foreign::new(&format!("{e:#}"), ERROR_CHARS_MAX));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

async fn run(a: Arguments) -> Result<()> {
    let server_uid = match &a.server_user {
        Some(name) => Some(uid_of(name, &fs::read_to_string(PASSWD).context(PASSWD)?)?),
        None => a.server_uid,
    };
    let passphrase = keys::passphrase(a.pki.parent().unwrap_or(&a.pki))?;
    let mut keys = keys::open(&a.pki, &passphrase, a.crl_url)?;
    if let (Some(builds), Some(outbox)) = (a.builds, a.outbox) {
        let folders = keys::Folders { builds, outbox, work: a.log.join("releases") };
        keys.releases = keys::open_signing(&a.pki, &passphrase, folders)?.map(Arc::new);
    } else if a.pki.join("signing/release.key").exists() {
        tracing::warn!(
            "ignoring the release keys of pki/signing: set --builds and --outbox to use them"
        );
    }
    if let Some(releases) = &keys.releases {
        tracing::info!("signing releases {}", releases.policy_in_words());
    }
    let limits = Limits {
        certificates_per_minute: a.certificates_per_minute,
        boot_per_minute: a.boot_per_minute,
        releases_per_minute: a.releases_per_minute,
        secrets_per_minute: a.secrets_per_minute,
        lists_per_minute: a.lists_per_minute,
        records_per_minute: a.records_per_minute,
    };
    let service = SigningService::open(keys, &a.log, limits)?;
    tracing::info!("audit log {} in {}", service.log_key().to_text(), a.log.display());
    let own = fs::metadata("/proc/self")?.uid();
    let listener = socket::listen(&a.socket).with_context(|| a.socket.display().to_string())?;
    tracing::info!("listening at {}", a.socket.display());
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let signer = embedded::start(service)?;
    tokio::select! {
        () = socket::serve(listener, signer.clone(), own, server_uid) => {}
        () = disk::watch(&a.log) => {}
        () = signer.stopped() => bail!("the audit log cannot be written"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    Ok(())
}

/// The id of a user in the text of /etc/passwd. Root is refused: it may connect anyway.
fn uid_of(name: &str, passwd: &str) -> Result<u32> {
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).map(str::to_owned))
    });
    let Some(Some(uid)) = user else {
        bail!("there is no user {name:?} in {PASSWD}; create it, or use --server-uid");
    };
    match uid.parse() {
        Ok(0) => bail!("the user {name:?} is root; run the server as its own user"),
        Ok(uid) => Ok(uid),
        Err(_) => bail!("the user {name:?} in {PASSWD} has the id {uid:?}, expected a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::uid_of;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nfleeti-signer:x:998:998::/:/x\n\
                          fleeti:x:999:999:Fleeti server:/var/lib/fleeti:/x\nodd:x:-1:0::/:/x\nshort\n";

    #[test]
    fn the_server_is_found_by_its_whole_name_and_is_never_root() {
        assert_eq!(uid_of("fleeti", PASSWD).unwrap(), 999);
        for (name, said) in [
            ("fleet", "there is no user"),
            ("", "there is no user"),
            ("short", "there is no user"),
            ("root", "is root"),
            ("odd", "expected a number"),
        ] {
            let error = uid_of(name, PASSWD).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}
