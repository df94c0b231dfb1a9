//! The alert about security fixes that the release of a fleet lacks.

use crate::accounts::{client, program, role};
use crate::lifetimes;
use crate::suites::{Maker, upload};
use crate::workers::worker;
use crate::world::World;
use fleeti_client::{Client, WorkerClient};
use fleeti_control::alerts;
use fleeti_core::alert::state::State;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::FleetId;
use fleeti_core::profile::{IndexHead, IndexParts, SecurityVersion};
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::alerts::{Alert, AlertQuery, SetRule};
use fleeti_core::wire::updates::PinFleet;
use fleeti_store as store;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    pin(&world, "demo", &old).await;
    pin(&world, "spare", &old).await;
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
    look().await;
    look().await;
    let all = open(&world.client, None).await;
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
    look().await;
    let told = store::domain_events::after(world.server.control.db.pool(), 0, 10_000).await;
    let told: Vec<_> = told.unwrap().into_iter().filter(|r| r.kind == "alerts.raised").collect();
    let about = |fleet: &str| {
        let names = format!("\"fleet\":\"{fleet}\"");
        told.iter().filter(|r| r.body.contains("\"fixes\"") && r.body.contains(&names)).count()
    };
    assert_eq!((about("demo"), about("spare")), (1, 1), "{told:?}");

    // A release with the fix ends the alert of its fleet, and of no other one.
    let new = release(&world, "2", "1.26-1+deb13u1").await;
    pin(&world, "demo", &new).await;
    look().await;
    assert_eq!(open(&world.client, Some("demo")).await, []);
    assert_eq!(open(&world.client, Some("spare")).await.len(), 1);
    assert_eq!(world.client.fixes(&demo).await.unwrap().count, 0);
    // So does a rule that does not watch it any more.
    let off = SetRule {
        kind: Kind::Fixes,
        threshold: DAY_S,
        severity: Severity::Critical,
        fleets: vec!["demo".parse().unwrap()],
        enabled: true,
    };
    world.client.set_alert_rule("fixes", &off).await.unwrap();
    look().await;
    assert_eq!(open(&world.client, None).await, []);
}
