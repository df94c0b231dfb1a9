//! The data folder of a server, and its configuration.
//!
//! ```text
//! DIR/pki/online/{device-ca,server-ca,audit}.key   encrypted with the passphrase; with fleeti-signer they are in its folder instead
//! DIR/pki/public/                            certificates and public keys
//! DIR/pki/tpm-manufacturers/{processor,hardware,virtual}/*.pem   certificates of trusted TPM manufacturers; initially none
//! DIR/pki/tpm-manufacturers/{processor,hardware,virtual}/*.crl   CRLs of these manufacturers, or of CAs below them
//! DIR/pki/signing/{release,openpgp,db}.key   only if this server's signing service signs releases, with the approval policy policy.toml
//! DIR/passphrase                             decrypts the keys, mode 0600; a systemd credential is better
//! DIR/audit/                                 the audit log, if the signing service is in this process
//! DIR/admin.token                            made at the first start, mode 0600
//! DIR/pki/admin/{certificate,key}.pem, fingerprint   of the API port, if the server issues its certificate itself
//! DIR/standby/                               for starts without the signing service, mode 0600
//! DIR/fleeti.db  DIR/releases/  DIR/builds/
//! ```

use crate::admin_tls::ApiTls;
use crate::clock::Clock;
use crate::limits::Limits;
use crate::service::retention::Retention;
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use fleeti_pki::certificate;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::tpm::endorsement::{Kind, Manufacturers};
use fleeti_pki::tpm::files;
use fleeti_pki::transparency::note::LogKey;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::keys::Folders;
use fleeti_signer::limits::Limits as SignerLimits;
use fleeti_signer::service::SigningService;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;

/// Maximum size of a file of a TPM manufacturer, in bytes: their CRLs have megabytes.
const MANUFACTURER_FILE_MAX: u64 = 16 << 20;

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Address of API and pages.
    pub api: SocketAddr,
    /// TLS of the API port.
    pub api_tls: ApiTls,
    /// Address of the device port (HTTPS).
    pub https: SocketAddr,
    /// Address of the MQTT port.
    pub mqtt: SocketAddr,
    /// DNS names and addresses by which devices reach the server. Enrollment records contain the
    /// first one.
    pub names: Vec<String>,
    /// HTTP proxy through which devices reach the server, such as `http://proxy.example:3128`, for
    /// enrollment records.
    pub device_proxy: Option<String>,
    /// The agent binary for images; default: next to the server's binary.
    pub agent: Option<PathBuf>,
    /// Whether this process builds images, as its own user. Otherwise build workers do, over the
    /// API.
    pub local_worker: bool,
    /// Socket of the signing service. Without it this process holds the keys.
    pub signer: Option<PathBuf>,
    /// CRL distribution point in device certificates, with `{issuer}` for the id of the issuer's
    /// key; default: the device port. `fleeti-signer` has its own option `--crl-url`.
    pub crl_url: Option<String>,
    /// Limits of a signing service in this process.
    pub signer_limits: SignerLimits,
    /// Limits on clients: resources and timeouts.
    pub limits: Limits,
    /// Whether a software TPM of a trusted manufacturer counts as much as a chip.
    pub trusts_hypervisor: bool,
    /// Minimum free space on the disk of the data folder, in bytes. Below it the server refuses
    /// builds and uploads. Default: 5 % of the disk, at most 512 MiB.
    pub disk_floor: Option<u64>,
    /// Which files of builds and uploads are kept.
    pub retention: Retention,
    /// The time that certificates are checked against.
    pub clock: Clock,
}

impl Config {
    /// A configuration on loopback, with ports that the system chooses.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data: data.into(),
            api: any,
            api_tls: ApiTls::Loopback,
            https: any,
            mqtt: any,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            device_proxy: None,
            agent: None,
            local_worker: true,
            signer: None,
            crl_url: None,
            signer_limits: SignerLimits::default(),
            trusts_hypervisor: false,
            disk_floor: None,
            retention: Retention::default(),
            clock: Clock::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The CRL distribution point for device certificates, for a server with this device port.
    #[must_use]
    pub fn crl_url(&self, device_port: SocketAddr) -> String {
        let name = self.names.first().map_or("localhost", String::as_str);
        self.crl_url
            .clone()
            .unwrap_or_else(|| format!("https://{name}:{}/pki/{{issuer}}.crl", device_port.port()))
    }
}

/// Certificates and public keys.
pub struct Pki {
    /// The issuer of devices, before the first trust bundle.
    pub device_ca: Certificate,
    /// The issuer of servers, before the first trust bundle.
    pub server_ca: Certificate,
    /// The root CA.
    pub root: Certificate,
    /// SHA-256 of the root CA's certificate.
    pub root_sha256: String,
    /// The release keys.
    pub release_keys: ReleaseKeys,
    /// The key that signs checkpoints of the audit log.
    pub log: LogKey,
    /// The trusted TPM manufacturers, reloaded while the server runs.
    pub manufacturers: ArcSwap<Manufacturers>,
}

