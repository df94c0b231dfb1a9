//! TLS of the API port: a certificate of the operator, or one that the server issues to itself.
//!
//! Both are two files. Every handshake checks their metadata, so the server uses a replaced
//! certificate from the next connection on. If certificate and key do not match, the previous pair
//! stays in use.

use anyhow::{Context, Result, bail};
use fleeti_control::clock::now_s;
use fleeti_control::settings::ApiCertificate;
use fleeti_core::canonical::sha256_hex;
use fleeti_pki::certificate::{self, Period, Role};
use fleeti_pki::signer::{Algorithm, SoftKey};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::der::pem;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `Strict-Transport-Security` (RFC 6797) of every response over TLS: one year.
pub const STRICT_TRANSPORT: (&str, &str) = ("strict-transport-security", "max-age=31536000");

/// Validity of a certificate that the server issues to itself, in seconds.
const VALID_S: u64 = 365 * 86_400;
/// The server renews it when less than this is left, in seconds.
const RENEW_S: u64 = VALID_S / 3;
/// Interval at which the expiry is checked, which also covers suspended machines and changed
/// clocks.
const LOOK: Duration = Duration::from_secs(6 * 3600);
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const FINGERPRINT: &str = "fingerprint";

/// TLS of the API port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiTls {
    /// Plain HTTP, on a loopback address only.
    Loopback,
    /// Plain HTTP on any address, at the operator's request.
    Insecure,
    /// TLS with the server's own key and self-issued certificate, in `DATA/pki/admin`.
    SelfIssued,
    /// TLS with PEM files, reloaded when they change.
    Files {
        /// Certificate chain, leaf first.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
}

impl ApiTls {
    /// The requested mode, or the default for the address: TLS unless it is a loopback address.
    #[must_use]
    pub fn of(address: SocketAddr, asked: Option<Self>) -> Self {
        asked.unwrap_or(if address.ip().is_loopback() { Self::Loopback } else { Self::SelfIssued })
    }

    /// Its certificate; `None` for plain HTTP.
    #[must_use]
    pub fn certificate(&self, data: &Path) -> Option<ApiCertificate> {
        match self {
            Self::Loopback | Self::Insecure => None,
            Self::SelfIssued => {
                let path = data.join("pki/admin").join(CERTIFICATE);
                Some(ApiCertificate { path, is_self_issued: true })
            }
            Self::Files { certificate, .. } => {
                Some(ApiCertificate { path: certificate.clone(), is_self_issued: false })
            }
        }
    }

    /// Whether the port uses TLS.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::SelfIssued | Self::Files { .. })
    }

    /// `https` or `http`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }
}

/// TLS of the API port, ready to serve.
pub struct AdminTls {
    certificate: Arc<CurrentCertificate>,
    own: Option<OwnCertificate>,
}

impl AdminTls {
    /// Reads the certificate, or issues one. Returns `None` for plain HTTP.
    ///
    /// # Errors
    /// Names the missing or wrong file, and says what to do.
    pub fn open(
        data: &Path,
        address: SocketAddr,
        tls: &ApiTls,
        names: &[String],
    ) -> Result<Option<Self>> {
        let (paths, own) = match tls {
            ApiTls::Insecure => return Ok(None),
            ApiTls::Loopback if address.ip().is_loopback() => return Ok(None),
            ApiTls::Loopback => {
                bail!(
                    "the API would use plain HTTP on {address}, which other machines can reach; use TLS, or pass --insecure-http"
                )
            }
            ApiTls::Files { certificate, key } => ([certificate.clone(), key.clone()], None),
            ApiTls::SelfIssued => {
                let own = OwnCertificate { folder: data.join("pki/admin"), names: names.to_vec() };
                own.renew_if_due(now_s()).with_context(|| own.folder.display().to_string())?;
                ([own.folder.join(CERTIFICATE), own.folder.join(KEY)], Some(own))
            }
        };
        Ok(Some(Self { certificate: Arc::new(CurrentCertificate::open(paths)?), own }))
    }

    /// The fingerprint that clients pin: `sha256:` and the SHA-256 of the SubjectPublicKeyInfo,
    /// hexadecimal. It stays the same when the certificate is renewed with the same key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.certificate.fingerprint()
    }

    /// The TLS configuration of the port.
    ///
    /// # Errors
    /// When rustls refuses it.
    pub fn config(&self) -> Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.certificate.provider))
            .with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Renews a self-issued certificate before it expires, with the same key. Returns at once if
    /// the certificate is the operator's.
    pub async fn run(self) {
        let Some(own) = self.own else { return };
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(e) = own.renew_if_due(now_s()) {
                tracing::error!("the API's certificate was not renewed: {e:#}");
            }
        }
    }
}

