//! Announcements that a device gets between updates, and that an attacker who takes over the server
//! cannot make it forget.

use crate::bench::{Bench, now_s};
use crate::faulty_server::FaultyServer;
use fleeti_agent::announcements::{Announcements, NotTaken};
use fleeti_agent::driver::{Driver, Jobs, Parts};
use fleeti_agent::outbox::Outbox;
use fleeti_agent::privileged::{self, Helper};
use fleeti_agent::staging::Staging;
use fleeti_core::id::ReleaseName;
use fleeti_core::update::{FailureCode, State};
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::{DesiredState, LogConsistency, Notice, REVOKED_MAX, Report};
use fleeti_pki::audit::Act;
use fleeti_pki::bundle::Bundle;
use fleeti_pki::certificate::{self, Authority, Period, Role, self_signed, to_pem};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{bundle, crl};
use fleeti_testkit::release_log::MemoryLog;
use std::sync::Arc;

/// A server, and a device that runs kiosk@1.
pub struct Scene {
    pub bench: Bench,
    server: FaultyServer,
    announcements: Announcements,
    http: reqwest::Client,
}

impl Scene {
    pub fn new() -> Self {
        let bench = Bench::new();
        let announcements = Announcements::open(&bench.paths).unwrap();
        Self { bench, server: FaultyServer::start(), announcements, http: reqwest::Client::new() }
    }
    /// Gives the device's image a root of its own, and starts the device with it.
    fn root(&mut self) -> (x509_cert::Certificate, SoftKey) {
        let key = SoftKey::generate(Algorithm::P384).unwrap();
        let root = self_signed(Role::Root, Period::starting(now_s(), 86_400), &key).unwrap();
        std::fs::write(self.bench.paths.lib.join("trust/root.pem"), to_pem(&root).unwrap())
            .unwrap();
        self.announcements = Announcements::open(&self.bench.paths).unwrap();
        (root, key)
    }
    async fn listen(&self, notice: &Notice) -> Result<(), String> {
        self.announcements
            .listen(notice, &self.http, &self.server.url)
            .await
            .map_err(|e| format!("{e:#}"))
    }
    async fn revoked(&self, releases: &[&str]) {
        let revoked_releases = releases.iter().map(|r| r.parse().unwrap()).collect();
        self.listen(&Notice { revoked_releases, ..Notice::default() }).await.unwrap();
    }
    fn knows(&self, release: &str) -> bool {
        self.announcements.is_revoked(&release.parse().unwrap())
    }
    /// A checkpoint of the current log. The server has the consistency proof from `seen`, if given.
    fn stated(&self, seen: Option<u64>, at_s: u64) -> Notice {
        let proof = self.bench.log.proof(0, seen.unwrap_or(0), at_s).unwrap();
        let size =
            self.bench.log.key.verify(&proof.published.checkpoint).unwrap().checkpoint().size;
        if let Some(seen) = seen {
            let consistency = LogConsistency { hashes: proof.consistency };
            self.server.put(
                &format!("log/consistency.json?from={seen}&to={size}"),
                serde_json::to_vec(&consistency).unwrap(),
            );
        }
        Notice { checkpoint: Some(proof.published.checkpoint), ..Notice::default() }
    }
    fn enter(&mut self, n: usize) {
        for _ in 0..n {
            self.bench.log.enter(Act::new("admin", "test", "x")).unwrap();
        }
    }
    /// Starts a different history of `n` entries, signed by the same key.
    fn fork(&mut self, n: usize) {
        self.bench.log = std::mem::replace(&mut self.bench.log, MemoryLog::new().unwrap()).forget();
        for _ in 0..n {
            self.bench.log.enter(Act::new("mallory", "test", "y")).unwrap();
        }
    }
    /// Restarts the device with changed state.
    fn remembering(self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let path = self.bench.paths.state.join("announcements.json");
        let mut kept = std::fs::read(&path).map_or_else(
            |_| serde_json::json!({}),
            |bytes| serde_json::from_slice(&bytes).unwrap(),
        );
        change(&mut kept);
        std::fs::write(&path, kept.to_string()).unwrap();
        Self { announcements: Announcements::open(&self.bench.paths).unwrap(), ..self }
    }
    fn alarm(&self) -> Option<String> {
        self.announcements.report().1
    }
}

