//! Recovery of devices without a visit: a real server, and a real agent with the state that it kept
//! before.

use crate::peer::Peer;
use crate::rollout::{make_release, publish_release, release_key, report_of, start, upload};
use crate::trust::until;
use crate::world::{World, files_of, offline};
use fleeti_control::devices::received;
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::device::{NUMBER_MAX, SEQUENCE_JUMP_MAX};
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::readmission::CreateReadmission;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role, from_pem, issue, to_pem};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::sealed;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::transition::{self, Change, KIND, ServerMove, Transition};
use fleeti_pki::transparency::note::LogKey;
use fleeti_testkit::host::{Host, Setup};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use x509_cert::Certificate;

/// Time that a boot on trial has to reach the server.
const DEADLINE: Duration = Duration::from_secs(3);

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A device in memory, with the current image of the organisation.
pub struct Device {
    pub host: Arc<Host>,
    agent: JoinHandle<anyhow::Result<()>>,
    home: tempfile::TempDir,
}

impl Device {
    pub async fn enrolls(world: &World) -> Self {
        let home = tempfile::tempdir().unwrap();
        let record =
            world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
        let public = world.dir.path().join("pki/public");
        let setup = Setup {
            dir: home.path().into(),
            public,
            running: "kiosk@1".parse().unwrap(),
            record,
            is_healthy: true,
        };
        let host = Host::with_deadline(setup, Some(DEADLINE)).unwrap();
        let agent = Self::run(&host);
        until("it enrolls and reports", async || {
            world.client.devices().await.unwrap().iter().any(|d| d.online && d.boot.is_some())
        })
        .await;
        Self { host, agent, home }
    }
    fn run(host: &Arc<Host>) -> JoinHandle<anyhow::Result<()>> {
        let host = Arc::clone(host);
        tokio::task::spawn(async move { host.run().await })
    }
    /// Switches the device off and on again.
    fn restart(&mut self) {
        self.agent.abort();
        self.agent = Self::run(&self.host);
    }
    fn kept(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join("agent").join(name)
    }
}

/// Stops a server; another server then uses the same data at the same address.
pub async fn stopped(world: World) -> (tempfile::TempDir, [std::net::SocketAddr; 2]) {
    let World { dir, server, .. } = world;
    let ports = [server.addresses.https, server.addresses.mqtt];
    server.stop().await;
    (dir, ports)
}

async fn started(dir: tempfile::TempDir, [https, mqtt]: [std::net::SocketAddr; 2]) -> World {
    World::start(dir, |config| (config.https, config.mqtt) = (https, mqtt)).await
}

pub async fn is_online(world: &World) -> bool {
    world.client.devices().await.unwrap().iter().any(|d| d.online)
}

async fn alarm(world: &World) -> Option<String> {
    world.client.devices().await.unwrap()[0].alarm.clone()
}

/// Rolls out a release, and waits until the device runs it.
pub async fn rolls_out(world: &World, release: &str, key: &SoftKey) {
    let (dir, name) = (tempfile::tempdir().unwrap(), release.parse().unwrap());
    make_release(dir.path(), &name, key);
    upload(world, dir.path(), &name).await;
    world.client.publish(&name).await.unwrap();
    let rollout = world.client.start_rollout(&start(release)).await.unwrap();
    let phase = async || world.client.rollout(&rollout.id).await.unwrap().phase;
    until(release, async || phase().await != Phase::Running).await;
    let ended = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(ended.phase, Phase::Succeeded, "{release}: {:?}", ended.devices);
}

fn signed(change: Change, issued_s: u64, keys: &[&SoftKey]) -> SignedTransition {
    let signers: Vec<&dyn Signer> = keys.iter().map(|k| *k as &dyn Signer).collect();
    transition::sign(&Transition { kind: KIND.into(), issued_s, change }, &signers).unwrap()
}

