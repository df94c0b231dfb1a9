//! Rollouts to fleets that are larger than a chunk: devices join, are compared with a new policy,
//! and lose their offer because of an abort or a revocation, in transactions of their own.

use crate::recoveries::stopped;
use crate::rollout::{publish_release, report, start};
use crate::trust::until;
use crate::world::{World, connect};
use fleeti_client::ClientError;
use fleeti_control::accounts::actor::Actor;
use fleeti_control::context::ContextRef;
use fleeti_control::pki::Pki;
use fleeti_control::ports::NoPorts;
use fleeti_control::precondition::Expected;
use fleeti_control::releases::revoke::revoke;
use fleeti_control::start::{Parts, open};
use fleeti_control::{attestation, devices, rollouts};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::api::{RolloutDevice, RolloutQuery};
use fleeti_server::config::{Config, account_secrets, signer};
use fleeti_store::devices::{Certified, WithCertificate};
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Db, sql};
use std::path::Path;
use std::sync::Arc;

const CHUNK: usize = rollouts::CHUNK as usize;
/// Two chunks and a part of one.
const DEVICES: usize = 2 * CHUNK + 203;

fn device(n: usize) -> DeviceId {
    format!("device-{n:04}").parse().unwrap()
}

fn key_sha256(n: usize) -> String {
    format!("{n:016x}{n:048x}")
}

/// A control plane whose tasks do not run. It does what is in the transaction of a request, as a
/// server that is killed right after it.
async fn without_tasks(dir: &Path) -> ContextRef {
    let config = Config::new(dir);
    let signer = signer(&config, config.crl_url(([127, 0, 0, 1], 8443).into())).unwrap();
    let parts = Parts {
        settings: config.settings(),
        pki: Pki::open(dir).unwrap(),
        db: connect(dir).await,
        signer,
        accounts: account_secrets(&config).unwrap(),
    };
    open(parts, |_, _, _| Ok(NoPorts)).await.unwrap().cx
}

/// Number of devices whose desired version is this release.
async fn offers(db: &Db, release: &ReleaseName) -> usize {
    let mut tx = db.write().await.unwrap();
    let sql = "SELECT COUNT(*) FROM devices WHERE desired_release = $1";
    let query = sql::query_scalar(sql).bind(release.to_string());
    let found: i64 = query.fetch_one(&mut *tx).await.unwrap();
    usize::try_from(found).unwrap()
}

async fn until_no_chunk_is_left(world: &World) {
    until("no chunk is left", async || {
        let mut tx = world.server.control.db.write().await.unwrap();
        store::rollouts::next_with_work(&mut tx, 0).await.unwrap().is_none()
    })
    .await;
}

