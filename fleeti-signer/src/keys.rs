//! Keys out of a folder: sealed files, each for its purpose.

use crate::keeper::{Issuer, Keys};
use anyhow::{Context, Result, bail};
use fleeti_pki::boot_keys::WrapKey;
use fleeti_pki::certificate;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::sealed;
use fleeti_pki::signer::SoftKey;
use fleeti_pki::signer::fast::FastKey;
use fleeti_pki::transparency::note::LogKey;
use std::fs;
use std::path::{Path, PathBuf};

/// Opens `online/{device-ca,server-ca,audit}.key`, `online/boot-wrap.key` if there is one, and
/// `public/{device-ca,server-ca,release}.pem`, `public/audit.pub`.
///
/// # Errors
/// Names the file that is missing or does not open.
pub fn open(pki: &Path, passphrase: &[u8], crl_url: Option<String>) -> Result<Keys> {
    let sealed_key = |purpose: &str| {
        let path = pki.join("online").join(format!("{purpose}.key"));
        let file = fs::read(&path).with_context(|| path.display().to_string())?;
        sealed::open(&file, purpose, passphrase).with_context(|| path.display().to_string())
    };
    let text = |name: &str| {
        let path = pki.join("public").join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let issuer = |purpose: &str| -> Result<Issuer> {
        let certificate = certificate::from_pem(&text(&format!("{purpose}.pem"))?)?;
        let key = FastKey::from_pkcs8_der(&sealed_key(purpose)?)?;
        Ok(Issuer { certificate, key: Box::new(key) })
    };
    let audit = SoftKey::from_pkcs8_der(&sealed_key(purpose::AUDIT)?)?;
    let log = LogKey::from_text(&text("audit.pub")?).context("audit.pub")?;
    if LogKey::of(log.name(), &audit)? != log {
        bail!("audit.pub is not the public half of audit.key");
    }
    let release = ReleaseKeys::from_pem(&text("release.pem")?).context("release.pem")?;
    let has_wrap = pki.join("online").join(format!("{}.key", purpose::BOOT_WRAP)).exists();
    let boot_wrap = if has_wrap { Some(WrapKey::from_bytes(&sealed_key(purpose::BOOT_WRAP)?)?) } else { None };
    Ok(Keys { device: issuer(purpose::DEVICE_CA)?, server: issuer(purpose::SERVER_CA)?, audit, log, release, boot_wrap, crl_url })
}

/// Where the passphrase of an unattended start comes from, in this order: a systemd credential, the file that the
/// environment names, the file `passphrase` in `folder`.
///
/// # Errors
/// Says where it was looked for.
pub fn passphrase(folder: &Path) -> Result<Vec<u8>> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join("fleeti-passphrase"));
    let named = std::env::var_os("FLEETI_PASSPHRASE_FILE").map(PathBuf::from);
    let last = folder.join("passphrase");
    let candidates = [credential, named, Some(last.clone())];
    let Some(path) = candidates.into_iter().flatten().find(|p| p.exists()) else {
        bail!("no passphrase: set the credential fleeti-passphrase, FLEETI_PASSPHRASE_FILE, or write {}", last.display());
    };
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}