#[actix_web::test]
async fn a_report_of_a_new_epoch_is_taken_and_what_is_refused_is_said_to_both() {
    let world = World::new().await;
    let device = world.enroll().await;
    let report = |sequence: u64, epoch: Option<&str>, boot: &str| {
        let mut report: serde_json::Value =
            serde_json::from_slice(&report_of("kiosk@1", State::Idle)).unwrap();
        report["sequence"] = sequence.into();
        report["boot"]["boot_id"] = boot.into();
        if let Some(epoch) = epoch {
            report["epoch"] = epoch.into();
        }
        report.to_string().into_bytes()
    };
    let take = async |sequence, epoch, boot: &str| {
        received(&world.server.control, &device.id, Up::Report, &report(sequence, epoch, boot))
            .await
            .map_err(|e| e.to_string())
    };
    let boot = async || world.client.device(&device.id).await.unwrap().boot.unwrap().boot_id;
    take(7, Some("a"), "1").await.unwrap();
    // The device lost `update.json`, also when its sequence had reached the maximum.
    take(1, Some("b"), "2").await.unwrap();
    take(NUMBER_MAX, Some("c"), "3").await.unwrap();
    take(1, Some("d"), "4").await.unwrap();
    assert_eq!(boot().await, "4");
    // An older agent sends no epoch: its boot is the epoch.
    take(50, None, "5").await.unwrap();
    take(3, None, "6").await.unwrap();
    assert_eq!(boot().await, "6");
    // A report that was received before changes nothing and is no error; nor is another boot of the
    // same epoch.
    take(3, None, "6").await.unwrap();
    assert_eq!(world.client.device(&device.id).await.unwrap().alarm, None);

    take(3 + SEQUENCE_JUMP_MAX, None, "6").await.unwrap();
    let jumped = take(4 + 2 * SEQUENCE_JUMP_MAX, None, "6").await.unwrap_err();
    assert!(jumped.contains("is too far ahead: the last one was"), "{jumped}");
    assert!(
        world
            .client
            .device(&device.id)
            .await
            .unwrap()
            .alarm
            .unwrap()
            .contains("refuses its reports")
    );
    assert_eq!(world.client.devices().await.unwrap().len(), 1);
    take(4 + SEQUENCE_JUMP_MAX, None, "6").await.unwrap();
    assert_eq!(
        world.client.device(&device.id).await.unwrap().alarm,
        None,
        "it is over once a report was taken"
    );

    // A number that SQLite cannot store: the session ends with a reason.
    let mut peer = Peer::session(&world, &device).await;
    for above in [NUMBER_MAX + 1, 1 << 63, u64::MAX] {
        peer.publish(Up::Report.topic(&device.id), &report(above, Some("e"), "7"), 9).await;
        crate::gateway::wait_for_ack(&mut peer, 9, PubAckReason::PayloadFormatInvalid).await;
        let alarm = world.client.device(&device.id).await.unwrap().alarm.unwrap();
        assert!(alarm.contains(&format!("{above} is above")), "{alarm}");
    }
    assert_eq!(boot().await, "6");
}

/// The device lost the state of its update, and still reports what it runs.
#[actix_web::test]
async fn an_agent_whose_state_does_not_parse_goes_on_and_says_so() {
    let world = World::new().await;
    let mut device = Device::enrolls(&world).await;
    rolls_out(&world, "kiosk@2", &release_key()).await;
    device.agent.abort();
    for name in
        ["update.json", "announcements.json", "command-ledger.json", "renew-at", "server.json"]
    {
        std::fs::write(device.kept(name), b"\0\0\0\0").unwrap();
    }
    let outbox = device.kept("outbox/0000000000000001.report");
    std::fs::create_dir_all(&outbox).unwrap();
    device.restart();
    until("it says so", async || alarm(&world).await.is_some()).await;
    let alarm = alarm(&world).await.unwrap();
    for name in ["update.json", "announcements.json", "command-ledger.json", "server.json"] {
        assert!(alarm.contains(&format!("{name} could not be used")), "{name}: {alarm}");
    }
    until("it is there", async || is_online(&world).await).await;
    rolls_out(&world, "kiosk@3", &release_key()).await;
}

