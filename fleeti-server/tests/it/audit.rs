//! All acts are in the audit log, also when a process is killed in between, and a device gets the
//! proof of its release.

use crate::rollout::publish_release;
use crate::trust::until;
use crate::world::{World, write_keys};
use fleeti_core::wire::api::{CreateRollout, RevocationReason};
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::audit::{Act, Entry, Examination, Stage, verify_log_consistency, verify_proof};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::transparency::note::LogKey;
use fleeti_server::server::Server;
use fleeti_store::audit::WaitingAct;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct SignerProcess(Child);

impl Drop for SignerProcess {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn key(world: &World) -> LogKey {
    LogKey::from_text(
        &std::fs::read_to_string(world.dir.path().join("pki/public/audit.pub")).unwrap(),
    )
    .unwrap()
}

async fn entries(world: &World) -> Vec<Entry> {
    let lines = world.client.audit_entries(0).await.unwrap();
    lines.iter().map(|l| Entry::parse(l.as_bytes()).unwrap()).collect()
}

/// The entries, once one of them has this action.
pub async fn entries_with(world: &World, action: &str) -> Vec<Entry> {
    for _ in 0..6000 {
        let entries = entries(world).await;
        if entries.iter().any(|e| e.act.action == action) {
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{action} is not in the log");
}

#[actix_web::test]
async fn an_enrollment_and_a_revocation_are_in_the_log_with_intent_and_outcome() {
    let world = World::new().await;
    let device = world.enroll().await;
    world.client.revoke_device(&device.id, RevocationReason::Unspecified).await.unwrap();
    let log = entries_with(&world, "device.revoke").await;
    let of_device: Vec<_> = log.iter().filter(|e| e.act.action == "certificate.enroll").collect();
    assert_eq!(of_device.len(), 2);
    assert_eq!(of_device[0].stage, Stage::Intent);
    assert_eq!(of_device[1].stage, Stage::Outcome { intent: of_device[0].number });
    assert!(of_device.iter().all(|e| e.act.subject == device.id.as_str()));
    let mut count = BTreeMap::new();
    log.iter()
        .filter(|e| e.stage == Stage::Done)
        .for_each(|e| *count.entry(e.act.action.as_str()).or_insert(0) += 1);
    assert_eq!(count, BTreeMap::from([("enrollment.create", 1), ("device.revoke", 1)]));
    // Anyone with the public key can verify the whole log.
    let (key, note) = (key(&world), world.client.audit_checkpoint().await.unwrap());
    let mut examination = Examination::default();
    for line in world.client.audit_entries(0).await.unwrap() {
        examination.line(line.as_bytes()).unwrap();
    }
    examination.compare(&key.verify(&note).unwrap()).unwrap();
}

#[actix_web::test]
async fn an_act_that_waited_when_the_server_was_killed_is_entered_once() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let world = World::start(dir, |_| {}).await;
    let World { dir, server, .. } = world;
    // The state after a kill between commit and log, and after one between log and clean-up.
    let app = std::sync::Arc::clone(&server.control);
    let mut tx = app.db.write().await.unwrap();
    for (id, subject) in [("audit-a", "first"), ("audit-b", "second")] {
        let act = WaitingAct {
            id: id.into(),
            actor: "admin".into(),
            action: "test.act".into(),
            subject: subject.into(),
        };
        fleeti_store::audit::insert(&mut tx, &act, 1).await.unwrap();
    }
    tx.commit().await.unwrap();
    let act = fleeti_pki::audit::Act {
        id: Some("audit-a".into()),
        ..fleeti_pki::audit::Act::new("admin", "test.act", "first")
    };
    fleeti_control::audit::enter(&app, act).await.unwrap();
    server.stop().await;
    drop(app);
    let world = World::start(dir, |_| {}).await;
    let log = entries(&world).await;
    let subjects: Vec<_> =
        log.iter().filter(|e| e.act.action == "test.act").map(|e| e.act.subject.as_str()).collect();
    assert_eq!(subjects, ["first", "second"]);
}

/// An entry that the signing service refuses must not keep the others out of the log, or the server
/// from starting.
#[actix_web::test]
async fn an_act_that_the_signer_refuses_is_entered_as_refused_and_no_other_waits_for_it() {
    let world = World::new().await;
    let enter = async |action: &str, subject: &str| {
        let mut tx = world.server.control.db.write().await.unwrap();
        world.server.control.audit(&mut tx, Act::new("admin", action, subject)).await.unwrap();
        tx.commit().await.unwrap();
    };
    enter("certificate.device", "of another party").await;
    enter("session.begin", &"x".repeat(10_000)).await;
    enter("session.begin", "the last").await;
    until("the last is in the log", async || {
        entries(&world).await.iter().any(|e| e.act.subject == "the last")
    })
    .await;
    let log = entries(&world).await;
    let of = |action: &str| {
        log.iter()
            .filter(|e| e.act.action == action)
            .map(|e| e.act.subject.as_str())
            .collect::<Vec<_>>()
    };
    let [refused] = of("audit.refused").try_into().unwrap();
    assert!(
        refused
            .starts_with("admin certificate.device of another party: the signing service refuses"),
        "{refused}"
    );
    let [long, last] = of("session.begin").try_into().unwrap();
    assert!(
        long.starts_with("xxx") && long.contains("SHA-256 of the whole") && last == "the last",
        "{long}"
    );
    assert!(of("certificate.device").is_empty());
}

/// A device gets the inclusion proof of its release and the consistency proof of the log.
#[actix_web::test]
async fn a_device_gets_the_proof_of_its_release_and_that_the_log_only_grew() {
    let world = World::new().await;
    let device = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let release = world.client.releases().await.unwrap().remove(0);
    let request = CreateRollout {
        release: release.name.clone(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&request).await.unwrap();
    let (key, http) = (key(&world), world.https((*device.tls).clone()));
    let proof = |seen: u64| {
        let url = world.url(&format!("/releases/kiosk/2/proof.json?size={seen}"));
        let http = http.clone();
        async move {
            http.get(url)
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap()
                .json::<ReleaseProof>()
                .await
                .unwrap()
        }
    };
    let first = proof(0).await;
    let proved = verify_proof(&first.published, &key).unwrap();
    assert_eq!(proved.entry().act.sha256.as_deref(), Some(release.manifest_sha256.as_str()));
    assert_eq!(
        (proved.entry().act.action.as_str(), proved.entry().act.subject.as_str()),
        ("release.publish", "kiosk@2")
    );
    let old = key.verify(&first.published.checkpoint).unwrap();
    world.client.abort_rollout(&world.client.rollouts().await.unwrap()[0].id).await.unwrap();
    entries_with(&world, "rollout.abort").await;
    world.client.start_rollout(&request).await.unwrap();
    let second = proof(old.checkpoint().size).await;
    let new = key.verify(&second.published.checkpoint).unwrap();
    assert!(new.checkpoint().size > old.checkpoint().size);
    verify_log_consistency(&old, &new, &second.consistency).unwrap();
}

#[actix_web::test]
async fn a_server_whose_signer_is_another_process_has_no_key_and_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let keys = tempfile::tempdir().unwrap();
    std::fs::create_dir(keys.path().join("pki")).unwrap();
    // The keys move to the signing service's folder; the server keeps the public half.
    std::fs::rename(dir.path().join("pki/online"), keys.path().join("pki/online")).unwrap();
    std::fs::rename(dir.path().join("passphrase"), keys.path().join("passphrase")).unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(dir.path().join("pki/public"))
        .arg(keys.path().join("pki/public"))
        .status()
        .unwrap();
    assert!(copied.success());
    let socket = keys.path().join("socket");
    let start = || {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_fleeti-server"))
            .with_file_name("fleeti-signer");
        let mut command = Command::new(program);
        command
            .arg("--pki")
            .arg(keys.path().join("pki"))
            .arg("--log")
            .arg(keys.path().join("audit"));
        command.env_remove("FLEETI_PASSPHRASE_FILE").env_remove("CREDENTIALS_DIRECTORY");
        SignerProcess(command.arg("--socket").arg(&socket).stderr(Stdio::null()).spawn().unwrap())
    };
    let signer = start();
    let path = socket.clone();
    let world = World::start(dir, move |config| config.signer = Some(path)).await;
    let device = world.enroll().await;
    drop(signer);
    // The signing service is away: what needs no signature continues, and its acts wait.
    let token = world.token().await;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let waiting =
        tokio::time::timeout(Duration::from_millis(300), world.try_enroll(&token, &key)).await;
    assert!(waiting.is_err(), "no certificate without the signer");
    let _again = start();
    world.enroll().await;
    let log = entries_with(&world, "enrollment.create").await;
    assert!(log.iter().any(|e| e.act.subject == device.id.as_str()));
    let server: &Server = &world.server;
    assert!(!server.control.settings.data.join("audit").exists(), "the log is the signer's");
}