#[tokio::test]
async fn a_revocation_is_remembered_and_no_list_of_names_flushes_it() {
    let scene = Scene::new();
    scene.revoked(&["kiosk@3", "gateway@9", "kiosk@1", "kiosk@0.5"]).await;
    assert!(scene.knows("kiosk@3"));
    assert!(
        !scene.knows("gateway@9") && !scene.knows("kiosk@0.5"),
        "releases that it would not install take no space"
    );
    let invented: Vec<ReleaseName> =
        (0..REVOKED_MAX * 2).map(|n| format!("kiosk@{}", 100 + n).parse().unwrap()).collect();
    for some in invented.chunks(REVOKED_MAX) {
        scene
            .listen(&Notice { revoked_releases: some.to_vec(), ..Notice::default() })
            .await
            .unwrap();
    }
    assert!(scene.knows("kiosk@3"), "made-up names do not replace it");
    // After a restart, without a notice about it.
    let again = Announcements::open(&scene.bench.paths).unwrap();
    assert!(again.is_revoked(&"kiosk@3".parse().unwrap()));
    again.forgive(&"kiosk@3".parse().unwrap()).unwrap();
    assert!(!again.is_revoked(&"kiosk@3".parse().unwrap()), "an operator decided so");
}

#[tokio::test]
async fn a_log_that_grew_is_followed_in_whatever_order_its_checkpoints_come() {
    let mut scene = Scene::new();
    scene.enter(3);
    let three = scene.stated(None, now_s());
    scene.listen(&three).await.unwrap();
    scene.enter(4);
    let seven = scene.stated(Some(3), now_s());
    scene.listen(&seven).await.unwrap();
    // The previous checkpoint again: it is consistent with the newest one.
    scene.listen(&three).await.unwrap();
    scene.listen(&seven).await.unwrap();
    assert_eq!(scene.alarm(), None);
    let future = scene.stated(None, now_s() + 10 * 86_400);
    assert!(scene.listen(&future).await.unwrap_err().contains("from the future"));
    assert_eq!(scene.alarm(), None);
}

/// A server that does not answer for a moment, as after a restart: its next notice is an hour away.
#[tokio::test]
async fn a_notice_that_could_not_be_taken_up_is_tried_again() {
    let mut scene = Scene::new();
    scene.enter(3);
    scene.listen(&scene.stated(None, now_s())).await.unwrap();
    scene.fork(5);
    let forked = scene.stated(Some(3), now_s());
    let path = "log/consistency.json?from=3&to=5";
    let proof = scene.server.get(path);
    scene.server.remove(path);
    let (notices, noticed) = tokio::sync::watch::channel(None);
    let asked = || scene.server.requests().iter().filter(|r| r.ends_with(path)).count();
    let announced = async {
        notices.send(Some(forked)).unwrap();
        while asked() < 1 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        scene.server.put(path, proof);
        while scene.alarm().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = announced => {}
        () = scene.announcements.run(noticed, &scene.http, &scene.server.url) => unreachable!("the sender lives"),
    }
    assert!(
        asked() >= 2 && scene.alarm().unwrap().contains("the audit log had 3 entries"),
        "{:?}",
        scene.server.requests()
    );
}

#[tokio::test]
async fn a_log_with_two_histories_raises_an_alarm_that_stays_until_an_operator_has_looked() {
    let mut scene = Scene::new();
    scene.enter(3);
    scene.listen(&scene.stated(None, now_s())).await.unwrap();
    scene.fork(5);
    scene.listen(&scene.stated(Some(3), now_s())).await.unwrap();
    let alarm = scene.alarm().unwrap();
    assert!(alarm.starts_with("log_split: the audit log had 3 entries and has 5 now"), "{alarm}");
    let again = Announcements::open(&scene.bench.paths).unwrap();
    assert_eq!(again.report().1, Some(alarm));
    again.clear_alarm().unwrap();
    assert_eq!(again.report().1, None);
}

#[tokio::test]
async fn a_server_that_states_nothing_new_for_too_long_hides_something() {
    for (days, is_sent_again, is_alarm) in [(6, true, false), (8, true, true), (8, false, true)] {
        let mut scene = Scene::new();
        scene.enter(3);
        let stated = scene.stated(None, now_s() - days * 86_400);
        // As announced days ago.
        let scene = scene.remembering(|kept| kept["checkpoint"] = stated.checkpoint.clone().into());
        assert!(
            scene.announcements.newest_checkpoint().is_some(),
            "also as stored before logs had names"
        );
        // The same checkpoint repeatedly, or none.
        scene.listen(&if is_sent_again { stated } else { Notice::default() }).await.unwrap();
        assert_eq!(
            scene.alarm().is_some_and(
                |a| a.starts_with("log_stale: ") && a.contains("is 8 days old, 7 are allowed")
            ),
            is_alarm,
            "{:?}",
            scene.alarm()
        );
    }
}