#[actix_web::test]
async fn an_outage_longer_than_the_deadline_rolls_nothing_back() {
    let world = World::new().await;
    let device = Device::enrolls(&world).await;
    publish_release(&world, "kiosk@2").await;
    device.host.hold_trials(true);
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    until("it boots it", async || device.host.running().version.as_str() == "2").await;
    let (dir, ports) = stopped(world).await;
    device.host.hold_trials(false);
    until("the trial ends", async || device.host.running().version.as_str() == "1").await;
    // The previous version gets the same time, and does not reach the server either.
    until("it knows that this is an outage", async || {
        std::fs::read_to_string(device.kept("update.json"))
            .is_ok_and(|text| text.contains("\"contact\":\"silent\""))
    })
    .await;
    let world = started(dir, ports).await;
    let state = async || world.client.rollout(&rollout.id).await.unwrap();
    until("it is neither a success nor an error", async || {
        state().await.devices[0].phase != DevicePhase::Rebooting
    })
    .await;
    assert_eq!(state().await.phase, Phase::Running, "{:?}", state().await);
    until("it is tried again", async || state().await.phase != Phase::Running).await;
    assert_eq!(state().await.phase, Phase::Succeeded, "{:?}", state().await);
    assert_eq!(device.host.running().to_string(), "kiosk@2");
    assert!(
        !std::fs::read_to_string(device.kept("update.json"))
            .unwrap()
            .contains("\"rolled_back\":[\"2\"]")
    );
}

/// A server whose log and database are those of last week.
#[actix_web::test]
async fn a_server_that_was_restored_from_a_backup_is_believed_again_by_a_signed_reset() {
    let world = World::new().await;
    let device = Device::enrolls(&world).await;
    let (dir, ports) = stopped(world).await;
    let backup = tempfile::tempdir().unwrap();
    copy(dir.path(), backup.path());
    let world = started(dir, ports).await;
    rolls_out(&world, "kiosk@2", &release_key()).await;
    let (gone, ports) = stopped(world).await;
    drop(gone);
    let world = started(backup, ports).await;
    // The restored log continues with other entries than those that the device has seen.
    publish_release(&world, "kiosk@7").await;
    for _ in 0..40 {
        world.token().await;
    }
    fleeti_control::trust::notice::renew(&world.server.control).await.unwrap();
    until("it raises the alarm", async || {
        alarm(&world).await.is_some_and(|a| a.contains("the audit log had"))
    })
    .await;

    let log = LogKey::from_text(std::str::from_utf8(&files_of("public/audit.pub")).unwrap())
        .unwrap()
        .to_text();
    let checkpoint = world.client.audit_checkpoint().await.unwrap();
    let reset = |key: &SoftKey| {
        signed(
            Change::LogReset { log: log.clone(), checkpoint: checkpoint.clone() },
            now_s(),
            &[key],
        )
    };
    world
        .client
        .import_transition(&reset(&SoftKey::generate(Algorithm::P384).unwrap()))
        .await
        .unwrap();
    world.client.import_transition(&reset(&release_key())).await.unwrap();
    until("the alarm is over", async || alarm(&world).await.is_none()).await;
    rolls_out(&world, "kiosk@3", &release_key()).await;
    assert_eq!(alarm(&world).await, None, "and does not come back");
    assert_eq!(device.host.running().to_string(), "kiosk@3");
}

