//! Devices with Secure Boot keys of their own: provisioning, signatures, changes.

use crate::gateway::wait_for_ack;
use crate::peer::Peer;
use crate::rollout::publish_release;
use crate::world::{TestDevice, World};
use fleeti_client::ClientError;
use fleeti_core::update::State;
use fleeti_core::wire::api::{
    BootKeyChange, ChangeBoot, CreateRollout, Device, Provision, Provisioned,
};
use fleeti_core::wire::boot::{
    BootChange, BootSignatures, BootSummary, BootVariable, FirmwareKeys, Slot, Verity,
};
use fleeti_core::wire::device::Report;
use fleeti_core::wire::mqtt::Up;
use fleeti_pki::signer::{Algorithm, SoftKey};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::sync::atomic::{AtomicU64, Ordering};

fn request(release: Option<&str>) -> Provision {
    Provision {
        valid_s: 3600,
        release: release.map(|r| r.parse().unwrap()),
        ek_sha256: None,
        fleet_keys: false,
        proxy: None,
    }
}

async fn provision(world: &World, request: &Provision) -> Result<Provisioned, ClientError> {
    world.client.provision(&"demo".parse().unwrap(), request).await
}

/// A device with keys of its own that runs kiosk@1.
struct Made {
    provisioned: Provisioned,
    device: TestDevice,
    /// What its firmware has.
    expected: FirmwareKeys,
}

async fn made(world: &World) -> Made {
    publish_release(world, "kiosk@1").await;
    let provisioned = provision(world, &request(Some("kiosk@1"))).await.unwrap();
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let answer = world.try_enroll(&provisioned.record.token, &key).await.json().await.unwrap();
    let device = world.device_of(answer, &key);
    let row =
        fleeti_store::boot::get(world.server.control.db.pool(), &device.id).await.unwrap().unwrap();
    Made { provisioned, device, expected: row.state.expected }
}

async fn report(
    world: &World,
    device: &TestDevice,
    firmware: Option<FirmwareKeys>,
    secure_boot: bool,
) {
    report_running(world, device, "kiosk@1", firmware, secure_boot).await;
}

async fn report_running(
    world: &World,
    device: &TestDevice,
    running: &str,
    firmware: Option<FirmwareKeys>,
    secure_boot: bool,
) {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    let (running, slot) = (running.parse().unwrap(), Slot::A);
    let boot = BootSummary {
        boot_id: "b".into(),
        running,
        slot,
        verity: Verity::Verified,
        secure_boot,
        pcr11: None,
        firmware,
        sealed_data: None,
        secrets: vec![],
    };
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let report = Report {
        sequence,
        epoch: None,
        generation: 1_000,
        boot,
        update: State::Idle,
        trust_bundle: 0,
        clock_wrong_by_s: None,
        alarm: None,
        progress: None,
        waits: None,
        time_zone: None,
        detail: None,
    };
    let mut peer = Peer::session(world, device).await;
    peer.publish(Up::Report.topic(&device.id), &serde_json::to_vec(&report).unwrap(), 1).await;
    wait_for_ack(&mut peer, 1, PubAckReason::Success).await;
}

async fn change_keys(
    world: &World,
    device: &TestDevice,
    change: BootKeyChange,
    may_end_fallback: bool,
) -> Result<Device, ClientError> {
    world.client.change_boot(&device.id, &ChangeBoot { change, may_end_fallback }).await
}

