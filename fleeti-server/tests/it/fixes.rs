//! The alert about security fixes that the release of a fleet lacks.

use crate::accounts::{client, program, role};
use crate::lifetimes;
use crate::suites::{Maker, upload};
use crate::workers::worker;
use crate::world::{TestDevice, World};
use fleeti_client::{Client, WorkerClient};
use fleeti_control::alerts;
use fleeti_core::alert::state::State;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::FleetId;
use fleeti_core::profile::{IndexHead, IndexParts, SecurityVersion};
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::alerts::{Alert, AlertQuery, SetRule};
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::updates::PinFleet;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_store as store;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DAY_S: u64 = 86_400;

/// A published release whose image has nginx in a version.
async fn release(world: &World, version: &str, nginx: &str) -> String {
    let mut request = crate::builds::request(version);
    request.version = version.parse().unwrap();
    let build = world.client.create_build(&request).await.unwrap();
    let folder = world.dir.path().join("builds").join(&build.id);
    std::fs::create_dir_all(&folder).unwrap();
    let package = serde_json::json!({"name": "nginx", "version": nginx, "sha256": "a".repeat(64),
        "size": 1, "path": "pool/x.deb"});
    let lock = serde_json::json!({"suite": "trixie", "architecture": "amd64", "requested": {},
        "sets": {"device": [package]}});
    std::fs::write(folder.join("lock.json"), lock.to_string()).unwrap();
    let mut tx = world.server.control.db.write().await.unwrap();
    let directory = folder.display().to_string();
    fleeti_testkit::synthetic::end_build(&mut tx, &build.id, Some(&directory)).await.unwrap();
    tx.commit().await.unwrap();
    let name = format!("kiosk@{version}");
    crate::rollout::publish_release(world, &name).await;
    name
}

async fn pin(world: &World, fleet: &str, release: &str) {
    let (release, reason) = (Some(release.parse().unwrap()), "because".into());
    let pin = PinFleet { release, reason };
    world.client.pin_fleet(&fleet.parse().unwrap(), &pin).await.unwrap();
}

/// A worker brings an index in which nginx is fixed since a time.
async fn index(worker: &WorkerClient, fixed: Option<(&str, u64)>) {
    let mut parts = IndexParts::default();
    if let Some((version, since_s)) = fixed {
        let fix = SecurityVersion { version: version.to_owned(), since_s };
        parts.security.insert("nginx".to_owned(), fix);
    }
    let head =
        IndexHead { suite: "trixie".to_owned(), snapshot: "0".repeat(64), has_contents: true };
    let text = parts.to_text(&head);
    assert_eq!(upload(worker, "trixie", &text, &sha256_hex(text.as_bytes())).await, 200);
}

/// The alerts that hold.
async fn open(client: &Client, fleet: Option<&str>) -> Vec<Alert> {
    let fleet = fleet.map(|fleet| fleet.parse().unwrap());
    let query = AlertQuery { fleet, ..AlertQuery::default() };
    let all = client.alerts(&query).await.unwrap();
    all.into_iter().filter(|alert| alert.kind == Kind::Fixes).collect()
}

/// Enrolls a device of a fleet.
async fn enroll(world: &World, fleet: &str) -> TestDevice {
    let token = world.client.create_enrollment(&fleet.parse().unwrap(), 3600).await.unwrap();
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let response = world.try_enroll(&token.record.token, &key).await.json().await.unwrap();
    world.device_of(response, &key)
}

