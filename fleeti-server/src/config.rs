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
//! DIR/accounts.key                           seals accounts in the database; made at the first start, mode 0600
//! DIR/first-admin.link                       one-time link of the first administrator, mode 0600; valid for a day
//! DIR/pki/admin/{certificate,key}.pem, fingerprint   of the API port, if the server issues its certificate itself
//! DIR/standby/                               for starts without the signing service, mode 0600
//! DIR/fleeti.db                              the database, unless it is elsewhere (--database)
//! DIR/releases/  DIR/builds/
//! ```

use crate::admin_tls::ApiTls;
use crate::limits::Limits;
use anyhow::Result;
use fleeti_control::accounts::password::PasswordCost;
use fleeti_control::accounts::state::AccountSecrets;
use fleeti_control::clock::Clock;
use fleeti_control::email_relay::EmailRelay;
use fleeti_control::public_url::PublicUrl;
use fleeti_control::settings::Retention;
use fleeti_control::settings::Settings;
use fleeti_signer::keys::Folders;
use fleeti_signer::limits::Limits as SignerLimits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::handle::SignerHandle;
use fleeti_store::Location;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// The database; default: `fleeti.db` in the data folder.
    pub database: Option<Location>,
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
    /// The URL at which people open the pages. Without it there are no passkeys.
    pub public_url: Option<PublicUrl>,
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
    /// Whether webhooks may be sent to private addresses and, to loopback, without TLS.
    pub private_webhooks: bool,
    /// The relay that takes e-mail about alerts; `None` for no e-mail.
    pub email: Option<EmailRelay>,
    /// Which files of builds and uploads are kept.
    pub retention: Retention,
    /// What a guess at a password costs.
    pub password_cost: PasswordCost,
    /// The time that certificates are checked against.
    pub clock: Clock,
}

impl Config {
    /// A configuration on loopback, with ports that the system chooses.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data: data.into(),
            database: None,
            api: any,
            api_tls: ApiTls::Loopback,
            https: any,
            mqtt: any,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            public_url: None,
            device_proxy: None,
            agent: None,
            local_worker: true,
            signer: None,
            crl_url: None,
            signer_limits: SignerLimits::default(),
            trusts_hypervisor: false,
            disk_floor: None,
            private_webhooks: false,
            email: None,
            retention: Retention::default(),
            password_cost: PasswordCost::default(),
            clock: Clock::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// What the control plane needs of it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            data: self.data.clone(),
            names: self.names.clone(),
            public_url: self.public_url.clone(),
            device_proxy: self.device_proxy.clone(),
            limits: fleeti_control::settings::Limits {
                challenge_ms: self.limits.challenge_ms,
                proving_ms: self.limits.proving_ms,
                recovery_key_s: self.limits.recovery_key_s,
                codes_per_minute: self.limits.codes_per_minute,
                pairing: self.limits.pairing,
            },
            trusts_hypervisor: self.trusts_hypervisor,
            disk_floor: self.disk_floor,
            private_webhooks: self.private_webhooks,
            email: self.email.clone(),
            retention: self.retention,
            api_certificate: self.api_tls.certificate(&self.data),
            clock: self.clock.clone(),
        }
    }
    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> Location {
        let file = || Location::Sqlite(self.data.join("fleeti.db"));
        self.database.clone().unwrap_or_else(file)
    }
    /// The CRL distribution point for device certificates, for a server with this device port.
    #[must_use]
    pub fn crl_url(&self, device_port: SocketAddr) -> String {
        let name = self.names.first().map_or("localhost", String::as_str);
        self.crl_url
            .clone()
            .unwrap_or_else(|| format!("https://{name}:{}/pki/{{issuer}}.crl", device_port.port()))
    }
}

/// Connects to the signing service over its socket or, for development, starts one in this process.
///
/// # Errors
/// Names the missing or unreadable file, and says what to do.
pub fn signer(config: &Config, crl_url: String) -> Result<SignerHandle> {
    if let Some(path) = &config.signer {
        return Ok(fleeti_signer_client::socket::connect(path.clone()));
    }
    tracing::warn!(
        "this process holds the keys, and an attacker who takes it over gets them; except for development, run fleeti-signer and pass --signer"
    );
    let passphrase = fleeti_signer::keys::passphrase(&config.data)?;
    let pki = config.data.join("pki");
    let mut keys = fleeti_signer::keys::open(&pki, &passphrase, Some(crl_url))?;
    let folders = Folders {
        builds: config.data.join("builds"),
        outbox: config.settings().outbox(),
        work: config.data.join("audit/releases"),
    };
    let signing = fleeti_signer::keys::open_signing(&pki, &passphrase, folders)?;
    if let Some(releases) = &signing {
        tracing::warn!("this server signs releases {}", releases.policy_in_words());
    }
    keys.releases = signing.map(Arc::new);
    let service = SigningService::open(keys, &config.data.join("audit"), config.signer_limits)?;
    let clock = config.clock.clone();
    Ok(fleeti_signer::embedded::start_at(service, move || clock.now_s())?)
}

/// Reads the token of the first start and the key that seals accounts; creates them at the first
/// start.
///
/// # Errors
/// I/O.
pub fn account_secrets(config: &Config) -> Result<AccountSecrets> {
    Ok(AccountSecrets {
        admin_token: secret(&config.data.join("admin.token"))?,
        seal_key: secret(&config.data.join("accounts.key"))?,
        password_cost: config.password_cost,
    })
}

/// Reads a secret; creates it if there is none.
fn secret(path: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        // A copied file may have wider permissions.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        return Ok(text.trim().to_owned());
    }
    let secret = hex::encode(rand::random::<[u8; 32]>());
    let line = format!("{secret}\n");
    fleeti_files::create_durably(path, line.as_bytes(), fleeti_files::PRIVATE)?;
    Ok(secret)
}

/// Writes the one-time link of the first administrator, in place of an earlier one.
///
/// # Errors
/// I/O.
pub fn write_first_link(data: &Path, url: &str) -> Result<PathBuf> {
    let path = data.join("first-admin.link");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    fleeti_files::create_durably(&path, format!("{url}\n").as_bytes(), fleeti_files::PRIVATE)?;
    Ok(path)
}
