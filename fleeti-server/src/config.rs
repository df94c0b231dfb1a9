//! The data folder: everything a server needs.
//!
//! ```text
//! DIR/pki/online/{device-ca,server-ca,audit}.key   sealed; with a signer process they are in its folder, and not here
//! DIR/pki/public/                            certificates and public keys
//! DIR/pki/tpm-makers/{processor,hardware,virtual}/*.pem   makers of TPMs that are believed; none unless they are put there
//! DIR/pki/tpm-makers/{processor,hardware,virtual}/*.crl   what they, or authorities below them, have revoked
//! DIR/pki/signing/{release,openpgp,db}.key   only where this server's signer may sign releases, and policy.toml: who must agree
//! DIR/passphrase                             opens the sealed keys, mode 0600; a systemd credential is better
//! DIR/audit/                                 the audit log, where the signer is in this process
//! DIR/admin.token                            made at the first start, mode 0600
//! DIR/pki/admin/{certificate,key}.pem, fingerprint   of the API's port, where the server issues its certificate itself
//! DIR/standby/                               what the server starts with when the signer does not answer, mode 0600
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
use fleeti_pki::tpm::endorsement::{Kind, Makers};
use fleeti_pki::tpm::files;
use fleeti_pki::transparency::note::LogKey;
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::keeper::Keeper;
use fleeti_signer::keys::Folders;
use fleeti_signer::limits::Limits as SignerLimits;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;

/// Bytes of the largest file of a maker of TPMs: their revocation lists have megabytes.
const MAKER_FILE_MAX: u64 = 16 << 20;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// API and web.
    pub api: SocketAddr,
    /// How that port is protected.
    pub api_tls: ApiTls,
    /// Device port.
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
    /// DNS names and addresses that devices call the server by; the first is what enrollment
    /// records name.
    pub names: Vec<String>,
    /// An HTTP proxy through which devices reach the server, as in `http://proxy.example:3128`, for
    /// enrollment records.
    pub device_proxy: Option<String>,
    /// The agent that goes into images; beside the server's program by default.
    pub agent: Option<PathBuf>,
    /// Whether this process builds, as its own user. Otherwise workers do, which ask for builds
    /// over the API.
    pub local_worker: bool,
    /// The signer's socket; without it the keys are in this process.
    pub signer: Option<PathBuf>,
    /// Where certificates of devices say that their revocation list is, with `{issuer}` for the id
    /// of the key that signs it; the device port by default. A signer of its own is told by its own
    /// `--crl-url`.
    pub crl_url: Option<String>,
    /// Limits of a signer in this process.
    pub signer_limits: SignerLimits,
    /// How much a client may hold, and how long it may take.
    pub limits: Limits,
    /// Whether a TPM in software of a maker that is believed counts as much as a chip.
    pub trusts_hypervisor: bool,
    /// Bytes that are kept free on the disk of the data folder: below them no build and no upload
    /// is taken. 5 % of the disk, 512 MiB at the most, where nobody says otherwise.
    pub disk_floor: Option<u64>,
    /// How much of what builds and uploads leave is kept.
    pub retention: Retention,
    /// The time by which devices may connect.
    pub clock: Clock,
}

impl Config {
    /// A server on loopback, with ports of the system's choice.
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
    /// Where certificates of devices say that their revocation list is, of a server whose device
    /// port is there.
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
    /// The root, which signs what counts.
    pub root: Certificate,
    /// SHA-256 of it.
    pub root_sha256: String,
    /// Who may release.
    pub release_keys: ReleaseKeys,
    /// Who signs the audit log's statements.
    pub log: LogKey,
    /// Who makes TPMs that are believed; read again while the server runs.
    pub makers: ArcSwap<Makers>,
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
            makers: ArcSwap::from_pointee(makers(data)),
        })
    }
}

/// Who makes TPMs that are believed: every certificate in a folder, by what kind of TPM its maker
/// makes, and every revocation list (`*.crl`, DER or PEM) beside them. A file that cannot be read
/// is left out, and named.
#[must_use]
pub fn makers(data: &Path) -> Makers {
    let (folder, mut makers) = (makers_folder(data), Makers::default());
    for kind in Kind::ALL {
        for (source, path) in maker_files(&folder, kind.as_str()) {
            if let Err(e) = read_maker(&mut makers, &source, &path, kind) {
                makers.leave_out(&source, format!("{e:#}"));
            }
        }
    }
    makers
}

/// Where makers of TPMs are.
#[must_use]
pub fn makers_folder(data: &Path) -> PathBuf {
    data.join("pki/tpm-makers")
}

/// Files of one kind: each by its name below the folder, and its path. Hidden ones are somebody's
/// half-written ones.
#[must_use]
pub fn maker_files(folder: &Path, kind: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder.join(kind)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let named = paths.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        (!name.starts_with('.') && !path.is_dir()).then(|| (format!("{kind}/{name}"), path))
    });
    named.collect()
}

fn read_maker(makers: &mut Makers, source: &str, path: &Path, kind: Kind) -> Result<()> {
    let length = fs::metadata(path)?.len();
    if length > MAKER_FILE_MAX {
        bail!("it has {length} bytes, {MAKER_FILE_MAX} at the most");
    }
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|e| e == "crl") {
        return Ok(files::lists(&bytes)?.iter().try_for_each(|list| makers.look_at(list))?);
    }
    Ok(files::certificates(&bytes)?
        .iter()
        .try_for_each(|certificate| makers.believe_from(certificate, kind, source))?)
}

/// The signer of this server: behind its socket, or, for development, in this very process.
///
/// # Errors
/// Names the file that is missing or does not open, and what to do.
pub fn signer(config: &Config, crl_url: String) -> Result<SignerHandle> {
    if let Some(path) = &config.signer {
        return Ok(fleeti_signer::socket::connect(path.clone()));
    }
    tracing::warn!(
        "the keys are in this process: whoever takes it has them; run fleeti-signer and pass --signer for more than development"
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
    let keeper = Keeper::open(keys, &config.data.join("audit"), config.signer_limits)?;
    let clock = config.clock.clone();
    Ok(SignerHandle::embedded_at(keeper, move || clock.now_s())?)
}

/// The administrator's token; made at the first start.
///
/// # Errors
/// I/O.
pub fn admin_token(data: &Path) -> Result<String> {
    let path = data.join("admin.token");
    if let Ok(text) = fs::read_to_string(&path) {
        // Whoever copied it here may have left it open.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        return Ok(text.trim().to_owned());
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(token)
}