#[actix_web::test]
async fn a_new_key_of_the_audit_log_strands_nobody() {
    let world = World::new().await;
    let device = Device::enrolls(&world).await;
    rolls_out(&world, "kiosk@2", &release_key()).await;
    let (dir, ports) = stopped(world).await;
    let key = SoftKey::generate(Algorithm::Ed25519).unwrap();
    let (old, new) = (
        String::from_utf8(files_of("public/audit.pub")).unwrap(),
        LogKey::of("fleeti/second/log", &key).unwrap().to_text(),
    );
    put_key(dir.path(), "audit", purpose::AUDIT, &key);
    std::fs::write(dir.path().join("pki/public/audit.pub"), &new).unwrap();
    std::fs::remove_dir_all(dir.path().join("audit")).unwrap();
    let world = started(dir, ports).await;
    let change = Change::LogKey { from: LogKey::from_text(&old).unwrap().to_text(), to: new };
    world.client.import_transition(&signed(change, now_s(), &[&release_key()])).await.unwrap();
    rolls_out(&world, "kiosk@3", &release_key()).await;
    assert_eq!(device.host.running().to_string(), "kiosk@3");
    assert_eq!(alarm(&world).await, None);
}

/// A device with the current image, off during two changes of the root and two of the release keys.
/// Its key is a file, and no CA of its certificate is trusted any more.
#[actix_web::test]
async fn a_device_from_a_drawer_finds_back_to_a_server_of_other_anchors() {
    let world = World::new().await;
    let device = Device::enrolls(&world).await;
    let id = world.client.devices().await.unwrap()[0].id.clone();
    device.agent.abort();
    let (dir, ports) = stopped(world).await;
    let roots = [(); 2].map(|()| {
        let key = SoftKey::generate(Algorithm::P384).unwrap();
        let root =
            certificate::self_signed(Role::Root, Period::starting(now_s(), 86_400), &key).unwrap();
        (root, key)
    });
    let releases = [(); 2].map(|()| SoftKey::generate(Algorithm::P384).unwrap());
    let first = (
        from_pem(std::str::from_utf8(&files_of("public/root.pem")).unwrap()).unwrap(),
        SoftKey::from_pkcs8_der(&offline(purpose::ROOT)).unwrap(),
    );
    let of = |key: &SoftKey| ReleaseKeys::new(vec![PublicKey::of(key).unwrap()], 1).unwrap();
    let release = |from: &SoftKey, to: &SoftKey| {
        let from_sha256 = transition::release_keys_sha256(&of(from)).unwrap();
        signed(
            Change::ReleaseKeys { from_sha256, to_pem: of(to).to_pem().unwrap() },
            now_s(),
            &[from],
        )
    };
    let chain = [
        transition::root(&authority_of(&first), &roots[0].0, true, now_s()).unwrap(),
        transition::root(&authority_of(&roots[0]), &roots[1].0, true, now_s()).unwrap(),
        release(&release_key(), &releases[0]),
        release(&releases[0], &releases[1]),
    ];
    below(dir.path(), (&roots[1].0, &roots[1].1));
    std::fs::write(dir.path().join("pki/public/release.pem"), of(&releases[1]).to_pem().unwrap())
        .unwrap();
    let world = started(dir, ports).await;
    for transition in &chain {
        world.client.import_transition(transition).await.unwrap();
    }
    let agent = Device::run(&device.host);
    let (taken, renewed) = (device.kept("transitions.json"), device.kept("renewed.json"));
    until("it walks to the root of today", async || taken.exists()).await;
    assert!(!renewed.exists(), "nobody has let it in again");
    let fleet = "demo".parse().unwrap();
    assert!(
        world
            .client
            .readmit(&fleet, &CreateReadmission { reason: " ".into(), valid_s: 600 })
            .await
            .is_err()
    );
    world
        .client
        .readmit(
            &fleet,
            &CreateReadmission { reason: "two years in a drawer".into(), valid_s: 600 },
        )
        .await
        .unwrap();
    until("it is there", async || is_online(&world).await).await;
    rolls_out(&world, "kiosk@2", &releases[1]).await;
    let log = world.audit().await;
    assert!(
        log.contains("fleet.readmit")
            && log.contains("two years in a drawer")
            && log.contains("device.readmitted"),
        "{log}"
    );
    // A revoked device cannot return in this way.
    agent.abort();
    world
        .client
        .revoke_device(&id, fleeti_core::wire::api::RevocationReason::Unspecified)
        .await
        .unwrap();
    let agent = Device::run(&device.host);
    assert!(!is_online(&world).await);
    agent.abort();
}

