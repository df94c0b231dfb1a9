//! A backup that is made while the server runs, and tried by restoring it: devices come back without
//! a visit, and nothing is revived.

use crate::dead_signer::{Signer, clock, is_refused, is_served, then};
use crate::doctor::renewed;
use crate::recoveries::{Device, is_online, rolls_out};
use crate::rollout::{publish_release, release_key};
use crate::trust::until;
use crate::world::{TestDevice, World, database_url, write_keys};
use fleeti_control::accounts::actor::Actor;
use fleeti_control::accounts::people;
use fleeti_control::restored::RestoreReport;
use fleeti_core::wire::accounts::{AccountKind, CreateAccount, Grant, Role};
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::doctor::CheckResult;
use fleeti_core::wire::updates::UpdateOrder;
use fleeti_pki::signer::{Algorithm, SoftKey};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DAY_S: u64 = 86_400;

fn run(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti-server"));
    command.args(arguments).arg("--data").arg(data).output().unwrap()
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An enrollment token of another fleet, so that no rollout waits for its device.
async fn token(world: &World) -> String {
    let fleet = "spare".parse().unwrap();
    world.client.create_enrollment(&fleet, 3600).await.unwrap().record.token
}

async fn enroll_with(world: &World, token: &str) -> TestDevice {
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let response = world.try_enroll(token, &key).await.json().await.unwrap();
    world.device_of(response, &key)
}

async fn enroll(world: &World) -> TestDevice {
    enroll_with(world, &token(world).await).await
}

#[actix_web::test]
async fn a_restored_server_gets_its_devices_back_and_revives_nothing() {
    let (dir, ahead) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    if database_url(dir.path()).is_some() {
        return; // PostgreSQL has its own backups.
    }
    write_keys(dir.path());
    let _signer = Signer::start(dir.path());
    let socket = dir.path().join("socket");
    let world = World::start(dir, |config| {
        config.signer = Some(socket.clone());
        config.clock = clock(&ahead);
    })
    .await;
    let device = Device::enrolls(&world).await;
    let (bad, renewing) = (enroll(&world).await, enroll(&world).await);
    rolls_out(&world, "kiosk@2", &release_key()).await;
    publish_release(&world, "kiosk@9").await;
    let by = Actor::of_process("test");
    let bob = CreateAccount {
        name: "bob".parse().unwrap(),
        kind: AccountKind::Service,
        grants: vec![Grant { role: Role::Admin, fleet: None }],
    };
    people::add(&world.server.control, &by, &bob).await.unwrap();

    let used_later = token(&world).await;
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("backup.tar");
    let path = file.to_str().unwrap();
    let said = done(&run(&["backup", path], world.dir.path()));
    assert!(said.contains("wrote ") && said.contains("SHA-256 "), "{said}");

    // What happens after the backup.
    world.client.revoke_device(&bad.id, RevocationReason::KeyCompromise).await.unwrap();
    rolls_out(&world, "kiosk@3", &release_key()).await;
    world.client.revoke_release(&"kiosk@9".parse().unwrap()).await.unwrap();
    people::disable(&world.server.control, &by, &bob.name).await.unwrap();
    let late = enroll_with(&world, &used_later).await;
    let hold = UpdateOrder::Hold { reason: "the till is open".into(), until_s: None };
    world.client.order_updates(&renewing.id, &hold).await.unwrap();
    ahead.store(11 * DAY_S, Ordering::SeqCst);
    let renewed = renewed(&world, &then(&renewing, &ahead)).await;
    ahead.store(0, Ordering::SeqCst);
    fleeti_control::settle::settle(&world.server.control).await.unwrap();

    // The disk of the server is lost; the signing service has its own.
    let ports = [world.server.addresses.https, world.server.addresses.mqtt];
    let World { dir: lost, server, .. } = world;
    server.stop().await;
    let new = tempfile::tempdir().unwrap();
    let said = done(&run(&["restore", path], new.path()));
    assert!(said.contains("restored "), "{said}");
    let world = World::start(new, |config| {
        config.signer = Some(socket.clone());
        config.clock = clock(&ahead);
        (config.https, config.mqtt) = (ports[0], ports[1]);
    })
    .await;

    until("the device comes back", async || is_online(&world).await).await;
    // Its certificate is valid from the day of the renewal.
    ahead.store(11 * DAY_S, Ordering::SeqCst);
    assert!(is_served(&world, &renewed).await, "with the key that it renewed to");
    ahead.store(0, Ordering::SeqCst);
    assert!(is_refused(&world, &bad).await, "what was revoked stays so");
    assert!(is_refused(&world, &late).await, "the database does not know it");
    let other = SoftKey::generate(Algorithm::P256).unwrap();
    let status = world.try_enroll(&used_later, &other).await.status();
    assert!(status.is_client_error(), "a token that was used since: {status}");
    let held = world.client.why(&renewing.id).await.unwrap().hold;
    assert_eq!(held.unwrap().reason, "the till is open");
    let releases = world.client.releases().await.unwrap();
    let revoked = releases.iter().find(|r| r.name.to_string() == "kiosk@9").unwrap();
    assert!(revoked.revoked_s.is_some(), "{revoked:?}");
    let accounts = people::list(&world.server.control).await.unwrap();
    let found = accounts.iter().find(|account| account.name == bob.name).unwrap();
    assert!(found.disabled_s.is_some(), "{found:?}");

    let report = RestoreReport::read(world.dir.path()).unwrap();
    for act in [
        format!("device.revoke {} key_compromise", bad.id),
        "release.revoke kiosk@9".into(),
        "account.disable bob".into(),
    ] {
        assert!(report.repeated.contains(&act), "{act}: {report:#?}");
    }
    assert_eq!(report.devices_with_newer_keys, 1);
    assert_eq!(report.unknown_devices, [late.id.to_string()]);
    assert_eq!(report.enrollment_tokens_ended, 1);
    assert!(report.lost.iter().any(|act| act.ends_with("release.publish kiosk@3")), "{report:#?}");
    assert!(!world.dir.path().join("restored.json").exists());
    let doctor = world.client.doctor().await.unwrap();
    let restore = doctor.checks.iter().find(|check| check.name == "restore").unwrap();
    assert_eq!(restore.result, CheckResult::Warning);
    assert!(world.audit().await.contains("server.restored"));

    // It runs what it ran, raises no alarm, and is updated again.
    assert_eq!(device.host.running().to_string(), "kiosk@3");
    rolls_out(&world, "kiosk@4", &release_key()).await;
    assert_eq!(device.host.running().to_string(), "kiosk@4");
    let devices = world.client.devices().await.unwrap();
    assert!(devices.iter().all(|device| device.alarm.is_none()), "{devices:#?}");
    drop(lost);
}

#[actix_web::test]
async fn a_restored_server_does_not_start_without_its_signing_service() {
    let dir = tempfile::tempdir().unwrap();
    if database_url(dir.path()).is_some() {
        return; // PostgreSQL has its own backups.
    }
    write_keys(dir.path());
    let World { dir, server, .. } = World::start(dir, |_| {}).await;
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("backup.tar");
    let path = file.to_str().unwrap();
    done(&run(&["backup", path], dir.path()));
    server.stop().await;
    let new = tempfile::tempdir().unwrap();
    done(&run(&["restore", path], new.path()));
    let socket = new.path().join("nobody");
    let started = run(
        &[
            "--api",
            "127.0.0.1:0",
            "--https",
            "127.0.0.1:0",
            "--mqtt",
            "127.0.0.1:0",
            "--signer",
            socket.to_str().unwrap(),
        ],
        new.path(),
    );
    let said = String::from_utf8_lossy(&started.stderr);
    assert_eq!(started.status.code(), Some(1), "{said}");
    assert!(new.path().join("restored.json").exists(), "{said}");
}