impl Pki {
    /// Reads the public files of a data folder.
    ///
    /// # Errors
    /// Names the file that is missing or malformed, and what to do.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join("pki");
        if !folder.join("public").exists() {
            bail!(
                "{} has no keys; make them with `fleeti pki init {}`, then take offline/ away",
                data.display(),
                folder.display()
            );
        }
        let text = |name: &str| {
            let path = folder.join("public").join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let root = certificate::from_pem(&text("root.pem")?)?;
        Ok(Self {
            device_ca: certificate::from_pem(&text("device-ca.pem")?)?,
            server_ca: certificate::from_pem(&text("server-ca.pem")?)?,
            root_sha256: certificate::fingerprint(&root)?,
            root,
            release_keys: ReleaseKeys::from_pem(&text("release.pem")?)?,
            log: LogKey::from_text(&text("audit.pub")?).context("audit.pub")?,
            manufacturers: ArcSwap::from_pointee(manufacturers(data)),
        })
    }
}

/// Reads the trusted TPM manufacturers: all certificates in a folder, by the kind of TPM, and all
/// CRLs (`*.crl`, DER or PEM) next to them. Ignores files that it cannot read, and lists them.
#[must_use]
pub fn manufacturers(data: &Path) -> Manufacturers {
    let (folder, mut manufacturers) = (manufacturers_folder(data), Manufacturers::default());
    for kind in Kind::ALL {
        for (source, path) in manufacturer_files(&folder, kind.as_str()) {
            if let Err(e) = read_manufacturer(&mut manufacturers, &source, &path, kind) {
                manufacturers.leave_out(&source, format!("{e:#}"));
            }
        }
    }
    manufacturers
}

/// The folder of TPM manufacturers.
#[must_use]
pub fn manufacturers_folder(data: &Path) -> PathBuf {
    data.join("pki/tpm-manufacturers")
}

/// The files of a kind of TPM: name below the folder, and path. Skips hidden files, which may be
/// incomplete.
#[must_use]
pub fn manufacturer_files(folder: &Path, kind: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder.join(kind)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let named = paths.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        (!name.starts_with('.') && !path.is_dir()).then(|| (format!("{kind}/{name}"), path))
    });
    named.collect()
}

fn read_manufacturer(
    manufacturers: &mut Manufacturers,
    source: &str,
    path: &Path,
    kind: Kind,
) -> Result<()> {
    let length = fs::metadata(path)?.len();
    if length > MANUFACTURER_FILE_MAX {
        bail!("the file has {length} bytes, at most {MANUFACTURER_FILE_MAX} are allowed");
    }
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|e| e == "crl") {
        return Ok(files::lists(&bytes)?
            .iter()
            .try_for_each(|list| manufacturers.look_at(list))?);
    }
    Ok(files::certificates(&bytes)?
        .iter()
        .try_for_each(|certificate| manufacturers.believe_from(certificate, kind, source))?)
}

/// Connects to the signing service over its socket or, for development, starts one in this process.
///
/// # Errors
/// Names the missing or unreadable file, and says what to do.
pub fn signer(config: &Config, crl_url: String) -> Result<SignerHandle> {
    if let Some(path) = &config.signer {
        return Ok(fleeti_signer::socket::connect(path.clone()));
    }
    tracing::warn!(
        "this process holds the keys, and an attacker who takes it over gets them; except for development, run fleeti-signer and pass --signer"
    );
    let passphrase = fleeti_signer::keys::passphrase(&config.data)?;
    let pki = config.data.join("pki");
    let mut keys = fleeti_signer::keys::open(&pki, &passphrase, Some(crl_url))?;
    let folders = Folders {
        builds: config.data.join("builds"),
        outbox: crate::app::outbox(&config.data),
        work: config.data.join("audit/releases"),
    };
    let signing = fleeti_signer::keys::open_signing(&pki, &passphrase, folders)?;
    if let Some(releases) = &signing {
        tracing::warn!("this server signs releases {}", releases.policy_in_words());
    }
    keys.releases = signing.map(Arc::new);
    let service = SigningService::open(keys, &config.data.join("audit"), config.signer_limits)?;
    let clock = config.clock.clone();
    Ok(SignerHandle::embedded_at(service, move || clock.now_s())?)
}

/// Reads the administrator's token; creates it at the first start.
///
/// # Errors
/// I/O.
pub fn admin_token(data: &Path) -> Result<String> {
    let path = data.join("admin.token");
    if let Ok(text) = fs::read_to_string(&path) {
        // A copied file may have wider permissions.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        return Ok(text.trim().to_owned());
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(token)
}
