//! A signing service that does not answer takes no device offline, however long it is away, and
//! lets no revoked device return.

use crate::peer::Peer;
use crate::world::{TestDevice, World, write_keys};
use fleeti_control::clock::Clock;
use fleeti_control::clock::now_s;
use fleeti_control::health;
use fleeti_core::wire::api::{CreateCommand, RevocationReason};
use fleeti_core::wire::device::CommandKind;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_server::config::Config;
use fleeti_server::gateway::tls::TlsClock;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer::{keys, socket};
use fleeti_store::sql;
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinHandle;

const DAY_S: u64 = 86_400;

/// A signing service behind a socket, as a process would be.
pub struct Signer(JoinHandle<()>);

impl Signer {
    pub fn start(data: &Path) -> Self {
        let keys = keys::open(&data.join("pki"), b"a passphrase of tests", None).unwrap();
        let service = SigningService::open(keys, &data.join("signer"), Limits::default()).unwrap();
        let handle = fleeti_signer::embedded::start(service).unwrap();
        let listener = socket::listen(&data.join("socket")).unwrap();
        let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
        Self(tokio::spawn(socket::serve(listener, handle, own, None)))
    }
    /// Ends the listener and all connections; the next start makes another socket.
    async fn die(self, world: &World) {
        self.0.abort();
        self.0.await.ok();
        std::fs::remove_file(world.dir.path().join("socket")).unwrap();
    }
}

pub fn clock(ahead: &Arc<AtomicU64>) -> Clock {
    let ahead = Arc::clone(ahead);
    Clock::of(move || now_s() + ahead.load(Ordering::SeqCst))
}

/// The device, with its clock moved.
pub fn then(device: &TestDevice, ahead: &Arc<AtomicU64>) -> TestDevice {
    let mut tls: ClientConfig = (*device.tls).clone();
    tls.time_provider = Arc::new(TlsClock(clock(ahead)));
    TestDevice { id: device.id.clone(), tls: Arc::new(tls) }
}

pub async fn is_served(world: &World, device: &TestDevice) -> bool {
    let http = world.https((*device.tls).clone());
    let is_served = http.get(world.url("/desired")).send().await.is_ok_and(|r| r.status() == 200);
    if is_served {
        Peer::session(world, device).await.is_alive().await;
    }
    is_served
}

/// Whether the device is refused, in the handshake or at its request.
pub async fn is_refused(world: &World, device: &TestDevice) -> bool {
    let http = world.https((*device.tls).clone());
    let http = http.get(world.url("/desired")).send().await.map_or(true, |r| r.status() == 403);
    let mqtt =
        Peer::tls(world, &device.tls).await.is_err() || Peer::session_refused(world, device).await;
    http && mqtt
}

