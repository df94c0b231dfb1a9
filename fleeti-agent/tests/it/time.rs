//! A device whose clock has stopped or was set by an attacker, and servers whose certificates have
//! expired.

use fleeti_agent::Paths;
use fleeti_agent::clock::{AHEAD_S_MAX, Clock};
use fleeti_agent::server_trust;
use fleeti_pki::certificate::{
    Authority, Period, Purpose, Role, issue, self_signed, to_der, to_pem,
};
use fleeti_pki::manifest::PublicKey;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_testkit::release_log::MemoryLog;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use x509_cert::Certificate;

const DAY_S: u64 = 86_400;
/// The last signed time.
const FLOOR: u64 = 1_795_000_000;
const Y2040: u64 = 2_210_000_000;

/// A device with an adjustable clock, and the CAs of its server.
struct Scene {
    paths: Paths,
    clock: Arc<AtomicU64>,
    server_ca: Certificate,
    server_ca_key: SoftKey,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Paths::below(dir.path());
        for folder in [&paths.state, &paths.lib.join("trust")] {
            fs::create_dir_all(folder).unwrap();
        }
        let (root_key, server_ca_key) = (
            SoftKey::generate(Algorithm::P384).unwrap(),
            SoftKey::generate(Algorithm::P384).unwrap(),
        );
        let years =
            Period { not_before_s: FLOOR - 400 * DAY_S, not_after_s: FLOOR + 9_000 * DAY_S };
        let root = self_signed(Role::Root, years, &root_key).unwrap();
        let authority = Authority { certificate: &root, signer: &root_key };
        let role = Role::Intermediate { purpose: Purpose::Server };
        let server_ca = issue(role, years, server_ca_key.public_key_der(), &authority).unwrap();
        let trust =
            |name: &str, text: String| fs::write(paths.lib.join("trust").join(name), text).unwrap();
        trust("root.pem", to_pem(&root).unwrap());
        trust("release.pem", PublicKey::of(&root_key).unwrap().to_pem().unwrap());
        trust("audit.pub", MemoryLog::new().unwrap().key.to_text());
        let clock = Arc::new(AtomicU64::new(FLOOR));
        let shared = Arc::clone(&clock);
        paths.clock = Clock::with_source(
            paths.state.join("time-floor"),
            Arc::new(move || shared.load(Ordering::Relaxed)),
        );
        paths.clock.raise(FLOOR);
        Self { paths, clock, server_ca, server_ca_key, _dir: dir }
    }

    /// Whether the device, with this clock, trusts a server whose certificate is valid in this
    /// period.
    async fn believes(&self, clock_s: u64, from_s: u64, to_s: u64) -> bool {
        self.clock.store(clock_s, Ordering::Relaxed);
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let authority = Authority { certificate: &self.server_ca, signer: &self.server_ca_key };
        let role = Role::Server { names: vec!["localhost".into()] };
        let leaf = issue(
            role,
            Period { not_before_s: from_s, not_after_s: to_s },
            key.public_key_der(),
            &authority,
        )
        .unwrap();
        let chain =
            [&leaf, &self.server_ca].map(|c| CertificateDer::from(to_der(c).unwrap())).to_vec();
        let key =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec()));
        let server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let device = server_trust::builder(&self.paths).unwrap().with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
        let connect = tokio_rustls::TlsConnector::from(Arc::new(device))
            .connect(ServerName::try_from("localhost").unwrap(), near);
        let (_, connected) = tokio::join!(accept, connect);
        connected.is_ok()
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_revives_no_certificate_of_a_server() {
    let scene = Scene::new();
    let (from, to) = (FLOOR - 9 * DAY_S, FLOOR - 2 * DAY_S);
    for clock in [from, from + DAY_S, to - 1, 0, FLOOR - 1, FLOOR, FLOOR + DAY_S, Y2040] {
        assert!(
            !scene.believes(clock, from, to).await,
            "stolen, expired before the last signed time, clock {clock}"
        );
    }
    // Nor after a power cut.
    let again = Clock::with_source(scene.paths.state.join("time-floor"), Arc::new(|| 0));
    assert_eq!(again.floor_s(), FLOOR);
}

#[tokio::test]
async fn a_clock_in_1970_or_2040_keeps_no_device_away_and_is_reported() {
    let scene = Scene::new();
    let (from, to) = (FLOOR + DAY_S, FLOOR + 8 * DAY_S);
    for clock in [0, FLOOR - 30 * DAY_S, Y2040, u64::MAX] {
        assert!(scene.believes(clock, from, to).await, "clock {clock}");
        assert!(scene.paths.clock.wrong_by_s().is_some(), "clock {clock}");
        assert_eq!(
            scene.paths.clock.floor_s(),
            FLOOR,
            "neither a clock nor an unverified certificate raises the floor"
        );
    }
    // A plausible clock decides.
    assert!(scene.believes(from + DAY_S, from, to).await);
    assert_eq!(scene.paths.clock.wrong_by_s(), None);
    assert!(!scene.believes(to + 1, from, to).await);
    // But a clock that had stopped is set to the floor at start, and is still behind.
    assert!(scene.believes(FLOOR + 1, from, to).await, "the issuer is trusted that it is later");
}

#[tokio::test]
async fn a_device_with_a_dead_clock_comes_back_after_years_in_a_drawer() {
    let scene = Scene::new();
    for years in [1, 2, 4] {
        let from = FLOOR + years * 365 * DAY_S;
        assert!(scene.believes(0, from, from + 7 * DAY_S).await, "{years} years");
    }
    // An attacker who has the intermediate cannot make the device accept any time.
    let too_far = FLOOR + AHEAD_S_MAX + DAY_S;
    assert!(!scene.believes(0, too_far, too_far + 7 * DAY_S).await);
}