fn status(result: Result<impl std::fmt::Debug, ClientError>) -> u16 {
    match result {
        Err(ClientError::Refused(problem)) => problem.status,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn a_record_is_for_the_device_that_it_was_made_for() {
    let world = World::new().await;
    assert_eq!(
        status(provision(&world, &request(Some("kiosk@1"))).await),
        404,
        "it must be published to be signed"
    );
    let Made { provisioned, device, .. } = made(&world).await;
    assert_eq!(device.id, provisioned.device);
    let variables: Vec<_> = provisioned.writes.iter().map(|w| w.variable).collect();
    assert_eq!(variables, [BootVariable::Db, BootVariable::Kek, BootVariable::Pk]);
    assert!(provisioned.signatures.binaries.contains_key("raw/kiosk_1.efi"));
    let thief = SoftKey::generate(Algorithm::P256).unwrap();
    assert_eq!(world.try_enroll(&provisioned.record.token, &thief).await.status(), 403);
    for bad in [
        "",
        "proxy:3128",
        "https://proxy:3128",
        "http://proxy",
        "http://proxy:0",
        "http://u:p@proxy:1",
        "http://proxy:1/x",
        "http://a\nb:1",
    ] {
        assert_eq!(
            status(
                provision(&world, &Provision { proxy: Some(bad.into()), ..request(None) }).await
            ),
            422,
            "{bad:?}"
        );
    }
    let behind = provision(
        &world,
        &Provision {
            proxy: Some("http://proxy.example:3128".into()),
            fleet_keys: true,
            ..request(None)
        },
    )
    .await;
    assert_eq!(behind.unwrap().record.proxy.as_deref(), Some("http://proxy.example:3128"));
    let plain = provision(&world, &Provision { fleet_keys: true, ..request(None) }).await.unwrap();
    assert!(plain.writes.is_empty() && plain.signatures.binaries.is_empty());
    for ek in ["", "ab", &"AB".repeat(32)] {
        assert_eq!(
            status(
                provision(&world, &Provision { ek_sha256: Some(ek.into()), ..request(None) }).await
            ),
            422
        );
    }
    // No TPM has been proved, so a token for a TPM enrolls no device.
    let bound = provision(&world, &Provision { ek_sha256: Some("ab".repeat(32)), ..request(None) })
        .await
        .unwrap();
    assert_eq!(world.try_enroll(&bound.record.token, &thief).await.status(), 403);
}

#[actix_web::test]
async fn signatures_are_for_a_offered_release_and_a_device_that_is_as_it_was_enrolled() {
    let world = World::new().await;
    let Made { device, expected, .. } = made(&world).await;
    let fleet_keyed = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let get = |device: &TestDevice| {
        world.https((*device.tls).clone()).get(world.url("/releases/kiosk/2/boot.json"))
    };
    assert_eq!(get(&device).send().await.unwrap().status(), 403, "it was not offered");
    report(&world, &device, Some(expected.clone()), true).await;
    let start = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&start).await.unwrap();
    let first: BootSignatures = get(&device).send().await.unwrap().json().await.unwrap();
    assert!(first.binaries.contains_key("raw/kiosk_2.efi"));
    let again: BootSignatures = get(&device).send().await.unwrap().json().await.unwrap();
    assert_eq!(first, again);
    let none: BootSignatures = get(&fleet_keyed).send().await.unwrap().json().await.unwrap();
    assert_eq!(none, BootSignatures::default());
    let halfway = FirmwareKeys { setup_mode: true, pk: None, ..expected.clone() };
    let foreign = FirmwareKeys { db: vec!["ab".repeat(32)], ..expected.clone() };
    for (firmware, secure_boot) in [
        (Some(halfway), false),
        (Some(foreign), true),
        (Some(expected.clone()), false),
        (None, true),
    ] {
        report(&world, &device, firmware, secure_boot).await;
        assert_eq!(get(&device).send().await.unwrap().status(), 409);
        assert!(
            world.client.device(&device.id).await.unwrap().secure_boot.unwrap().problem.is_some()
        );
    }
    report(&world, &device, Some(expected), true).await;
    assert_eq!(get(&device).send().await.unwrap().status(), 200);
}

/// When a rollout begins, the server has signatures made for devices whose firmware holds the
/// enrolled keys.
#[actix_web::test]
async fn a_rollout_signs_ahead_for_those_that_are_as_they_were_enrolled() {
    let world = World::new().await;
    let Made { device: good, expected, .. } = made(&world).await;
    let made = provision(&world, &request(Some("kiosk@1"))).await.unwrap();
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let bad = world
        .device_of(world.try_enroll(&made.record.token, &key).await.json().await.unwrap(), &key);
    report(&world, &good, Some(expected.clone()), true).await;
    report(&world, &bad, Some(FirmwareKeys { setup_mode: true, ..expected }), true).await;
    publish_release(&world, "kiosk@2").await;
    let (app, fleet, name) =
        (&world.server.control, "demo".parse().unwrap(), "kiosk@2".parse().unwrap());
    assert_eq!(fleeti_control::boot::sign_all(app, &fleet, &name).await.unwrap(), 1);
    let waiting = fleeti_store::boot::unsigned(app.db.pool(), &fleet, &name, "", 10).await.unwrap();
    assert_eq!(waiting.iter().map(|d| &d.device).collect::<Vec<_>>(), [&bad.id]);
}

/// An epoch ends only after the device has reported the new key of db.
#[actix_web::test]
async fn an_epoch_begins_and_ends_with_the_device_in_step() {
    let world = World::new().await;
    let Made { provisioned, device, expected } = made(&world).await;
    let change = || world.https((*device.tls).clone()).get(world.url("/boot/change.json"));
    assert_eq!(change().send().await.unwrap().status(), 404);
    report(&world, &device, Some(expected.clone()), true).await;
    let begun = change_keys(&world, &device, BootKeyChange::BeginEpoch, false)
        .await
        .unwrap()
        .secure_boot
        .unwrap();
    assert_eq!((begun.epoch, begun.change_pending, begun.problem), (2, true, None));
    let sent: BootChange = change().send().await.unwrap().json().await.unwrap();
    assert_eq!((sent.number, sent.writes.len(), sent.may_end_fallback), (1, 1, false));
    assert_ne!(
        sent.signatures.binaries["raw/kiosk_1.efi"],
        provisioned.signatures.binaries["raw/kiosk_1.efi"],
        "by the new key"
    );
    assert_eq!(
        status(change_keys(&world, &device, BootKeyChange::EndEpoch, false).await),
        409,
        "the device does not trust the new key yet"
    );
    let row = || async {
        fleeti_store::boot::get(world.server.control.db.pool(), &device.id)
            .await
            .unwrap()
            .unwrap()
            .state
    };
    report(&world, &device, Some(row().await.expected), true).await;
    change_keys(&world, &device, BootKeyChange::EndEpoch, false).await.unwrap();
    let ended = row().await;
    // The device refuses the change because of its other slot. The same request with permission to
    // end that slot is another change, to the same keys.
    change_keys(&world, &device, BootKeyChange::EndEpoch, true).await.unwrap();
    let sent: BootChange = change().send().await.unwrap().json().await.unwrap();
    assert_eq!((sent.number, sent.writes.len(), sent.may_end_fallback), (3, 1, true));
    assert_eq!(row().await.wrapped, ended.wrapped);
    assert_eq!(
        status(change_keys(&world, &world.enroll().await, BootKeyChange::BeginEpoch, false).await),
        409,
        "it has no keys of its own"
    );
    // A device gets no signature for a release of another fleet by reporting that it runs it.
    publish_release(&world, "kiosk@2").await;
    report_running(&world, &device, "kiosk@2", Some(row().await.expected), true).await;
    assert_eq!(change().send().await.unwrap().status(), 409);
    assert!(
        fleeti_store::boot::signatures(
            world.server.control.db.pool(),
            &device.id,
            &"kiosk@2".parse().unwrap(),
            2
        )
        .await
        .unwrap()
        .is_none()
    );
}

#[actix_web::test]
async fn a_release_is_forbidden_to_devices_that_do_not_run_it() {
    let world = World::new().await;
    let Made { device, expected, .. } = made(&world).await;
    publish_release(&world, "kiosk@0").await;
    let forbid = |release: &str| BootKeyChange::Forbid { release: release.parse().unwrap() };
    assert_eq!(
        status(change_keys(&world, &device, forbid("kiosk@0"), false).await),
        409,
        "nobody knows what it runs"
    );
    report(&world, &device, Some(expected.clone()), true).await;
    assert_eq!(
        status(change_keys(&world, &device, forbid("kiosk@1"), false).await),
        409,
        "it would never boot again"
    );
    change_keys(&world, &device, forbid("kiosk@0"), true).await.unwrap();
    let row =
        fleeti_store::boot::get(world.server.control.db.pool(), &device.id).await.unwrap().unwrap();
    assert_eq!(row.state.expected.dbx.len(), 1);
    assert!(row.change_writes[0].append && row.change_writes[0].variable == BootVariable::Dbx);
    let made = FirmwareKeys { change: 1, ..expected };
    report(&world, &device, Some(made.clone()), true).await;
    assert!(
        world.client.device(&device.id).await.unwrap().secure_boot.unwrap().problem.is_some(),
        "it says so, and did not"
    );
    report(&world, &device, Some(FirmwareKeys { dbx: row.state.expected.dbx, ..made }), true).await;
    assert_eq!(world.client.device(&device.id).await.unwrap().secure_boot.unwrap().problem, None);
}
