//! MQTT clients by other projects as devices: paho-mqtt, aiomqtt, and the clients of mosquitto.

use crate::trust::until;
use crate::world::World;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::{Down, Up};
use fleeti_pki::signer::{Algorithm, SoftKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A device's certificate and key in files.
struct Files {
    dir: tempfile::TempDir,
    id: DeviceId,
}

impl Files {
    async fn enroll(world: &World) -> Self {
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let response: serde_json::Value =
            world.try_enroll(&world.token().await, &key).await.json().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let chain = response["certificate_chain_pem"].as_str().unwrap();
        assert!(CertificateDer::pem_slice_iter(chain.as_bytes()).count() >= 2);
        std::fs::write(dir.path().join("chain.pem"), chain).unwrap();
        std::fs::write(dir.path().join("key.pem"), key_pem(&key)).unwrap();
        std::fs::copy(world.dir.path().join("pki/public/root.pem"), dir.path().join("root.pem"))
            .unwrap();
        Self { dir, id: response["device"].as_str().unwrap().parse().unwrap() }
    }
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

/// A private key as a file.
pub fn key_pem(key: &SoftKey) -> String {
    let text = fleeti_pki::base64_text(&key.to_pkcs8_der().unwrap());
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

async fn run(mut command: Command) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|e| {
        panic!("{shown}: {e}; install it with `cargo xtask setup` and `cargo xtask tools`")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{shown}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    output
}

/// The Python with paho-mqtt and aiomqtt.
fn python() -> PathBuf {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/mqtt/bin/python").into();
    std::env::var_os("FLEETI_MQTT_PYTHON").map_or(usual, PathBuf::from)
}

async fn is_a_device(script: &str) {
    let world = World::new().await;
    let device = Files::enroll(&world).await;
    let report = device.path("report.json");
    std::fs::write(&report, crate::rollout::report_of("kiosk@1", fleeti_core::update::State::Idle))
        .unwrap();
    let mut client = Command::new(python());
    client.arg(format!("{}/tests/interop/{script}", env!("CARGO_MANIFEST_DIR")));
    client.args([
        "localhost",
        &world.server.addresses.mqtt.port().to_string(),
        device.id.as_str(),
        &device.dir.path().display().to_string(),
    ]);
    client.args([Down::Desired.topic(&device.id), Up::Report.topic(&device.id), report]);
    let output = run(client).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        "desired state of generation 0; report acknowledged; the session went on",
        "{script}"
    );
    let kept = world.client.device(&device.id).await.unwrap();
    assert_eq!(kept.boot.unwrap().running.to_string(), "kiosk@1");
}

#[actix_web::test]
async fn paho_is_a_device() {
    is_a_device("paho_device.py").await;
}

#[actix_web::test]
async fn aiomqtt_is_a_device() {
    is_a_device("aiomqtt_device.py").await;
}

#[actix_web::test]
async fn the_clients_of_mosquitto_are_devices() {
    let world = World::new().await;
    let device = Files::enroll(&world).await;
    let report = device.path("report.json");
    std::fs::write(&report, crate::rollout::report_of("kiosk@1", fleeti_core::update::State::Idle))
        .unwrap();
    let client = |program: &str| {
        let mut client = Command::new(program);
        client.args([
            "-V",
            "mqttv5",
            "-h",
            "localhost",
            "-p",
            &world.server.addresses.mqtt.port().to_string(),
        ]);
        client.args(["-i", device.id.as_str(), "-q", "1", "-c", "-x", "3600"]);
        client.args([
            "--cafile",
            &device.path("root.pem"),
            "--cert",
            &device.path("chain.pem"),
            "--key",
            &device.path("key.pem"),
        ]);
        client
    };
    let mut sub = client("/usr/bin/mosquitto_sub");
    sub.args(["-t", &Down::Desired.topic(&device.id), "-C", "1", "-W", "30"]);
    let desired: serde_json::Value = serde_json::from_slice(&run(sub).await.stdout).unwrap();
    assert_eq!(desired["generation"], 0);
    let mut publish = client("/usr/bin/mosquitto_pub");
    publish.args(["-t", &Up::Report.topic(&device.id), "-f", &report]);
    run(publish).await;
    until("the report is kept", async || {
        world.client.device(&device.id).await.unwrap().boot.is_some()
    })
    .await;
    // Each client resumes the session of the previous one.
    let mut again = client("/usr/bin/mosquitto_sub");
    again.args(["-t", &Down::Desired.topic(&device.id), "-C", "1", "-W", "30"]);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&run(again).await.stdout).unwrap(),
        desired
    );
}