/// The alerts that hold, once they are so: the server's own task may look at the same time.
async fn until(
    world: &World,
    fleet: Option<&str>,
    are_so: impl Fn(&[Alert]) -> bool,
) -> Vec<Alert> {
    let mut found = Vec::new();
    for _ in 0..600 {
        alerts::look(&world.server.control).await.unwrap();
        found = open(&world.client, fleet).await;
        if are_so(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{fleet:?}: {found:?}");
}

async fn until_none(world: &World, fleet: Option<&str>) {
    until(world, fleet, <[Alert]>::is_empty).await;
}

/// Number of messages that alerts about fixes of a fleet began.
async fn told(world: &World, fleet: &str) -> usize {
    let names = format!("\"fleet\":\"{fleet}\"");
    let told = store::domain_events::after(world.server.control.db.pool(), 0, 10_000).await;
    let is_it = |r: &&store::domain_events::Record| {
        r.kind == "alerts.raised" && r.body.contains("\"fixes\"") && r.body.contains(&names)
    };
    told.unwrap().iter().filter(is_it).count()
}

/// Fleets whose release lacks a fix for three days, and a worker that brings indexes.
async fn lacking(fleets: &[&str]) -> (World, WorkerClient) {
    let (world, ahead) = lifetimes::world_with(|config| config.local_worker = false).await;
    let old = release(&world, "1", "1.26-1").await;
    for fleet in fleets {
        enroll(&world, fleet).await;
        pin(&world, fleet, &old).await;
    }
    let worker = worker(&world, "builder", Arc::new(Maker(PathBuf::new()))).await.client;
    index(&worker, Some(("1.26-1+deb13u1", world.server.control.now_s()))).await;
    ahead.fetch_add(3 * DAY_S + 1, Ordering::SeqCst);
    until(&world, None, |all| all.len() == fleets.len()).await;
    (world, worker)
}

#[actix_web::test]
async fn a_fleet_has_one_alert_about_fixes_that_wait_until_its_release_has_them() {
    let (world, ahead) = lifetimes::world_with(|config| config.local_worker = false).await;
    let look = async || alerts::look(&world.server.control).await.unwrap();
    for _ in 0..3 {
        world.enroll().await;
    }
    let (demo, old) = ("demo".parse::<FleetId>().unwrap(), release(&world, "1", "1.26-1").await);
    let unknown = world.client.fixes(&demo).await.unwrap();
    assert!(unknown.release.is_none() && !unknown.is_known && unknown.count == 0);
    enroll(&world, "spare").await;
    // Nobody is missing the fixes of a fleet without devices.
    for fleet in ["demo", "spare", "empty"] {
        pin(&world, fleet, &old).await;
    }
    let worker = worker(&world, "builder", Arc::new(Maker(PathBuf::new()))).await.client;
    index(&worker, None).await;
    look().await;
    assert_eq!(open(&world.client, None).await, []);

    // A new index: the fix may wait for three days.
    let since_s = world.server.control.now_s();
    index(&worker, Some(("1.26-1+deb13u1", since_s))).await;
    look().await;
    assert_eq!(open(&world.client, None).await, []);
    let found = world.client.fixes(&demo).await.unwrap();
    assert_eq!((found.release.unwrap().to_string(), found.count), (old.clone(), 1));
    let fix = &found.fixes[0];
    assert_eq!((fix.package.as_str(), fix.installed.as_str()), ("nginx", "1.26-1"));
    assert_eq!((fix.fixed.as_str(), fix.since_s), ("1.26-1+deb13u1", since_s));
    ahead.fetch_add(3 * DAY_S + 1, Ordering::SeqCst);
    let all = until(&world, None, |all| all.len() >= 2).await;
    assert_eq!(all.len(), 2, "one for each fleet: {all:?}");
    let of_demo = open(&world.client, Some("demo")).await.remove(0);
    assert_eq!((of_demo.device, of_demo.state), (None, State::Open));
    assert_eq!(of_demo.detail, "kiosk@1 lacks 1 security fix, the oldest for 3 days");

    // Those of one fleet see and hear of no other one.
    let viewer = program(&world, "viewer", &[role(Role::Viewer, Some("demo"))], None).await;
    let viewer = client(&world, viewer.token.expose());
    let query = AlertQuery { fleet: Some("spare".parse().unwrap()), ..AlertQuery::default() };
    assert!(viewer.alerts(&query).await.is_err());
    assert!(viewer.fixes(&"spare".parse().unwrap()).await.is_err());
    assert_eq!(open(&viewer, Some("demo")).await.len(), 1);
    ahead.fetch_add(31, Ordering::SeqCst);
    for _ in 0..300 {
        look().await;
        if told(&world, "demo").await > 0 && told(&world, "spare").await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((told(&world, "demo").await, told(&world, "spare").await), (1, 1));

    // A release with the fix ends the alert of its fleet, and of no other one.
    let new = release(&world, "2", "1.26-1+deb13u1").await;
    pin(&world, "demo", &new).await;
    until_none(&world, Some("demo")).await;
    assert_eq!(open(&world.client, Some("spare")).await.len(), 1);
    assert_eq!(world.client.fixes(&demo).await.unwrap().count, 0);
}

#[actix_web::test]
async fn a_newer_fix_of_the_same_package_ends_no_alert() {
    let (world, worker) = lacking(&["demo"]).await;
    let alert = open(&world.client, Some("demo")).await.remove(0);
    world.client.acknowledge_alert(&alert.id, "on it").await.unwrap();
    let log = world.audit().await;
    assert!(log.contains(&format!("{} fixes fleet demo", alert.id)), "{log}");
    index(&worker, Some(("1.26-1+deb13u2", world.server.control.now_s()))).await;
    let is_newer = |all: &[Alert]| all.iter().any(|a| a.detail == "kiosk@1 lacks 1 security fix");
    let found = until(&world, Some("demo"), is_newer).await;
    assert_eq!((&found[0].id, found[0].state), (&alert.id, State::Acknowledged));
    // What is withdrawn does not wait any more.
    index(&worker, None).await;
    until_none(&world, None).await;
}

#[actix_web::test]
async fn an_alert_ends_when_nothing_watches_its_fleet_any_more() {
    let (world, _) = lacking(&["spare", "bench", "lab"]).await;
    // A release of which the server has no packages: the alert about the one before ends.
    crate::rollout::publish_release(&world, "kiosk@9").await;
    pin(&world, "lab", "kiosk@9").await;
    until_none(&world, Some("lab")).await;
    // A fleet whose devices are all revoked.
    let devices = world.client.devices().await.unwrap();
    let of_bench = devices.iter().find(|device| device.fleet.as_str() == "bench").unwrap();
    world.client.revoke_device(&of_bench.id, RevocationReason::Unspecified).await.unwrap();
    until_none(&world, Some("bench")).await;
    assert_eq!(open(&world.client, None).await.len(), 1);
    // A rule that does not watch it, also while a fleet cannot be compared.
    let mut rule = SetRule {
        kind: Kind::Fixes,
        threshold: DAY_S,
        severity: Severity::Critical,
        fleets: vec!["demo".parse().unwrap()],
        enabled: true,
    };
    world.client.set_alert_rule("fixes", &rule).await.unwrap();
    until_none(&world, None).await;
    rule.fleets = vec![];
    world.client.set_alert_rule("fixes", &rule).await.unwrap();
    until(&world, Some("spare"), |all| all.len() == 1).await;
    rule.enabled = false;
    world.client.set_alert_rule("fixes", &rule).await.unwrap();
    until_none(&world, None).await;
}
