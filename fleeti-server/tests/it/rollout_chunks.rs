//! Rollouts to fleets that are larger than a chunk: devices join, are compared with a new policy,
//! and lose their offer in transactions of their own.

use crate::recoveries::stopped;
use crate::rollout::{publish_release, report, start};
use crate::trust::until;
use crate::world::World;
use fleeti_client::ClientError;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::api::{RolloutDevice, RolloutQuery};
use fleeti_store::devices::Certified;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Db};

/// Two chunks and a part of one.
const DEVICES: usize = 1203;

/// Adds devices that never connect to fleet `demo`.
async fn add_devices(db: &Db) {
    let fleet = "demo".parse().unwrap();
    let certified: Vec<(DeviceId, Certified)> = (0..DEVICES)
        .map(|n| {
            let certified = Certified {
                key_sha256: format!("{n:016x}{n:048x}"),
                serial: format!("{n:x}"),
                pem: String::new(),
                certificate_sha256: format!("certificate-{n}"),
                not_after_s: 4_000_000_000,
                issuer: String::new(),
                is_in_tpm: false,
            };
            (format!("device-{n:04}").parse().unwrap(), certified)
        })
        .collect();
    let rows: Vec<_> = certified.iter().map(|(id, c)| (id, &fleet, c)).collect();
    let mut tx = db.write().await.unwrap();
    for rows in rows.chunks(500) {
        store::devices::upsert(&mut tx, rows, 1).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn until_phase(world: &World, rollout: &str, phase: Phase) {
    until(phase.name(), async || world.client.rollout(rollout).await.unwrap().phase == phase).await;
}

/// All devices of a rollout, page by page.
async fn all(world: &World, rollout: &str, category: Option<Category>) -> Vec<RolloutDevice> {
    let mut devices = Vec::new();
    let mut query = RolloutQuery { category, after: None, limit: Some(500) };
    loop {
        let page = world.client.rollout_page(rollout, &query).await.unwrap();
        assert!(page.devices.len() <= 500);
        devices.extend(page.devices);
        query.after = page.next;
        if query.after.is_none() {
            return devices;
        }
    }
}

#[actix_web::test]
async fn a_large_fleet_joins_in_chunks_and_its_devices_are_listed_by_page() {
    let world = World::new().await;
    let db = &world.server.control.db;
    add_devices(db).await;
    let device = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let started = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert_eq!((started.phase, started.counts.total), (Phase::Starting, 500));
    until_phase(&world, &started.id, Phase::Running).await;
    let rollout = world.client.rollout(&started.id).await.unwrap();
    assert_eq!(rollout.counts, Counts { total: DEVICES + 1, ..Counts::default() });
    assert_eq!(rollout.devices.len(), 100, "one page");

    let devices = all(&world, &started.id, None).await;
    let ids: Vec<_> = devices.iter().map(|d| d.device.clone()).collect();
    assert!(ids.is_sorted() && ids.len() == DEVICES + 1);
    assert!(devices.iter().all(|d| d.phase == DevicePhase::Offered));
    report(&world, &device, "kiosk@2", State::Idle).await;
    let done = all(&world, &started.id, Some(Category::Succeeded)).await;
    assert_eq!(done.iter().map(|d| &d.device).collect::<Vec<_>>(), [&device.id]);
    assert_eq!(all(&world, &started.id, Some(Category::Waiting)).await.len(), DEVICES);
    let counts = world.client.rollout(&started.id).await.unwrap().counts;
    assert_eq!(counts, Counts { total: DEVICES + 1, succeeded: 1, ..Counts::default() });
    let too_many = RolloutQuery { limit: Some(1001), ..RolloutQuery::default() };
    let refused = world.client.rollout_page(&started.id, &too_many).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(p) if p.status == 422), "{refused}");

    world.client.abort_rollout(&started.id).await.unwrap();
    until_phase(&world, &started.id, Phase::Aborted).await;
    let mut tx = db.write().await.unwrap();
    let name = "kiosk@2".parse().unwrap();
    let offered = store::desired::with_desired(&mut tx, &name).await.unwrap();
    assert_eq!(offered, [device.id], "only the device that runs it keeps it");
}

#[actix_web::test]
async fn another_policy_reaches_every_device_of_a_large_rollout() {
    let world = World::new().await;
    add_devices(&world.server.control.db).await;
    publish_release(&world, "kiosk@2").await;
    let id = world.client.start_rollout(&start("kiosk@2")).await.unwrap().id;
    let fleet = "demo".parse().unwrap();
    // The fleet changes its policy while the rollout starts, and then once more.
    for (policy, phase) in
        [(Policy::default(), DevicePhase::Blocked), (Policy::usual(), DevicePhase::Offered)]
    {
        world.client.set_attestation_policy(&fleet, &policy).await.unwrap();
        until("every device is compared", async || {
            let devices = all(&world, &id, None).await;
            devices.len() == DEVICES && devices.iter().all(|d| d.phase == phase)
        })
        .await;
    }
}

/// A rollout as a server leaves it that is killed between two chunks.
async fn interrupted(phase: Phase) -> Phase {
    let world = World::new().await;
    add_devices(&world.server.control.db).await;
    publish_release(&world, "kiosk@2").await;
    let (dir, _) = stopped(world).await;
    let db = Db::open(&dir.path().join("fleeti.db")).await.unwrap();
    let rollout = StoredRollout {
        id: "rollout-1".into(),
        fleet: "demo".parse().unwrap(),
        created_s: 1,
        release: "kiosk@2".parse().unwrap(),
        header: Header { phase, counts: Counts::default() },
        reached: String::new(),
        appraised: None,
    };
    let mut tx = db.write().await.unwrap();
    store::rollouts::insert(&mut tx, &rollout).await.unwrap();
    tx.commit().await.unwrap();
    db.close().await;
    let world = World::start(dir, |_| {}).await;
    until("no chunk is left", async || {
        let mut tx = world.server.control.db.write().await.unwrap();
        store::rollouts::next_with_work(&mut tx).await.unwrap().is_none()
    })
    .await;
    let rollout = world.client.rollout("rollout-1").await.unwrap();
    let joined = if phase == Phase::Starting { DEVICES } else { 0 };
    assert_eq!(rollout.counts.total, joined);
    assert_eq!(all(&world, "rollout-1", None).await.len(), joined);
    rollout.phase
}

#[actix_web::test]
async fn what_a_killed_server_left_goes_on_at_its_next_start() {
    assert_eq!(interrupted(Phase::Starting).await, Phase::Running);
    assert_eq!(interrupted(Phase::Aborting).await, Phase::Aborted);
}