/// Replaces a key of the signing service.
fn put_key(data: &Path, name: &str, purpose: &str, key: &SoftKey) {
    let passphrase = std::fs::read(data.join("passphrase")).unwrap();
    let sealed =
        sealed::seal(&key.to_pkcs8_der().unwrap(), purpose, passphrase.as_slice()).unwrap();
    std::fs::write(data.join(format!("pki/online/{name}.key")), sealed).unwrap();
}

fn authority_of(root: &(Certificate, SoftKey)) -> Authority<'_> {
    Authority { certificate: &root.0, signer: &root.1 }
}

/// Makes another root, with intermediate CAs of its own.
pub fn below(data: &Path, (root, key): (&Certificate, &SoftKey)) {
    let authority = Authority { certificate: root, signer: key };
    std::fs::write(data.join("pki/public/root.pem"), to_pem(root).unwrap()).unwrap();
    for of in Purpose::ALL {
        let (name, key) =
            (purpose::of_intermediate(of), SoftKey::generate(Algorithm::P384).unwrap());
        let made = issue(
            Role::Intermediate { purpose: of },
            Period::starting(now_s(), 80_000),
            key.public_key_der(),
            &authority,
        )
        .unwrap();
        put_key(data, name, name, &key);
        std::fs::write(data.join(format!("pki/public/{name}.pem")), to_pem(&made).unwrap())
            .unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (here, there) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&here, &there);
        } else {
            std::fs::copy(here, there).unwrap();
        }
    }
}

/// Another address for a server, given in another form than enrollment records have.
fn moved(from: &str, to: [std::net::SocketAddr; 2]) -> Change {
    let [https_url, mqtt_address] = [format!("https://{}", to[0]), to[1].to_string()];
    Change::Server(ServerMove { from: from.into(), https_url, mqtt_address, proxy: None })
}

/// Ports of the loopback on which nothing listens.
fn elsewhere() -> [std::net::SocketAddr; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap())
}

#[actix_web::test]
async fn a_server_that_was_renamed_and_moved_is_found_and_a_wrong_address_strands_nobody() {
    let world = World::new().await;
    let record =
        world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    let device = Device::enrolls(&world).await;
    let is_at = |url: &str| {
        let kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(device.kept("server.json")).unwrap()).unwrap();
        kept["https_url"] == url
    };
    let (new, nowhere) = (elsewhere(), elsewhere());
    let [new_url, nowhere_url] = [new, nowhere].map(|[https, _]| format!("https://{https}"));
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    // Only the last of these counts: the first is not signed by release keys, and the second is
    // about another server.
    for transition in [
        signed(moved(&record.https_url, elsewhere()), now_s(), &[&mallory]),
        signed(moved("https://another.example", elsewhere()), now_s(), &[&release_key()]),
        signed(moved(&record.https_url, nowhere), now_s(), &[&release_key()]),
    ] {
        world.client.import_transition(&transition).await.unwrap();
    }
    until("it goes to the announced address", async || is_at(&nowhere_url)).await;
    until("no server is there, so it returns to the first one", async || is_at(&record.https_url))
        .await;
    until("it is there", async || is_online(&world).await).await;

    world
        .client
        .import_transition(&signed(moved(&record.https_url, new), now_s() + 1, &[&release_key()]))
        .await
        .unwrap();
    until("it goes to the announced address", async || is_at(&new_url)).await;
    let (dir, _) = stopped(world).await;
    let world = started(dir, new).await;
    until("it is there", async || is_online(&world).await).await;
    rolls_out(&world, "kiosk@2", &release_key()).await;
    assert_eq!(alarm(&world).await, None);
    assert!(is_at(&new_url));
}