/// A certificate that the server issues to itself.
struct OwnCertificate {
    folder: PathBuf,
    names: Vec<String>,
}

impl OwnCertificate {
    /// Issues the certificate if there is none, if it expires soon, or if it has other names. Keeps
    /// the key.
    fn renew_if_due(&self, now_s: u64) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let key = self.key()?;
        let path = self.folder.join(CERTIFICATE);
        let found =
            fs::read_to_string(&path).ok().and_then(|text| certificate::from_pem(&text).ok());
        if found.is_some_and(|found| self.is_good(&found, &key, now_s)) {
            return Ok(());
        }
        let role = Role::Server { names: self.names.clone() };
        let issued = certificate::self_signed(role, Period::starting(now_s, VALID_S), &key)?;
        replace(&path, certificate::to_pem(&issued)?.as_bytes())?;
        let fingerprint = fingerprint_of(&CertificateDer::from(certificate::to_der(&issued)?))?;
        replace(&self.folder.join(FINGERPRINT), format!("{fingerprint}\n").as_bytes())
    }

    fn key(&self) -> Result<SoftKey> {
        let path = self.folder.join(KEY);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = SoftKey::generate(Algorithm::P256)?;
                replace(&path, key_pem(&key)?.as_bytes())?;
                return Ok(key);
            }
            Err(e) => return Err(e).context(KEY),
        };
        let der = PrivateKeyDer::from_pem_slice(&text).context(KEY)?;
        Ok(SoftKey::from_pkcs8_der(der.secret_der())?)
    }

    fn is_good(&self, found: &Certificate, key: &SoftKey, now_s: u64) -> bool {
        use fleeti_pki::signer::Signer;
        let der = certificate::to_der(found).map(CertificateDer::from);
        let is_of_key = der.is_ok_and(|der| {
            fingerprint_of(&der).is_ok_and(|f| f == fingerprint(key.public_key_der()))
        });
        is_of_key
            && names_of(found) == self.names
            && certificate::not_after_s(found) > now_s + RENEW_S
    }
}

fn key_pem(key: &SoftKey) -> Result<String> {
    let encoded = pem::encode_string("PRIVATE KEY", pem::LineEnding::LF, &key.to_pkcs8_der()?);
    encoded.map_err(|e| anyhow::anyhow!("{e}"))
}

/// DNS names and addresses of a certificate, in the form of the command line.
fn names_of(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, names))) = certificate.tbs_certificate().get_extension::<SubjectAltName>()
    else {
        return vec![];
    };
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| ip.to_string()),
        _ => None,
    };
    names.0.iter().filter_map(text).collect()
}

fn fingerprint(public_key_der: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(public_key_der))
}

fn fingerprint_of(leaf: &CertificateDer<'_>) -> Result<String> {
    Ok(fingerprint(&ParsedCertificate::try_from(leaf)?.subject_public_key_info()))
}

/// Replaces a file atomically, with mode 0600.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(fleeti_files::write_durably(path, bytes, fleeti_files::PRIVATE)?)
}

/// Metadata that changes when a file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let m = fs::metadata(path).ok()?;
        Some(Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }
}

#[derive(Debug)]
struct Loaded {
    /// Metadata of the files that were read last, which need not be the ones in use.
    tried: [Option<Stamp>; 2],
    pair: Arc<CertifiedKey>,
    fingerprint: String,
}

/// The current certificate and key of two files.
#[derive(Debug)]
struct CurrentCertificate {
    paths: [PathBuf; 2],
    provider: Arc<CryptoProvider>,
    now: Mutex<Loaded>,
}

impl CurrentCertificate {
    fn open(paths: [PathBuf; 2]) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let now = Mutex::new(load(&paths, &provider)?);
        Ok(Self { paths, provider, now })
    }

    fn fingerprint(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).fingerprint.clone()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = stamps(&self.paths);
        if tried != now.tried {
            now.tried = tried;
            match load(&self.paths, &self.provider) {
                Ok(new) => {
                    tracing::info!(
                        "reloaded the API's certificate, fingerprint {}",
                        new.fingerprint
                    );
                    *now = new;
                }
                Err(e) => tracing::error!(
                    "cannot reload the API's certificate, the previous one stays in use: {e:#}"
                ),
            }
        }
        Arc::clone(&now.pair)
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn stamps(paths: &[PathBuf; 2]) -> [Option<Stamp>; 2] {
    paths.each_ref().map(|path| Stamp::of(path))
}

