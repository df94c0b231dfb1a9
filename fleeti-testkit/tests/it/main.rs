//! What only agent and server together can show.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use fleeti_agent::identity::{self, Identity, Server as ServerAddress};
use fleeti_agent::{Paths, enrollment};
use fleeti_core::wire::device::{EnrollRequest, EnrollResponse};
use fleeti_pki::hierarchy;
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn write_keys(data: &Path) {
    for file in hierarchy::create(b"pass", now_s()).unwrap() {
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
    fs::copy(public.join("root.pem"), dir.join("lib/trust/root.pem")).unwrap();
    Paths::below(dir)
}

fn http(identity: &Identity, paths: &Paths) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(identity.tls(paths).unwrap()).build().unwrap()
}

#[tokio::test]
async fn an_agent_renews_over_a_new_key_and_survives_a_power_cut_before_the_answer_is_kept() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let server = Server::start(Config::new(dir.path())).await.unwrap();
    let token = fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let client = fleeti_client::Client::new(&format!("http://{}", server.addresses.api), token.trim()).unwrap();
    let record = client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    let paths = paths(&dir.path().join("device"), &dir.path().join("pki/public"));

    let request = EnrollRequest {
        token: record.token.clone(),
        csr_pem: fleeti_pki::csr::create(&identity::key(&paths).unwrap()).unwrap(),
        architecture: fleeti_core::id::Architecture::X86_64,
        running: "kiosk@1".parse().unwrap(),
    };
    let anonymous = reqwest::Client::builder().tls_backend_preconfigured(identity::anonymous_tls(&paths).unwrap()).build().unwrap();
    let answer = anonymous.post(format!("{}/enroll", record.https_url)).json(&request).send().await.unwrap();
    let enrolled: EnrollResponse = answer.json().await.unwrap();
    let window = enrolled.renewal;
    let first = Identity::store(&paths, enrolled, ServerAddress::of(&record).unwrap()).unwrap();
    assert!(!first.is_due(window.start_s - 1).unwrap() && first.is_due(window.end_s + 1).unwrap());

    // The server has signed, and the device was cut off before it kept the answer: it asks again, with the same key.
    let next = fleeti_pki::csr::create(&identity::next_key(&paths).unwrap()).unwrap();
    let body = serde_json::json!({ "csr_pem": next });
    let lost = http(&first, &paths).post(format!("{}/renew", record.https_url)).json(&body).send().await.unwrap();
    assert_eq!(lost.status(), 200);
    let again = Identity::load(&paths).unwrap().unwrap();
    enrollment::renew(&paths, &again, &http(&again, &paths)).await.unwrap();

    let renewed = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(renewed.device, first.device);
    let desired = format!("{}/desired", record.https_url);
    assert_eq!(http(&renewed, &paths).get(&desired).send().await.unwrap().status(), 200);
    assert_eq!(http(&first, &paths).get(&desired).send().await.unwrap().status(), 403, "the old key is good for nothing any more");
    // And once more, from the renewed one.
    enrollment::renew(&paths, &renewed, &http(&renewed, &paths)).await.unwrap();
    let third = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(http(&third, &paths).get(&desired).send().await.unwrap().status(), 200);
    server.stop().await;
}