async fn readyz(world: &World) -> (u16, String) {
    let answer =
        reqwest::get(format!("http://{}/readyz", world.server.addresses.api)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[actix_web::test]
async fn a_signer_that_is_dead_for_two_weeks_takes_no_device_offline() {
    let (dir, ahead) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    write_keys(dir.path());
    let signer = Signer::start(dir.path());
    let set = |config: &mut Config| {
        config.signer = Some(config.data.join("socket"));
        config.clock = clock(&ahead);
    };
    let world = World::start(dir, set).await;
    let (good, bad, late) = (world.enroll().await, world.enroll().await, world.enroll().await);
    world.client.revoke_device(&bad.id, RevocationReason::KeyCompromise).await.unwrap();
    assert_eq!(readyz(&world).await.0, 200);
    // The signing service ends, with all of its connections.
    signer.die(&world).await;
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, set).await;
    let (code, text) = readyz(&world).await;
    assert!(code == 503 && text.contains("the signing service has not answered"), "{text}");
    assert_eq!(
        reqwest::get(format!("http://{}/healthz", world.server.addresses.api))
            .await
            .unwrap()
            .status(),
        200
    );
    assert!(is_served(&world, &good).await && is_refused(&world, &bad).await);
    // Acts wait for the audit log and are not lost. A device that is revoked now is refused at
    // once.
    world.client.revoke_device(&late.id, RevocationReason::KeyCompromise).await.unwrap();
    assert!(is_refused(&world, &late).await);
    let command = CreateCommand { kind: CommandKind::Report, valid_s: 60, confirm: None };
    let command_sent = world.client.create_command(&good.id, &command).await.unwrap();
    ahead.store(14 * DAY_S, Ordering::SeqCst);
    let [good, bad, late] = [good, bad, late].map(|device| then(&device, &ahead));
    assert!(
        is_served(&world, &good).await
            && is_refused(&world, &bad).await
            && is_refused(&world, &late).await
    );
    let warnings = health::warnings(&world.server.control).join("\n");
    assert!(warnings.contains("the CRL for devices expired 13 days ago"), "{warnings}");
    assert!(
        world.client.trust().await.unwrap().warnings.iter().any(|w| w.contains("signer")),
        "the page says it as well"
    );
    // The same after another restart of the server. No device can enroll meanwhile.
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, set).await;
    assert!(
        is_served(&world, &good).await
            && is_refused(&world, &bad).await
            && is_refused(&world, &late).await
    );
    // The signing service returns, and everything continues by itself.
    let signer = Signer::start(world.dir.path());
    crate::trust::until("the signer is found", async || {
        health::look(&world.server.control).await;
        !health::is_signer_away(&world.server.control)
    })
    .await;
    let log = world.audit().await;
    assert!(
        log.contains(&command_sent.id) && log.contains(&format!("{} key_compromise", late.id)),
        "{log}"
    );
    fleeti_control::trust::revocation::publish_crls(&world.server.control).await.unwrap();
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let mut tls = world.anonymous();
    tls.time_provider = Arc::new(TlsClock(clock(&ahead)));
    let token = world.token().await;
    let request = serde_json::json!({"token": token, "csr_pem": fleeti_pki::csr::create(&key).unwrap(), "architecture": "x86_64",
        "running": "kiosk@1"});
    let enrolled = world.https(tls).post(world.url("/enroll")).json(&request).send().await.unwrap();
    assert_eq!(enrolled.status(), 200);
    drop(signer);
}

#[actix_web::test]
async fn what_is_kept_for_a_start_without_the_signer_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let mode = |path: &str| {
        std::fs::metadata(world.dir.path().join(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("standby"), mode("standby/identity.json")), (0o700, 0o600));
}

#[actix_web::test]
async fn a_server_that_has_nothing_to_start_with_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let config = Config { signer: Some(dir.path().join("socket")), ..Config::new(dir.path()) };
    let failed = fleeti_server::server::Server::start(config).await.err().unwrap();
    assert!(format!("{failed:#}").contains("none are stored from an earlier start"), "{failed:#}");
}

/// The number of waiting acts has a limit. At the limit a change is refused, and not done.
#[actix_web::test]
async fn acts_that_wait_for_a_dead_signer_are_bounded() {
    use fleeti_store::{Db, audit};
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("fleeti.db")).await.unwrap();
    let mut tx = db.write().await.unwrap();
    assert!(!audit::is_full(&mut tx).await.unwrap());
    let act = audit::WaitingAct {
        id: "audit-1".into(),
        actor: "admin".into(),
        action: "test".into(),
        subject: "first".into(),
    };
    audit::insert(&mut tx, &act, 1).await.unwrap();
    assert!(!audit::is_full(&mut tx).await.unwrap());
    let last = "INSERT INTO audit_outbox (sequence, id, at_s, actor, action, subject) \
                SELECT sequence + $1 - 1, 'audit-2', 1, 'admin', 'test', 'last' FROM audit_outbox";
    sql::query(last)
        .bind(i64::try_from(audit::WAITING_MAX).unwrap())
        .execute(&mut *tx)
        .await
        .unwrap();
    assert!(audit::is_full(&mut tx).await.unwrap());
    audit::remove(&mut tx, &["audit-1"]).await.unwrap();
    assert!(!audit::is_full(&mut tx).await.unwrap(), "the oldest is in the log, and there is room");
}
