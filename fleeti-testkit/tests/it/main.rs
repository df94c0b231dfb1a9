//! Tests that need agent and server together.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

use fleeti_agent::device_key::KeptKey;
use fleeti_agent::identity::{self, Identity, Server as ServerAddress};
use fleeti_agent::{Paths, enrollment};
use fleeti_control::clock::Clock;
use fleeti_core::wire::enrollment::{EnrollRequest, EnrollResponse};
use fleeti_pki::certificate::Protection;
use fleeti_pki::hierarchy;
use fleeti_pki::sealed::Sealing;
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use fleeti_testkit::tpm::{Manufacturer, Tpm, serve_helper};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Time of renewal of a certificate of 30 days. Twice this time is shorter than the validity of the
/// server's own certificate.
const IN_THE_WINDOW_S: u64 = 10 * 86_400 + 3_600;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn write_keys(data: &Path) {
    for file in hierarchy::create(Sealing::for_tests(b"pass"), now_s()).unwrap() {
        let path = data.join("pki").join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.bytes).unwrap();
    }
    fs::write(data.join("passphrase"), "pass").unwrap();
}

fn paths(dir: &Path, public: &Path) -> Paths {
    for folder in ["agent", "lib/trust"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for name in ["root.pem", "release.pem", "issuers.pem", "audit.pub"] {
        fs::copy(public.join(name), dir.join("lib/trust").join(name)).unwrap();
    }
    Paths::below(dir)
}

/// A server with a clock that the test controls.
async fn start(data: &Path) -> (Server, Arc<AtomicU64>) {
    let ahead_s = Arc::new(AtomicU64::new(0));
    let mut config = Config::new(data);
    config.clock = Clock::of({
        let ahead_s = Arc::clone(&ahead_s);
        move || now_s() + ahead_s.load(Ordering::SeqCst)
    });
    (Server::start(config).await.unwrap(), ahead_s)
}

fn csr(key: &KeptKey, paths: &Paths) -> String {
    fleeti_pki::csr::create(key.open(paths).unwrap().as_ref()).unwrap()
}

fn http(identity: &Identity, paths: &Paths) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(identity.tls(paths).unwrap())
        .build()
        .unwrap()
}

/// The agent's code, swtpm and a server: the device's key is in the TPM from its first certificate
/// on, and with the TPM the device re-enrolls after its certificate has expired.
#[tokio::test]
async fn an_agent_with_a_tpm_enrolls_with_a_key_in_it_and_comes_back_by_it_alone() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let manufacturer = Manufacturer::new().unwrap();
    let manufacturers = dir.path().join("pki/tpm-manufacturers/hardware");
    fs::create_dir_all(&manufacturers).unwrap();
    fs::write(manufacturers.join("manufacturer.pem"), manufacturer.certificate_pem().unwrap())
        .unwrap();
    let (server, ahead_s) = start(dir.path()).await;
    let token = fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let client =
        fleeti_client::Client::new(&format!("http://{}", server.addresses.api), token.trim())
            .unwrap();
    let record = client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    let tpm = Tpm::new(&manufacturer).unwrap();
    let paths = Paths {
        tpm: Some(tpm.tcti()),
        ..paths(&dir.path().join("device"), &dir.path().join("pki/public"))
    };
    fs::write(&paths.os_release, "IMAGE_ID=kiosk\nIMAGE_VERSION=1\n").unwrap();
    let helper = serve_helper(&paths, Some(record.clone())).unwrap();

    let first = enrollment::ensure_enrolled(&paths, &helper).await.unwrap();
    let kept = fs::read_to_string(paths.state.join("device.key")).unwrap();
    assert!(kept.contains("key_tpm") && !kept.contains("key_pkcs8"), "{kept}");
    assert_eq!(
        protection(&client.certificate(&first.device).await.unwrap()),
        Some(Protection::CertifiedTpm)
    );
    let desired = format!("{}/desired", record.https_url);
    assert_eq!(
        http(&first, &paths).get(&desired).send().await.unwrap().status(),
        200,
        "TLS with a key in the TPM"
    );
    assert!(
        client.attestation(&first.device).await.unwrap().tpm.is_some(),
        "the TPM was bound in the same exchange"
    );

    ahead_s.store(IN_THE_WINDOW_S, Ordering::SeqCst);
    enrollment::renew(&paths, &first, &helper).await.unwrap();
    let second = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(http(&second, &paths).get(&desired).send().await.unwrap().status(), 200);
    assert_eq!(
        http(&first, &paths).get(&desired).send().await.unwrap().status(),
        403,
        "the old key is no longer valid"
    );

    // Its certificate has expired, as after a long time powered off.
    ahead_s.store(2 * IN_THE_WINDOW_S, Ordering::SeqCst);
    enrollment::renew(&paths, &first, &helper).await.unwrap();
    let third = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(third.device, first.device);
    assert_eq!(http(&third, &paths).get(&desired).send().await.unwrap().status(), 200);
    server.stop().await;
}

