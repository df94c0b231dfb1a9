//! The data folder: everything a server needs.
//!
//! ```text
//! DIR/pki/online/{device-ca,server-ca}.key   sealed keys   (`fleeti pki init DIR/pki`; offline/ goes elsewhere)
//! DIR/pki/public/                            certificates and public keys
//! DIR/pki/signing/{release,openpgp,db}.key   only where this server may sign releases by itself
//! DIR/passphrase                             opens the sealed keys, mode 0600; a systemd credential is better
//! DIR/admin.token                            made at the first start, mode 0600
//! DIR/fleeti.db  DIR/releases/  DIR/builds/
//! ```

use anyhow::{Context, Result, bail};
use fleeti_build::release::ReleaseSigners;
use fleeti_pki::certificate::{self, Authority};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::sealed;
use fleeti_pki::signer::SoftKey;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use x509_cert::Certificate;

/// The folder of release keys, relative to the data folder.
const SIGNING: &str = "pki/signing";

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// API and web.
    pub api: SocketAddr,
    /// Device port.
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
    /// DNS names and addresses that devices call the server by; the first is what enrollment records name.
    pub names: Vec<String>,
    /// The agent that goes into images; beside the server's program by default.
    pub agent: Option<PathBuf>,
    /// How long the parts of a connection may take.
    pub limits: Limits,
}

/// Limits of the MQTT port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// TLS handshake and CONNECT, milliseconds each.
    pub handshake_ms: u64,
    /// A write to a peer that does not read, milliseconds.
    pub write_ms: u64,
    /// Connections at once.
    pub connections: usize,
    /// Handshakes at once.
    pub handshakes: usize,
}

impl Config {
    /// A server on loopback, with ports of the system's choice.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data: data.into(),
            api: any,
            https: any,
            mqtt: any,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            agent: None,
            limits: Limits { handshake_ms: 10_000, write_ms: 10_000, connections: 20_000, handshakes: 256 },
        }
    }
    /// Whether this server may sign releases by itself.
    #[must_use]
    pub fn holds_signing_keys(&self) -> bool {
        self.data.join(SIGNING).join("release.key").exists()
    }
}

/// The server's keys and certificates, opened.
pub struct Pki {
    /// Signs certificates of devices.
    pub device_ca: Certificate,
    device_key: SoftKey,
    server_ca: Certificate,
    server_key: SoftKey,
    /// SHA-256 of the root.
    pub root_sha256: String,
    /// Who may release.
    pub release_keys: ReleaseKeys,
}

impl Pki {
    /// Opens the keys of a data folder.
    ///
    /// # Errors
    /// Names the file that is missing or does not open, and what to do.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join("pki");
        if !folder.join("online").exists() {
            bail!("{} has no keys; make them with `fleeti pki init {}`, then take offline/ away", data.display(), folder.display());
        }
        let passphrase = passphrase(data)?;
        let key = |purpose: &str| -> Result<SoftKey> {
            let path = folder.join("online").join(format!("{purpose}.key"));
            let file = fs::read(&path).with_context(|| path.display().to_string())?;
            let opened = sealed::open(&file, purpose, &passphrase).with_context(|| path.display().to_string())?;
            Ok(SoftKey::from_pkcs8_der(&opened)?)
        };
        let text = |name: &str| {
            let path = folder.join("public").join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        Ok(Self {
            device_ca: certificate::from_pem(&text("device-ca.pem")?)?,
            device_key: key(purpose::DEVICE_CA)?,
            server_ca: certificate::from_pem(&text("server-ca.pem")?)?,
            server_key: key(purpose::SERVER_CA)?,
            root_sha256: certificate::fingerprint(&certificate::from_pem(&text("root.pem")?)?)?,
            release_keys: ReleaseKeys::from_pem(&text("release.pem")?)?,
        })
    }
    /// Signs devices and their revocation list.
    #[must_use]
    pub fn device_authority(&self) -> Authority<'_> {
        Authority { certificate: &self.device_ca, signer: &self.device_key }
    }
    /// Signs servers.
    #[must_use]
    pub fn server_authority(&self) -> Authority<'_> {
        Authority { certificate: &self.server_ca, signer: &self.server_key }
    }
}

/// The keys that sign releases, where an administrator has chosen to keep them on the server: whoever takes the
/// server then can make releases. Opened for one release, and forgotten after it.
pub struct SigningKeys {
    release: SoftKey,
    openpgp: OpenPgpKey,
    db: SoftKey,
    db_certificate_pem: String,
}

impl SigningKeys {
    /// Opens the keys in `DIR/pki/signing`.
    ///
    /// # Errors
    /// Names the file that is missing or does not open.
    pub fn open(data: &Path) -> Result<Self> {
        let passphrase = passphrase(data)?;
        let opened = |purpose: &str| {
            let path = data.join(SIGNING).join(format!("{purpose}.key"));
            let file = fs::read(&path).with_context(|| path.display().to_string())?;
            sealed::open(&file, purpose, &passphrase).with_context(|| path.display().to_string())
        };
        let certificate = data.join("pki/public/db.pem");
        Ok(Self {
            release: SoftKey::from_pkcs8_der(&opened(purpose::RELEASE)?)?,
            openpgp: OpenPgpKey::from_bytes(&opened(purpose::OPENPGP)?)?,
            db: SoftKey::from_pkcs8_der(&opened(purpose::DB)?)?,
            db_certificate_pem: fs::read_to_string(&certificate).with_context(|| certificate.display().to_string())?,
        })
    }
    /// As `fleeti-build` takes them.
    #[must_use]
    pub fn signers(&self) -> ReleaseSigners<'_> {
        let Self { release, openpgp, db, db_certificate_pem } = self;
        ReleaseSigners { release, openpgp, db, db_certificate_pem }
    }
}

/// Where the passphrase of an unattended start comes from, in this order: a systemd credential, the file that
/// the environment names, the data folder.
fn passphrase(data: &Path) -> Result<Vec<u8>> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join("fleeti-passphrase"));
    let named = std::env::var_os("FLEETI_PASSPHRASE_FILE").map(PathBuf::from);
    let candidates = [credential, named, Some(data.join("passphrase"))];
    let Some(path) = candidates.into_iter().flatten().find(|p| p.exists()) else {
        bail!(
            "no passphrase: set the credential fleeti-passphrase, FLEETI_PASSPHRASE_FILE, or write {}",
            data.join("passphrase").display()
        );
    };
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

/// The administrator's token; made at the first start.
///
/// # Errors
/// I/O.
pub fn admin_token(data: &Path) -> Result<String> {
    let path = data.join("admin.token");
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text.trim().to_owned());
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(token)
}