/// Adds devices that never connect to fleet `demo`.
async fn add_devices(db: &Db) {
    let fleet = "demo".parse().unwrap();
    let certified: Vec<(DeviceId, Certified)> = (0..DEVICES)
        .map(|n| {
            let certified = Certified {
                key_sha256: key_sha256(n),
                serial: format!("{n:x}"),
                pem: String::new(),
                certificate_sha256: format!("certificate-{n}"),
                not_after_s: 4_000_000_000,
                issuer: String::new(),
                is_in_tpm: false,
            };
            (device(n), certified)
        })
        .collect();
    let rows: Vec<_> = certified
        .iter()
        .map(|(device, certificate)| WithCertificate { device, fleet: &fleet, certificate })
        .collect();
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
    assert_eq!((started.phase, started.counts.total), (Phase::Starting, CHUNK));
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
    assert_eq!(offers(db, &"kiosk@2".parse().unwrap()).await, 1);
    let kept = world.client.device(&device.id).await.unwrap().desired;
    assert_eq!(kept, Some("kiosk@2".parse().unwrap()), "only the device that runs it keeps it");
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
    let db = connect(dir.path()).await;
    let rollout = StoredRollout {
        id: "rollout-1".into(),
        fleet: "demo".parse().unwrap(),
        created_s: 1,
        release: "kiosk@2".parse().unwrap(),
        header: Header { phase, counts: Counts::default(), waves: None },
        reached: String::new(),
        appraised: None,
        withdrawn: None,
        plan: None,
        due_s: None,
        next: None,
        back_of: None,
        urgent: None,
    };
    let mut tx = db.write().await.unwrap();
    store::rollouts::insert(&mut tx, &rollout).await.unwrap();
    tx.commit().await.unwrap();
    db.close().await;
    let world = World::start(dir, |_| {}).await;
    until_no_chunk_is_left(&world).await;
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

#[actix_web::test]
async fn another_policy_is_compared_with_all_devices_that_joined_before_more_join() {
    let world = World::new().await;
    add_devices(&world.server.control.db).await;
    publish_release(&world, "kiosk@2").await;
    let (dir, _) = stopped(world).await;
    let cx = without_tasks(dir.path()).await;
    let (fleet, release) = ("demo".parse().unwrap(), "kiosk@2".parse().unwrap());
    let me = Actor::of_process("test");
    let started = rollouts::start(&cx, &me, &start("kiosk@2")).await.unwrap();
    assert_eq!((started.phase, offers(&cx.db, &release).await), (Phase::Starting, CHUNK));
    attestation::policy::set(&cx, &me, &fleet, &Policy::default(), &Expected::Anything)
        .await
        .unwrap();
    assert_eq!(offers(&cx.db, &release).await, 0, "those that joined are blocked");
    let rollout = store::rollouts::get(cx.db.pool(), &started.id).await.unwrap().unwrap();
    assert_eq!((rollout.header.phase, rollout.header.counts.total), (Phase::Starting, CHUNK));
    cx.db.close().await;
    drop(cx);

    let world = World::start(dir, |_| {}).await;
    until_phase(&world, &started.id, Phase::Running).await;
    let devices = all(&world, &started.id, None).await;
    assert_eq!(devices.len(), DEVICES);
    assert!(devices.iter().all(|d| d.phase == DevicePhase::Blocked));
}

#[actix_web::test]
async fn a_revoked_release_leaves_a_large_fleet_in_chunks_and_is_offered_to_no_device_meanwhile() {
    let world = World::new().await;
    add_devices(&world.server.control.db).await;
    // A device that has finished has the release, too. It is the first one in the order of ids.
    let finished = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap().id;
    until_phase(&world, &rollout, Phase::Running).await;
    report(&world, &finished, "kiosk@2", State::Idle).await;
    let (dir, _) = stopped(world).await;

    let (cx, release) = (without_tasks(dir.path()).await, "kiosk@2".parse().unwrap());
    assert_eq!(offers(&cx.db, &release).await, DEVICES + 1);
    revoke(&cx, &Actor::of_process("test"), &release).await.unwrap();
    assert_eq!(offers(&cx.db, &release).await, DEVICES + 1 - (CHUNK - 1), "one chunk is withdrawn");
    let last = device(DEVICES - 1);
    let row = store::devices::get(cx.db.pool(), last.as_str()).await.unwrap().unwrap();
    assert_eq!(row.desired.as_ref(), Some(&release), "it is in a later chunk");
    assert_eq!(devices::desired(&cx, &last).await.unwrap().release, None);
    let key = key_sha256(DEVICES - 1);
    assert_eq!(devices::offered(&cx, &last, &key).await.unwrap(), None);
    let admitted = devices::admit(&cx, &last, &key).await.unwrap().unwrap();
    assert_eq!(admitted.desired.release, None);
    assert_eq!(devices::desired(&cx, &finished.id).await.unwrap().release, None);
    cx.db.close().await;
    drop(cx);

    let world = World::start(dir, |_| {}).await;
    let http = world.https((*finished.tls).clone());
    let manifest = http.get(world.url("/releases/kiosk/2/manifest.json")).send().await.unwrap();
    assert_eq!(manifest.status(), 403);
    until_no_chunk_is_left(&world).await;
    assert_eq!(offers(&world.server.control.db, &release).await, 0);
    assert_eq!(world.client.rollout(&rollout).await.unwrap().phase, Phase::Aborted);
}

#[actix_web::test]
async fn other_writes_go_between_the_chunks_of_a_withdrawal() {
    let world = World::new().await;
    add_devices(&world.server.control.db).await;
    publish_release(&world, "kiosk@2").await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap().id;
    until_phase(&world, &rollout, Phase::Running).await;
    let release: ReleaseName = "kiosk@2".parse().unwrap();
    // Several, so that one of them waits for the connection whenever a chunk ends.
    let other_writers = [(); 4].map(|()| {
        let (cx, of) = (Arc::clone(&world.server.control), release.clone());
        actix_web::rt::spawn(async move {
            let mut seen = vec![offers(&cx.db, &of).await];
            while seen.last() != Some(&0) {
                seen.push(offers(&cx.db, &of).await);
            }
            seen
        })
    });
    world.client.revoke_release(&release).await.unwrap();
    let mut seen = Vec::new();
    for writer in other_writers {
        seen.extend(writer.await.unwrap());
    }
    seen.sort_unstable_by(|a, b| b.cmp(a));
    seen.dedup();
    assert!(seen.len() > 2, "{seen:?}");
    assert!(seen.windows(2).all(|counts| counts[0] - counts[1] <= CHUNK), "{seen:?}");
}
