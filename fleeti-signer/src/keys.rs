//! Opens the keys of a folder: encrypted files, each for one purpose.

use crate::release::ServerRelease;
use crate::service::{Issuer, Keys};
use anyhow::{Context, Result, bail};
use fleeti_pki::approval::Policy;
use fleeti_pki::certificate;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::sealed;
use fleeti_pki::signer::{Signer, keyfile};
use fleeti_pki::transparency::note::LogKey;
use fleeti_pki::wrap::WrapKey;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Maximum number of keys of one purpose.
const ISSUERS_MAX: u32 = 99;

/// Opens `online/{device-ca,server-ca,audit}.key`, `online/boot-wrap.key` if it exists, and
/// `public/{device-ca,server-ca,release}.pem`, `public/audit.pub`.
///
/// # Errors
/// Names the file that is missing or does not open.
pub fn open(pki: &Path, passphrase: &[u8], crl_url: Option<String>) -> Result<Keys> {
    let text = |name: &str| {
        let path = pki.join("public").join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    // The first, second, ... key, as `fleeti pki request` makes them. Skip a key without a
    // certificate: the root CA has not signed its request yet.
    let issuers = |purpose: &str| -> Result<Vec<Issuer>> {
        let mut found = Vec::new();
        for number in 1..=ISSUERS_MAX {
            let name = if number == 1 { purpose.to_owned() } else { format!("{purpose}-{number}") };
            let has = |folder: &str, ending: &str| {
                pki.join(folder).join(format!("{name}.{ending}")).exists()
            };
            if number > 1 && !(has("online", "key") && has("public", "pem")) {
                continue;
            }
            let certificate = certificate::from_pem(&text(&format!("{name}.pem"))?)?;
            let key = key(&pki.join("online"), &name, purpose, passphrase)?;
            found.push(
                Issuer::new(certificate, key)
                    .with_context(|| format!("{name}.pem and {name}.key"))?,
            );
        }
        Ok(found)
    };
    let audit = key(&pki.join("online"), purpose::AUDIT, purpose::AUDIT, passphrase)?;
    let log = LogKey::from_text(&text("audit.pub")?).context("audit.pub")?;
    if LogKey::of(log.name(), audit.as_ref())? != log {
        bail!("audit.pub is not the public key of audit.key");
    }
    let release = ReleaseKeys::from_pem(&text("release.pem")?).context("release.pem")?;
    let wrap = pki.join("online").join(format!("{}.key", purpose::BOOT_WRAP));
    let boot_wrap = match fs::read(&wrap) {
        Ok(file) => Some(
            sealed::open(&file, purpose::BOOT_WRAP, passphrase)
                .and_then(|k| WrapKey::from_bytes(&k))
                .context("boot-wrap.key")?,
        ),
        Err(_) => None,
    };
    let (device, server) = (issuers(purpose::DEVICE_CA)?, issuers(purpose::SERVER_CA)?);
    Ok(Keys { device, server, audit, log, release, boot_wrap, releases: None, crl_url })
}

/// Opens a key of a folder: encrypted, or in a token.
fn key(folder: &Path, name: &str, purpose: &str, passphrase: &[u8]) -> Result<Box<dyn Signer>> {
    let path = folder.join(format!("{name}.key"));
    let named = || path.display().to_string();
    let file = fs::read(&path).with_context(named)?;
    let pin = keyfile::pin_source(&file)
        .with_context(named)?
        .map(|path| read_secret(&path))
        .transpose()?;
    keyfile::open(&file, purpose, pin.as_deref().unwrap_or(passphrase)).with_context(named)
}

/// Folders that a signing service with release keys uses.
pub struct Folders {
    /// The server's builds.
    pub builds: PathBuf,
    /// The server's folder for signed releases.
    pub outbox: PathBuf,
    /// Private work folder, emptied at the start.
    pub work: PathBuf,
}

/// The release keys in `signing/` with `signing/policy.toml`; `None` if there is no
/// `signing/release.key`.
///
/// # Errors
/// Names the file that is missing or does not open.
pub fn open_signing(
    pki: &Path,
    passphrase: &[u8],
    folders: Folders,
) -> Result<Option<ServerRelease>> {
    let folder = pki.join("signing");
    if !folder.join("release.key").exists() {
        return Ok(None);
    }
    let policy = folder.join("policy.toml");
    let text = fs::read_to_string(&policy).with_context(|| {
        format!(
            "{}: this is the approval policy for releases; write it with `fleeti pki approvers`",
            policy.display()
        )
    })?;
    let public = |name: &str| {
        let path = pki.join("public").join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (release, db) = (
        key(&folder, purpose::RELEASE, purpose::RELEASE, passphrase)?,
        key(&folder, purpose::DB, purpose::DB, passphrase)?,
    );
    let has_pcr = folder.join(format!("{}.key", purpose::PCR)).exists();
    let pcr = has_pcr.then(|| key(&folder, purpose::PCR, purpose::PCR, passphrase)).transpose()?;
    let db_certificate_pem = public("db.pem")?;
    if certificate::public_key_der(&certificate::from_pem(&db_certificate_pem)?)?
        != db.public_key_der()
    {
        bail!("db.pem is not the certificate of signing/db.key");
    }
    let known = ReleaseKeys::from_pem(&public("release.pem")?)?;
    if !known.keys().iter().any(|k| k.der() == release.public_key_der()) {
        bail!("signing/release.key is not in release.pem: devices would refuse its releases");
    }
    let Folders { builds, outbox, work } = folders;
    // Remove what a stopped signing service has left behind.
    fs::remove_dir_all(&work)
        .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&work)
        .with_context(|| work.display().to_string())?;
    Ok(Some(ServerRelease {
        release,
        openpgp: OpenPgpKey::new(key(&folder, purpose::OPENPGP, purpose::OPENPGP, passphrase)?)
            .context("openpgp.key")?,
        db,
        db_certificate_pem,
        pcr,
        policy: Policy::parse(&text).with_context(|| policy.display().to_string())?,
        builds,
        outbox,
        work,
    }))
}

/// Reads the passphrase from the first of these: the systemd credential, the file that the
/// environment names, the file `passphrase` in `folder`, a prompt at a terminal.
///
/// # Errors
/// Names the sources if none has a passphrase.
pub fn passphrase(folder: &Path) -> Result<Vec<u8>> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|d| PathBuf::from(d).join("fleeti-passphrase"));
    let named = std::env::var_os("FLEETI_PASSPHRASE_FILE").map(PathBuf::from);
    let last = folder.join("passphrase");
    let candidates = [credential, named, Some(last.clone())];
    let Some(path) = candidates.into_iter().flatten().find(|p| p.exists()) else {
        if std::io::stdin().is_terminal() {
            return Ok(rpassword::prompt_password("passphrase of the keys: ")?.into_bytes());
        }
        bail!(
            "no passphrase: set the credential fleeti-passphrase, FLEETI_PASSPHRASE_FILE, or write {}",
            last.display()
        );
    };
    read_secret(&path)
}

fn read_secret(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}