fn load(paths: &[PathBuf; 2], provider: &CryptoProvider) -> Result<Loaded> {
    // Before reading the files, so that the next handshake notices changes made meanwhile.
    let tried = stamps(paths);
    let [certificates, key] = paths;
    let at = |path: &PathBuf| path.display().to_string();
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let chain = chain.with_context(|| at(certificates))?;
    let Some(leaf) = chain.first() else {
        bail!("{} contains no certificate; it must be PEM, leaf first", at(certificates))
    };
    let fingerprint = fingerprint_of(leaf).with_context(|| at(certificates))?;
    let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| at(key))?;
    let pair = CertifiedKey::from_der(chain, key_der, provider);
    let pair =
        pair.with_context(|| format!("{} and {} do not match", at(certificates), at(key)))?;
    Ok(Loaded { tried, pair: Arc::new(pair), fingerprint })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn own(folder: &Path, name: &str) -> OwnCertificate {
        OwnCertificate {
            folder: folder.join("admin"),
            names: vec![name.to_owned(), "10.0.2.2".into(), "::1".into()],
        }
    }

    fn read(own: &OwnCertificate) -> Certificate {
        certificate::from_pem(&fs::read_to_string(own.folder.join(CERTIFICATE)).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends_with_the_key_that_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let own = own(dir.path(), "a.test");
        own.renew_if_due(1_000_000_000).unwrap();
        let (first, pin) = (read(&own), fs::read_to_string(own.folder.join(FINGERPRINT)).unwrap());
        assert_eq!(names_of(&first), own.names);
        own.renew_if_due(1_000_000_000 + VALID_S - RENEW_S - 1).unwrap();
        assert_eq!(read(&own), first, "it is good for long enough");
        own.renew_if_due(1_000_000_000 + VALID_S - RENEW_S).unwrap();
        assert!(certificate::not_after_s(&read(&own)) > certificate::not_after_s(&first));
        assert_eq!(fs::read_to_string(own.folder.join(FINGERPRINT)).unwrap(), pin);
        assert!(pin.starts_with("sha256:") && pin.trim().len() == 71, "{pin}");
    }

    #[test]
    fn a_server_with_another_name_has_another_certificate_of_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (own(dir.path(), "a.test"), own(dir.path(), "b.test"));
        a.renew_if_due(1_000_000_000).unwrap();
        let pin = fs::read(a.folder.join(FINGERPRINT)).unwrap();
        b.renew_if_due(1_000_000_000).unwrap();
        assert_eq!(names_of(&read(&b)), b.names);
        assert_eq!(fs::read(b.folder.join(FINGERPRINT)).unwrap(), pin);
    }

    #[test]
    fn nobody_else_reads_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let own = own(dir.path(), "a.test");
        own.renew_if_due(1).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&own.folder), mode(&own.folder.join(KEY))), (0o700, 0o600));
    }

    #[test]
    fn files_are_read_again_when_they_change_and_a_pair_that_does_not_fit_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (own(&dir.path().join("a"), "a.test"), own(&dir.path().join("b"), "b.test"));
        for each in [&a, &b] {
            each.renew_if_due(now_s()).unwrap();
        }
        let current =
            CurrentCertificate::open([a.folder.join(CERTIFICATE), a.folder.join(KEY)]).unwrap();
        let first = current.current();
        assert!(Arc::ptr_eq(&first, &current.current()), "nothing is read while nothing changes");
        fs::copy(b.folder.join(CERTIFICATE), a.folder.join(CERTIFICATE)).unwrap();
        assert!(Arc::ptr_eq(&first, &current.current()), "the certificate is of another key");
        fs::copy(b.folder.join(KEY), a.folder.join(KEY)).unwrap();
        assert_ne!(first.cert, current.current().cert);
        fs::remove_file(a.folder.join(KEY)).unwrap();
        assert_eq!(current.current().cert, current.current().cert);
        assert_eq!(
            current.fingerprint(),
            fs::read_to_string(b.folder.join(FINGERPRINT)).unwrap().trim()
        );
    }

    #[test]
    fn plain_http_where_others_connect_must_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (loopback, everywhere) = ("127.0.0.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap());
        assert_eq!(ApiTls::of(loopback, None), ApiTls::Loopback);
        assert_eq!(ApiTls::of(everywhere, None), ApiTls::SelfIssued);
        let open = |address, tls: ApiTls| {
            AdminTls::open(dir.path(), address, &tls, &["a.test".to_owned()])
        };
        assert!(open(loopback, ApiTls::Loopback).unwrap().is_none());
        assert!(open(everywhere, ApiTls::Insecure).unwrap().is_none());
        assert!(
            open(everywhere, ApiTls::Loopback)
                .err()
                .unwrap()
                .to_string()
                .contains("--insecure-http")
        );
        assert!(open(everywhere, ApiTls::SelfIssued).unwrap().is_some());
    }
}
