//! A real server with an organisation's keys, two devices, two builds and a release.

use fleeti_testkit::host::{Host, Setup};
use fleeti_testkit::server::admin_tls::ApiTls;
use fleeti_testkit::server::config::Config;
use fleeti_testkit::server::server::Server;
use fleeti_testkit::store::{Db, builds};
use fleeti_testkit::synthetic;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Time limit for a device to enroll and connect on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub struct Served {
    pub dir: tempfile::TempDir,
    pub api: String,
    https: String,
    runtime: Runtime,
    /// `PATH` of commands, if it is not that of the test.
    pub path_variable: Option<String>,
    /// Their cache of packages, if it is not that of the user.
    pub cache: Option<PathBuf>,
    /// Ends the server when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Served {
    pub fn start() -> Self {
        Self::with(ApiTls::Loopback)
    }

    /// As [`Served::start`], with this TLS mode of the API.
    pub fn with(api_tls: ApiTls) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut served = Self {
            dir,
            api: String::new(),
            https: String::new(),
            runtime,
            path_variable: None,
            cache: None,
            _stop: tokio::sync::oneshot::channel().0,
        };
        served.make_keys();
        served.runtime.block_on(make_builds(served.dir.path()));
        let (addresses, started) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        // No agent: builds fail at once, without Nix.
        let scheme = api_tls.scheme();
        let config = Config {
            agent: Some("/nonexistent/agent".into()),
            api_tls,
            ..Config::new(served.dir.path().join("data"))
        };
        std::thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let server = Server::start(config).await.unwrap();
                addresses.send(server.addresses).unwrap();
                stopped.await.ok();
                server.stop().await;
            });
        });
        let addresses = started.recv().unwrap();
        served.api = format!("{scheme}://{}", addresses.api);
        served.https = format!("https://localhost:{}", addresses.https.port());
        served._stop = stop;
        served
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs `fleeti ARGUMENTS`, which must succeed, and returns stdout.
    pub fn done(&self, arguments: &str) -> String {
        let ran = self
            .run(&arguments.replace('@', &self.path("")).split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{arguments}: {ran:?}");
        ran.stdout
    }

    /// Runs the command.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let path = self.path_variable.iter().map(|path| ("PATH", path.into()));
        let cache = self.cache.iter().map(|cache| ("FLEETI_CACHE", cache.into()));
        let variables: Vec<(&str, OsString)> = path.chain(cache).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_fleeti"))
            .args(arguments)
            .env("FLEETI_OFFLINE", "1")
            .env("FLEETI_CACHE", self.path("cache"))
            .envs(variables)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .env("FLEETI_SERVER", &self.api)
            .env("FLEETI_TOKEN_FILE", self.path("data/admin.token"))
            .env("FLEETI_PASSPHRASE_FILE", self.path("passphrase"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env_remove("FLEETI_INSECURE")
            .env_remove("FLEETI_FINGERPRINT")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn make_keys(&self) {
        std::fs::create_dir(self.dir.path().join("data")).unwrap();
        for file in ["passphrase", "data/passphrase"] {
            std::fs::write(self.path(file), "a passphrase of tests\n").unwrap();
        }
        std::fs::create_dir(self.path("passphrases")).unwrap();
        for name in ["alice", "bob"] {
            std::fs::write(
                self.path(&format!("passphrases/{name}")),
                format!("the passphrase of {name}\n"),
            )
            .unwrap();
        }
        self.done("pki init @data/pki");
        let signing = PathBuf::from(self.path("data/pki/signing"));
        std::fs::create_dir(&signing).unwrap();
        for name in ["release.key", "openpgp.key", "db.key"] {
            std::fs::copy(self.path(&format!("data/pki/offline/{name}")), signing.join(name))
                .unwrap();
        }
        for name in ["alice", "bob", "carol"] {
            self.done(&format!("pki approver-key @{name}.key"));
        }
        self.done("pki approvers @data/pki/signing --approvals 1 --add alice=@alice.pem --add bob=@bob.pem");
    }

    /// Starts a device in memory that enrolls into a fleet and stays connected. Returns its id once
    /// it is online and the server has its recovery key.
    pub fn device(&self, name: &str, fleet: &str) -> String {
        let record = self.path(&format!("{name}.json"));
        self.done(&format!("device enrollment --fleet {fleet} --out {record}"));
        let record = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        let setup = Setup {
            dir: self.dir.path().join(name),
            public: self.dir.path().join("data/pki/public"),
            running: "kiosk@1".parse().unwrap(),
            record,
            is_healthy: true,
        };
        let host = Host::new(setup).unwrap();
        self.runtime.spawn(async move { host.run().await });
        let token = std::fs::read_to_string(self.path("data/admin.token")).unwrap();
        let client = fleeti_client::Client::new(&self.api, token.trim()).unwrap();
        self.runtime.block_on(async {
            let wait = async {
                let mut events = client.events().await.unwrap();
                loop {
                    let devices = client.devices().await.unwrap();
                    if let Some(device) =
                        devices.into_iter().find(|d| d.fleet.as_str() == fleet && d.online)
                        && client.recovery_key(&device.id).await.is_ok()
                    {
                        return device.id.to_string();
                    }
                    events.wait_for(|_| true).await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("the device did not come")
        })
    }

    /// The pairing code of a device without a token.
    pub fn code(&self) -> String {
        let key =
            fleeti_pki::signer::SoftKey::generate(fleeti_pki::signer::Algorithm::P256).unwrap();
        let body = serde_json::json!({"csr_pem": fleeti_pki::csr::create(&key).unwrap(), "running": "kiosk@1"});
        let root = reqwest::Certificate::from_pem(
            &std::fs::read(self.path("data/pki/public/root.pem")).unwrap(),
        )
        .unwrap();
        let http = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
        let url = format!("{}/pair", self.https);
        let answer: serde_json::Value = self.runtime.block_on(async {
            http.post(url).json(&body).send().await.unwrap().json().await.unwrap()
        });
        answer["code"].as_str().unwrap().to_owned()
    }
}

/// Builds as a worker leaves them: `build-1` and `build-2` of `kiosk@2` and `kiosk@3`, and `build-3` of
/// `kiosk@4`, which refreshed `jq`.
async fn make_builds(dir: &Path) {
    let db = Db::open(&dir.join("data/fleeti.db")).await.unwrap();
    let all: [(&str, &str, &[&str]); 3] =
        [("build-1", "2", &[]), ("build-2", "3", &[]), ("build-3", "4", &["jq"])];
    for (id, version, packages) in all {
        let folder = dir.join("data/builds").join(id);
        synthetic::build(&folder, &format!("kiosk@{version}").parse().unwrap()).unwrap();
        let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
        let profile = fleeti_core::profile::check(text).unwrap();
        let request = fleeti_core::wire::api::CreateBuild {
            profile,
            version: version.parse().unwrap(),
            refresh_lock: false,
            refresh_packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut tx = db.write().await.unwrap();
        builds::insert(&mut tx, id, 1, &request, 1).await.unwrap();
        let directory = folder.display().to_string();
        synthetic::end_build(&mut tx, id, Some(&directory)).await.unwrap();
        tx.commit().await.unwrap();
    }
    db.close().await;
}