/// The helper knows the log from releases, the daemon from notices: a fork between them must be
/// detected.
#[tokio::test]
async fn a_release_whose_log_is_not_the_one_of_the_notices_raises_the_alarm() {
    let mut scene = Scene::new();
    scene.enter(3);
    scene.listen(&scene.stated(None, now_s())).await.unwrap();
    scene.enter(2);
    let honest = scene.stated(Some(3), now_s()).checkpoint.unwrap();
    scene.announcements.take_checkpoint(&honest, &scene.http, &scene.server.url).await.unwrap();
    scene.fork(7);
    // A release that only the fork contains.
    let release = scene.bench.publish(&scene.server, "r", "2");
    let proof = scene.bench.log.proof(release.number, 5, now_s()).unwrap();
    let consistency = LogConsistency { hashes: proof.consistency.clone() };
    let size = scene.bench.log.key.verify(&proof.published.checkpoint).unwrap().checkpoint().size;
    for (path, bytes) in [
        ("r/manifest.json".to_owned(), release.manifest.clone().into_bytes()),
        ("r/signatures.json".to_owned(), serde_json::to_vec(&release.signatures).unwrap()),
        ("r/proof.json?size=0".to_owned(), serde_json::to_vec(&proof).unwrap()),
        (
            format!("log/consistency.json?from=5&to={size}"),
            serde_json::to_vec(&consistency).unwrap(),
        ),
    ] {
        scene.server.put(&path, bytes);
    }
    let paths = scene.bench.paths.clone();
    tokio::spawn(async move { privileged::serve(paths, None).await });
    while !scene.bench.paths.socket().exists() {
        tokio::task::yield_now().await;
    }
    let announcements = Arc::new(scene.announcements);
    let staging = Staging {
        paths: scene.bench.paths.clone(),
        helper: Helper::at(scene.bench.paths.socket()),
        http: scene.http.clone(),
        https_url: scene.server.url.clone(),
        upstream: format!("{}/r", scene.server.url),
        announcements: Arc::clone(&announcements),
        download_kib_s: None,
        progress: tokio::sync::watch::channel(None).0,
    };
    let (code, why) = staging.run().await.unwrap_err();
    assert_eq!(code, FailureCode::LogSplit, "{why}");
    assert!(why.starts_with(&format!("the audit log had 5 entries and has {size} now")), "{why}");
    assert_eq!(announcements.report().1, Some(format!("log_split: {why}")));
    assert_eq!(
        fleeti_agent::release_log::seen(&scene.bench.paths).unwrap(),
        0,
        "the helper has no checkpoint of it"
    );
}

#[tokio::test]
async fn a_server_that_does_not_prove_is_no_alarm_at_once_and_teaches_nothing() {
    let mut scene = Scene::new();
    scene.enter(3);
    scene.listen(&scene.stated(None, now_s())).await.unwrap();
    scene.enter(2);
    let unproved = scene.stated(None, now_s());
    assert!(
        scene
            .listen(&unproved)
            .await
            .unwrap_err()
            .contains("the consistency proof of the audit log")
    );
    assert_eq!(scene.alarm(), None);
    // After days: the server then hides something.
    let scene = scene.remembering(|kept| kept["unproved_since_s"] = (now_s() - 4 * 86_400).into());
    scene.listen(&unproved).await.unwrap_err();
    assert!(scene.alarm().unwrap().contains("no consistency proof of the audit log for 3 days"));
    // Which does not block releases forever.
    let note = unproved.checkpoint.unwrap();
    assert!(matches!(
        scene.announcements.take_checkpoint(&note, &scene.http, &scene.server.url).await,
        Err(NotTaken::Unproved(_))
    ));
}

#[tokio::test]
async fn a_trust_bundle_that_the_root_has_not_signed_is_not_taken() {
    let mut scene = Scene::new();
    scene.root();
    let forged = serde_json::json!({"bundle": "{\"version\":7}", "signature": "MEUCIQ=="});
    scene.server.put("trust-bundle.json", forged.to_string().into_bytes());
    let error = scene.listen(&Notice { trust_bundle: 7, ..Notice::default() }).await.unwrap_err();
    assert!(error.contains("does not verify with this key"), "{error}");
    assert_eq!(scene.announcements.report(), (0, None));
    let kept = std::fs::read_dir(&scene.bench.paths.state)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!kept.into_iter().any(|name| name.starts_with("trust-bundle")));
}

/// A bundle of a root, in the form in which a server sends it.
pub fn signed_bundle(version: u64, root: &x509_cert::Certificate, key: &SoftKey) -> Vec<u8> {
    let authority = Authority { certificate: root, signer: key };
    let update = crl::Update { number: version, this_s: now_s(), next_s: now_s() + 86_400 };
    let crl = fleeti_pki::base64_text(&crl::create(&authority, &[], update).unwrap());
    let root_sha256 = certificate::fingerprint(root).unwrap();
    let made = Bundle {
        kind: bundle::KIND.into(),
        version,
        issued_s: now_s(),
        root_sha256,
        intermediates: vec![],
        crl,
    };
    serde_json::to_vec(&bundle::sign(&made, key).unwrap()).unwrap()
}

