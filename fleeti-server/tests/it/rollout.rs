//! A rollout over the API, with a device that reports over MQTT.

use crate::gateway::wait_for_ack;
use crate::peer::Peer;
use crate::world::{TestDevice, World, offline};
use fleeti_client::ClientError;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{Architecture, ReleaseName};
use fleeti_core::manifest::{Artifact, KIND, Manifest, ReferenceValues};
use fleeti_core::rollout::Phase;
use fleeti_core::update::{RollbackReason, State};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::{DesiredState, Report};
use fleeti_core::wire::mqtt::Up;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest;
use fleeti_pki::signer::{Algorithm, SoftKey};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a small release, signed by `key`, in this folder, and returns its manifest.
pub fn make_release(dir: &std::path::Path, name: &ReleaseName, key: &SoftKey) -> String {
    make_release_that_measures(dir, name, key, None)
}

/// Digests of the boot loader and of the UKI (Authenticode), and PCR 11 after boot.
pub type Measured = [[u8; 32]; 3];

/// The same, with these reference values.
pub fn make_release_that_measures(
    dir: &std::path::Path,
    name: &ReleaseName,
    key: &SoftKey,
    measured: Option<Measured>,
) -> String {
    let (path, bytes) = (format!("raw/{}_{}.efi", name.line, name.version), vec![7u8; 4096]);
    let manifest = Manifest {
        kind: KIND.to_owned(),
        release: name.clone(),
        architecture: Architecture::X86_64,
        revision_digest: String::new(),
        lock_digest: String::new(),
        artifacts: vec![Artifact {
            path: path.clone(),
            size: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
            authenticode: Some("ab".repeat(32)),
        }],
        root_hash: String::new(),
        reference_values: ReferenceValues { systemd_version: "257".into(), ..Default::default() },
        minimum_version: name.version.clone(),
        created_s: 0,
        critical: vec![],
    };
    let mut manifest = manifest;
    std::fs::create_dir_all(dir.join("raw")).unwrap();
    if let Some([boot_loader, kernel_image, pcr_11]) = measured.map(|m| m.map(hex::encode)) {
        manifest.artifacts[0].authenticode = Some(kernel_image);
        let loader = Artifact {
            path: "raw/systemd-boot.efi".into(),
            size: 1,
            sha256: sha256_hex(b"x"),
            authenticode: Some(boot_loader),
        };
        std::fs::write(dir.join(&loader.path), b"x").unwrap();
        manifest.artifacts.push(loader);
        manifest
            .reference_values
            .pcr11
            .insert("enter-initrd:leave-initrd:sysinit:ready".into(), pcr_11);
    }
    let document = manifest::to_bytes(&manifest).unwrap();
    let signature = manifest::sign(&document, key).unwrap();
    std::fs::create_dir_all(dir.join("raw")).unwrap();
    std::fs::write(dir.join(path), bytes).unwrap();
    std::fs::write(dir.join("manifest.json"), &document).unwrap();
    std::fs::write(dir.join(signature.file_name()), signature.der).unwrap();
    String::from_utf8(document).unwrap()
}

