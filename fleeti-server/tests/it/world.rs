//! A server on loopback with keys of its own, and devices that enroll.

use fleeti_client::Client;
use fleeti_control::accounts::password::PasswordCost;
use fleeti_core::id::{Architecture, DeviceId};
use fleeti_core::wire::enrollment::{EnrollRequest, EnrollResponse};
use fleeti_pki::hierarchy;
use fleeti_pki::sealed::Sealing;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use fleeti_store::sql::{self, AssertSqlSafe};
use fleeti_store::{Location, Pool};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

const PASSPHRASE: &[u8] = b"a passphrase of tests";

/// Making keys is slow, so all tests share one organisation.
fn files() -> &'static Vec<hierarchy::HierarchyFile> {
    static FILES: OnceLock<Vec<hierarchy::HierarchyFile>> = OnceLock::new();
    FILES.get_or_init(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        hierarchy::create(Sealing::for_tests(PASSPHRASE), now_s).unwrap()
    })
}

pub fn write_keys(data: &Path) {
    for file in files().iter().filter(|f| !f.path.starts_with("offline")) {
        let path = data.join("pki").join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.bytes).unwrap();
    }
    std::fs::write(data.join("passphrase"), PASSPHRASE).unwrap();
}

/// A file of the organisation, as it is stored.
pub fn files_of(path: &str) -> Vec<u8> {
    files().iter().find(|f| f.path == path).unwrap().bytes.clone()
}

/// A key of `offline/`.
pub fn offline(purpose: &str) -> Vec<u8> {
    key_of("offline", purpose)
}

/// A key of a folder.
pub fn key_of(folder: &str, purpose: &str) -> Vec<u8> {
    let file = files().iter().find(|f| f.path == format!("{folder}/{purpose}.key")).unwrap();
    fleeti_pki::sealed::open(&file.bytes, purpose, PASSPHRASE).unwrap().to_vec()
}

/// The database of a data folder, where the gate asks for PostgreSQL; otherwise it is in the folder.
pub fn database_url(data: &Path) -> Option<String> {
    std::env::var("FLEETI_TEST_DATABASE").ok().filter(|kind| kind == "postgres")?;
    let server = std::env::var("FLEETI_POSTGRES").expect("FLEETI_POSTGRES is not set");
    let name = data.file_name().unwrap().to_string_lossy().replace('.', "server-");
    Some(format!("{server}/{name}"))
}

fn database(data: &Path) -> Option<Location> {
    database_url(data).map(|url| url.parse().unwrap())
}

/// A connection to the database of a data folder, beside the server.
pub async fn connect(data: &Path) -> fleeti_store::Db {
    let file = || Location::Sqlite(data.join("fleeti.db"));
    fleeti_store::Db::connect(&database(data).unwrap_or_else(file)).await.unwrap()
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub server: Server,
    pub client: Client,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_keys(dir.path());
        Self::start(dir, change).await
    }

    pub async fn start(dir: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            database: database(dir.path()),
            password_cost: PasswordCost::for_tests(),
            ..Config::new(dir.path())
        };
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        let client = match &server.api_fingerprint {
            Some(pin) => Client::pinned(
                &format!("https://{}", server.addresses.api),
                token.trim(),
                &pin.parse().unwrap(),
            ),
            None => Client::new(&format!("http://{}", server.addresses.api), token.trim()),
        };
        let client = client.unwrap();
        Self { dir, server, client }
    }

    pub async fn token(&self) -> String {
        self.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record.token
    }

    /// Whether this text is in the database as it is.
    pub async fn is_kept(&self, text: &str) -> bool {
        if let Pool::Postgres(_) = self.server.control.db.pool() {
            return self.is_in_a_row(text).await;
        }
        let files = ["fleeti.db", "fleeti.db-wal"]
            .map(|f| std::fs::read(self.dir.path().join(f)).unwrap_or_default());
        files.iter().any(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
    }

    async fn is_in_a_row(&self, text: &str) -> bool {
        let pool = self.server.control.db.pool();
        let tables = "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'";
        let tables: Vec<String> = sql::query_scalar(tables).fetch_all(pool).await.unwrap();
        assert!(tables.contains(&"enrollments".to_owned()), "{tables:?}");
        for table in tables {
            let sql =
                format!("SELECT COUNT(*) FROM {table} AS r WHERE strpos(CAST(r AS TEXT), $1) > 0");
            let found: i64 =
                sql::query_scalar(AssertSqlSafe(sql)).bind(text).fetch_one(pool).await.unwrap();
            if found > 0 {
                return true;
            }
        }
        false
    }

    /// All entries of the audit log, one a line.
    pub async fn audit(&self) -> String {
        fleeti_control::settle::settle(&self.server.control).await.unwrap();
        self.client.audit_entries(0).await.unwrap().join("\n")
    }

    pub fn roots(&self) -> RootCertStore {
        let pem = std::fs::read(self.dir.path().join("pki/public/root.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        roots
    }

    /// TLS of a client that has added the API's certificate.
    pub fn trusting_admin(&self) -> ClientConfig {
        let pem = std::fs::read(self.dir.path().join("pki/admin/certificate.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }

    pub fn anonymous(&self) -> ClientConfig {
        ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth()
    }

    pub fn https(&self, tls: ClientConfig) -> reqwest::Client {
        reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.addresses.https.port())
    }

    pub async fn try_enroll(&self, token: &str, key: &SoftKey) -> reqwest::Response {
        let request = EnrollRequest {
            token: token.to_owned(),
            csr_pem: fleeti_pki::csr::create(key).unwrap(),
            architecture: Architecture::X86_64,
            running: "kiosk@1".parse().unwrap(),
            tpm: None,
        };
        self.https(self.anonymous()).post(self.url("/enroll")).json(&request).send().await.unwrap()
    }

    pub async fn enroll(&self) -> TestDevice {
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let response = self.try_enroll(&self.token().await, &key).await.json().await.unwrap();
        self.device_of(response, &key)
    }

    /// The device of an enrollment response.
    pub fn device_of(&self, response: serde_json::Value, key: &SoftKey) -> TestDevice {
        let response: EnrollResponse = serde_json::from_value(response).unwrap();
        let chain = CertificateDer::pem_slice_iter(response.certificate_chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec()));
        let tls = ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        TestDevice { id: response.device, tls: Arc::new(tls) }
    }
}

pub struct TestDevice {
    pub id: DeviceId,
    pub tls: Arc<ClientConfig>,
}