fn protection(pem: &str) -> Option<Protection> {
    Protection::of(&fleeti_pki::certificate::from_pem(pem).unwrap()).unwrap()
}

#[tokio::test]
async fn an_agent_renews_over_a_new_key_and_survives_a_power_cut_before_the_answer_is_kept() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let (server, ahead_s) = start(dir.path()).await;
    let token = fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let client =
        fleeti_client::Client::new(&format!("http://{}", server.addresses.api), token.trim())
            .unwrap();
    let record = client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    let paths = paths(&dir.path().join("device"), &dir.path().join("pki/public"));

    // A device without a TPM.
    let helper = serve_helper(&paths, None).unwrap();
    let key = identity::first_key(&paths, &helper, false).await.unwrap();
    let request = EnrollRequest {
        token: record.token.clone(),
        csr_pem: csr(&key, &paths),
        architecture: fleeti_core::id::Architecture::X86_64,
        running: "kiosk@1".parse().unwrap(),
        tpm: None,
    };
    let anonymous = reqwest::Client::builder()
        .tls_backend_preconfigured(identity::anonymous_tls(&paths).unwrap())
        .build()
        .unwrap();
    let answer =
        anonymous.post(format!("{}/enroll", record.https_url)).json(&request).send().await.unwrap();
    let enrolled: EnrollResponse = answer.json().await.unwrap();
    let window = enrolled.renewal;
    let first =
        Identity::store(&paths, key, enrolled, ServerAddress::of(&record).unwrap()).unwrap();
    assert!(!first.is_due(window.start_s - 1).unwrap() && first.is_due(window.end_s + 1).unwrap());

    ahead_s.store(IN_THE_WINDOW_S, Ordering::SeqCst);
    // The server has signed, but the device lost the response: it requests again with the same key.
    let next = csr(&identity::next_key(&paths, &helper, false).await.unwrap(), &paths);
    let body = serde_json::json!({ "csr_pem": next });
    let lost = http(&first, &paths)
        .post(format!("{}/renew", record.https_url))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(lost.status(), 200);
    let again = Identity::load(&paths).unwrap().unwrap();
    enrollment::renew(&paths, &again, &helper).await.unwrap();

    let renewed = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(renewed.device, first.device);
    let desired = format!("{}/desired", record.https_url);
    assert_eq!(http(&renewed, &paths).get(&desired).send().await.unwrap().status(), 200);
    assert_eq!(
        http(&first, &paths).get(&desired).send().await.unwrap().status(),
        403,
        "the old key is no longer valid"
    );
    // And once more, from the renewed certificate.
    ahead_s.store(2 * IN_THE_WINDOW_S, Ordering::SeqCst);
    enrollment::renew(&paths, &renewed, &helper).await.unwrap();
    let third = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(http(&third, &paths).get(&desired).send().await.unwrap().status(), 200);
    server.stop().await;
}