pub async fn upload(world: &World, dir: &std::path::Path, name: &ReleaseName) {
    for entry in walk(dir) {
        let path = entry.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
        world.client.upload(name, &path, &entry).await.unwrap();
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

pub fn release_key() -> SoftKey {
    SoftKey::from_pkcs8_der(&offline(purpose::RELEASE)).unwrap()
}

pub async fn publish_release(world: &World, name: &str) -> String {
    publish_release_that_measures(world, name, None).await
}

pub async fn publish_release_that_measures(
    world: &World,
    name: &str,
    measured: Option<Measured>,
) -> String {
    let (dir, name) = (tempfile::tempdir().unwrap(), name.parse().unwrap());
    let manifest = make_release_that_measures(dir.path(), &name, &release_key(), measured);
    upload(world, dir.path(), &name).await;
    world.client.publish(&name).await.unwrap();
    manifest
}

pub fn report_of(running: &str, update: State) -> Vec<u8> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    let boot = BootSummary {
        boot_id: "b".into(),
        running: running.parse().unwrap(),
        slot: Slot::A,
        verity: Verity::Verified,
        secure_boot: true,
        pcr11: None,
        firmware: None,
        sealed_data: None,
        secrets: vec![],
    };
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    serde_json::to_vec(&Report {
        sequence,
        epoch: None,
        generation: 1_000,
        boot,
        update,
        trust_bundle: 0,
        clock_wrong_by_s: None,
        alarm: None,
        progress: None,
        waits: None,
        time_zone: None,
        detail: None,
    })
    .unwrap()
}

/// Connects, reports, and waits until the report is acknowledged.
pub async fn report(world: &World, device: &TestDevice, running: &str, update: State) {
    let mut peer = Peer::session(world, device).await;
    peer.publish(Up::Report.topic(&device.id), &report_of(running, update), 1).await;
    wait_for_ack(&mut peer, 1, PubAckReason::Success).await;
}

pub fn start(release: &str) -> CreateRollout {
    CreateRollout {
        release: release.parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    }
}

pub async fn next_desired(peer: &mut Peer) -> DesiredState {
    loop {
        let message = peer.message().await;
        if message.topic.ends_with(b"/desired") {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
}

#[actix_web::test]
async fn a_rollout_is_pushed_to_its_devices_and_ends_with_the_last_report() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    publish_release(&world, "kiosk@2").await;
    let mut peer = Peer::session(&world, &a).await;
    assert_eq!(next_desired(&mut peer).await.release, None);
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert_eq!(next_desired(&mut peer).await.release.unwrap().to_string(), "kiosk@2");
    drop(peer);
    report(&world, &a, "kiosk@2", State::Idle).await;
    assert_eq!(world.client.rollout(&rollout.id).await.unwrap().phase, Phase::Running);
    let reason = RollbackReason::Health { evidence: "no screen".into() };
    report(&world, &b, "kiosk@1", State::RolledBack { target: "2".parse().unwrap(), reason }).await;
    assert_eq!(world.client.rollout(&rollout.id).await.unwrap().phase, Phase::Failed);
}

#[actix_web::test]
async fn a_second_rollout_waits_for_the_first_and_a_fleet_needs_devices() {
    let world = World::new().await;
    publish_release(&world, "kiosk@2").await;
    let refused = world.client.start_rollout(&start("kiosk@2")).await.unwrap_err();
    assert!(refused.to_string().contains("no device"), "{refused}");
    world.enroll().await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    let refused = world.client.start_rollout(&start("kiosk@2")).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(p) if p.status == 409), "{refused}");
    world.client.abort_rollout(&rollout.id).await.unwrap();
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
}

/// Revoking a release withdraws it from every device; no device can fetch it any more.
#[actix_web::test]
async fn a_revoked_release_is_taken_back_from_everybody_and_given_to_nobody() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    publish_release(&world, "kiosk@2").await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    report(&world, &a, "kiosk@2", State::Idle).await;
    let mut peer = Peer::session(&world, &b).await;
    assert_eq!(next_desired(&mut peer).await.release.unwrap().to_string(), "kiosk@2");
    let name = "kiosk@2".parse().unwrap();
    let revoked = world.client.revoke_release(&name).await.unwrap();
    assert!(revoked.revoked_s.is_some());
    assert_eq!(next_desired(&mut peer).await.release, None);
    assert_eq!(world.client.rollout(&rollout.id).await.unwrap().phase, Phase::Aborted);
    // The device that already has it is not offered it again either, and neither can fetch any of
    // its files.
    for device in [&a, &b] {
        assert_eq!(world.client.device(&device.id).await.unwrap().desired, None);
        let http = world.https((*device.tls).clone());
        assert_eq!(
            http.get(world.url("/releases/kiosk/2/manifest.json")).send().await.unwrap().status(),
            403
        );
    }
    let refused = world.client.start_rollout(&start("kiosk@2")).await.unwrap_err();
    assert!(refused.to_string().contains("is revoked"), "{refused}");
    assert_eq!(world.client.revoke_release(&name).await.unwrap().revoked_s, revoked.revoked_s);
    assert!(world.client.revoke_release(&"kiosk@9".parse().unwrap()).await.is_err());
}

#[actix_web::test]
async fn a_release_is_published_only_when_everything_in_it_is_as_signed() {
    let world = World::new().await;
    let name: ReleaseName = "kiosk@2".parse().unwrap();
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    for (key, tamper) in [(mallory, false), (release_key(), true)] {
        let dir = tempfile::tempdir().unwrap();
        make_release(dir.path(), &name, &key);
        if tamper {
            std::fs::write(dir.path().join("raw/kiosk_2.efi"), vec![8u8; 4096]).unwrap();
        }
        upload(&world, dir.path(), &name).await;
        let refused = world.client.publish(&name).await.unwrap_err();
        assert!(
            matches!(&refused, ClientError::Refused(p) if p.kind.ends_with(":untrusted")),
            "{refused}"
        );
    }
    assert!(world.client.releases().await.unwrap().is_empty());
    publish_release(&world, "kiosk@2").await;
    let again = world
        .client
        .upload(&name, "manifest.json", &world.dir.path().join("passphrase"))
        .await
        .unwrap_err();
    assert!(again.to_string().contains("never changes"), "{again}");
}

#[actix_web::test]
async fn the_api_answers_nobody_without_the_token() {
    let world = World::new().await;
    let stranger =
        fleeti_client::Client::new(&format!("http://{}", world.server.addresses.api), "guess")
            .unwrap();
    let refused = stranger.devices().await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(p) if p.status == 401 && p.hint.is_some()));
}