#[tokio::test]
async fn a_trust_bundle_never_goes_back() {
    let mut scene = Scene::new();
    let (root, key) = scene.root();
    let announce = async |scene: &Scene, version, served| {
        scene.server.put("trust-bundle.json", signed_bundle(served, &root, &key));
        scene.listen(&Notice { trust_bundle: version, ..Notice::default() }).await
    };
    announce(&scene, 2, 2).await.unwrap();
    assert_eq!(scene.announcements.report(), (2, None));
    // Announced as newer than it is: the root's signature is valid nevertheless.
    let error = announce(&scene, 3, 1).await.unwrap_err();
    assert!(error.contains("announced trust bundle 3 and gave 1"), "{error}");
    assert!(announce(&scene, 3, 2).await.is_err());
    assert_eq!(
        Announcements::open(&scene.bench.paths).unwrap().report(),
        (2, None),
        "also after a restart"
    );
    // Announced as older.
    announce(&scene, 1, 1).await.unwrap();
    let (version, alarm) = scene.announcements.report();
    assert_eq!(version, 2);
    assert!(alarm.unwrap().contains("has trust bundle 1, this device has 2 already"));
    announce(&scene, 3, 3).await.unwrap();
    assert_eq!(scene.announcements.report().0, 3);
}

/// A driver, with what it shares with the daemon.
pub struct Driven {
    pub driver: Driver,
    announcements: Arc<Announcements>,
    pub outbox: Arc<Outbox>,
    pub jobs: Jobs,
}

/// A driver in a stored state.
pub fn driver(scene: &Scene, kept: &serde_json::Value) -> Driven {
    std::fs::write(scene.bench.paths.state.join("update.json"), kept.to_string()).unwrap();
    let outbox = Arc::new(Outbox::open(&scene.bench.paths.state.join("outbox")).unwrap());
    let announcements = Arc::new(Announcements::open(&scene.bench.paths).unwrap());
    let boot = BootSummary {
        boot_id: "b".into(),
        running: "kiosk@1".parse().unwrap(),
        slot: Slot::A,
        verity: Verity::Verified,
        secure_boot: true,
        pcr11: None,
        firmware: None,
        sealed_data: None,
        secrets: vec![],
    };
    let parts = Parts {
        paths: scene.bench.paths.clone(),
        // Nothing answers on this socket: refusing a revoked release needs no helper.
        helper: Helper::at(scene.bench.paths.socket()),
        outbox: Arc::clone(&outbox),
        http: scene.http.clone(),
        https_url: scene.server.url.clone(),
        boot,
        announcements: Arc::clone(&announcements),
    };
    let (driver, jobs) = Driver::new(parts).unwrap();
    Driven { driver, announcements, outbox, jobs }
}

#[tokio::test]
async fn a_device_does_not_go_on_to_a_release_that_it_knows_revoked() {
    let kept = |state: serde_json::Value| serde_json::json!({"state": state, "generation": 1, "sequence": 1, "rolled_back": [], "desired": "3", "forgiveness": null});
    let states = [
        serde_json::json!({"type": "idle"}),
        serde_json::json!({"type": "staging", "target": "3", "attempt": 1}),
        serde_json::json!({"type": "staged", "target": "3", "arm_attempts": 0}),
    ];
    for state in states {
        // Revoked before the release is offered, and while it is being installed.
        for is_offered_again in [true, false] {
            let scene = Scene::new();
            let Driven { mut driver, announcements, outbox, .. } =
                driver(&scene, &kept(state.clone()));
            let notice =
                Notice { revoked_releases: vec!["kiosk@3".parse().unwrap()], ..Notice::default() };
            announcements.listen(&notice, &scene.http, &scene.server.url).await.unwrap();
            if is_offered_again {
                let release = Some("kiosk@3".parse().unwrap());
                driver
                    .desired(DesiredState {
                        generation: 2,
                        release,
                        back: false,
                        forgiven: None,
                        boot_change: None,
                        windows: fleeti_core::windows::Windows::default(),
                        skip_windows_until_s: None,
                        critical: vec![],
                    })
                    .await
                    .unwrap();
            } else {
                driver.announcements().await.unwrap();
            }
            let said: Report =
                serde_json::from_slice(&outbox.first().unwrap().unwrap().payload).unwrap();
            let revoked =
                State::Failed { target: "3".parse().unwrap(), code: FailureCode::Revoked };
            assert_eq!(said.update, revoked, "{state} {is_offered_again}");
        }
    }
}
