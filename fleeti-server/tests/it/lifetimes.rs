//! Certificates, keys and commands that expire, and what one device can repeat again and again.

use crate::peer::Peer;
use crate::world::{TestDevice, World};
use fleeti_control::accounts::{sessions, sign_in};
use fleeti_control::clock::Clock;
use fleeti_control::clock::now_s;
use fleeti_core::wire::api::{CreateCommand, RevocationReason};
use fleeti_core::wire::device::CommandKind;
use fleeti_core::wire::enrollment::RenewResponse;
use fleeti_core::wire::problem::Problem;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_server::config::Config;
use fleeti_store::sql;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DAY_S: u64 = 86_400;

/// A server whose clock can be moved.
pub async fn world() -> (World, Arc<AtomicU64>) {
    world_with(|_| {}).await
}

/// As [`world`], with other settings.
pub async fn world_with(change: impl FnOnce(&mut Config)) -> (World, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let moved = Arc::clone(&ahead);
    let world = World::with(|config| {
        config.clock = Clock::of(move || now_s() + moved.load(Ordering::SeqCst));
        change(config);
    })
    .await;
    (world, ahead)
}

fn key() -> SoftKey {
    SoftKey::generate(Algorithm::P256).unwrap()
}

async fn renew(world: &World, http: &reqwest::Client, key: &SoftKey) -> reqwest::Response {
    let request = serde_json::json!({"csr_pem": fleeti_pki::csr::create(key).unwrap()});
    http.post(world.url("/renew")).json(&request).send().await.unwrap()
}

async fn rows(world: &World, device: &TestDevice) -> i64 {
    let sql = "SELECT COUNT(*) FROM issued WHERE device = $1";
    sql::query_scalar(sql)
        .bind(device.id.as_str())
        .fetch_one(world.server.control.db.pool())
        .await
        .unwrap()
}

async fn command(world: &World, device: &TestDevice, valid_s: u32) -> Result<String, u16> {
    let request = CreateCommand { kind: CommandKind::Reboot, valid_s, confirm: None };
    match world.client.create_command(&device.id, &request).await {
        Ok(status) => Ok(status.id),
        Err(fleeti_client::ClientError::Refused(problem)) => Err(problem.status),
        Err(other) => panic!("{other}"),
    }
}

#[actix_web::test]
async fn a_device_that_renews_in_a_loop_leaves_three_rows_and_ten_entries() {
    let (world, ahead) = world().await;
    let first = key();
    let token = world.token().await;
    let enrolled: serde_json::Value = world.try_enroll(&token, &first).await.json().await.unwrap();
    let device = world.device_of(enrolled.clone(), &first);
    let http = world.https((*device.tls).clone());
    // Right after enrollment: the same key gets the same certificate, and another key is told when
    // to ask again.
    let same: RenewResponse = renew(&world, &http, &first).await.json().await.unwrap();
    assert_eq!(enrolled["certificate_chain_pem"], same.certificate_chain_pem);
    let early = renew(&world, &http, &key()).await;
    let wait_s: u64 = early.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((9 * DAY_S..=10 * DAY_S).contains(&wait_s), "{wait_s}");
    let early: Problem = early.json().await.unwrap();
    assert_eq!((early.status, early.kind.as_str()), (429, "urn:fleeti:problem:too_many"));
    // Within its window, one request after another and many at once.
    ahead.store(wait_s, Ordering::SeqCst);
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(renew(&world, &http, &key()).await.status().as_u16());
    }
    let at_once = futures::future::join_all(
        (0..30).map(|_| async { renew(&world, &http, &key()).await.status().as_u16() }),
    )
    .await;
    codes.extend(at_once);
    assert_eq!(
        codes.iter().filter(|c| **c == 200).count(),
        3,
        "the renewal, and two answers that were lost: {codes:?}"
    );
    assert!(codes.iter().all(|c| [200, 429].contains(c)), "{codes:?}");
    assert!(rows(&world, &device).await <= 3);
    let log = world.audit().await;
    let entries = log.lines().filter(|line| line.contains(device.id.as_str())).count();
    assert!(entries <= 10, "{entries}: {log}");
    // A day later it may try again. It uses the new certificate, and then waits for its next
    // window.
    ahead.fetch_add(DAY_S, Ordering::SeqCst);
    let next = key();
    let renewed: RenewResponse = renew(&world, &http, &next).await.json().await.unwrap();
    let again: RenewResponse = renew(&world, &http, &next).await.json().await.unwrap();
    assert_eq!(renewed.certificate_chain_pem, again.certificate_chain_pem);
    let used = serde_json::json!({"device": device.id, "fleet": "demo", "certificate_chain_pem": renewed.certificate_chain_pem,
        "renewal": renewed.renewal});
    let used = world.https((*world.device_of(used, &next).tls).clone());
    assert_eq!(renew(&world, &used, &key()).await.status(), 429);
    // Superseded certificates are in the CRL as well, once the device is revoked.
    world.client.revoke_device(&device.id, RevocationReason::KeyCompromise).await.unwrap();
    let issuer = fleeti_pki::bundle::names(&world.server.control.pki.device_ca).unwrap().1;
    let list = world.server.control.access.crl(&issuer).unwrap();
    assert_eq!(
        fleeti_pki::crl::entries(&list).unwrap().len(),
        5,
        "the first, three that nobody used, and the last"
    );
}

/// Repeating an enrollment with the same token and key gets the same certificate; it is signed
/// once.
#[actix_web::test]
async fn an_enrollment_whose_answer_is_lost_again_and_again_signs_once() {
    let world = World::new().await;
    let (token, key) = (world.token().await, key());
    let first: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    for _ in 0..20 {
        let again: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
        assert_eq!(first, again);
    }
    let device = world.device_of(first, &key);
    assert_eq!(rows(&world, &device).await, 1);
    assert_eq!(
        world.audit().await.matches("certificate.enroll").count(),
        2,
        "what was to be, and what became of it"
    );
}

/// Expired certificates are deleted and are no longer in the CRL.
#[actix_web::test]
async fn what_has_ended_is_deleted_and_leaves_the_list() {
    let (world, ahead) = world().await;
    let (device, gone) = (world.enroll().await, world.enroll().await);
    let http = world.https((*device.tls).clone());
    world.client.revoke_device(&gone.id, RevocationReason::Unspecified).await.unwrap();
    let issuer = fleeti_pki::bundle::names(&world.server.control.pki.device_ca).unwrap().1;
    let listed = || {
        fleeti_pki::crl::entries(&world.server.control.access.crl(&issuer).unwrap()).unwrap().len()
    };
    assert_eq!(listed(), 1);
    ahead.store(15 * DAY_S, Ordering::SeqCst);
    let next = key();
    assert_eq!(renew(&world, &http, &next).await.status(), 200);
    assert_eq!(rows(&world, &device).await, 2);
    ahead.store(31 * DAY_S, Ordering::SeqCst);
    let app = &world.server.control;
    while fleeti_control::trust::revocation::prune_some(app).await.unwrap() > 0 {}
    assert_eq!(rows(&world, &device).await, 1, "the newest one stays to be shown");
    fleeti_control::trust::revocation::publish_crls(app).await.unwrap();
    assert_eq!(listed(), 0);
}

/// A key that has enrolled a device enrolls no other one, also after the device was revoked.
#[actix_web::test]
async fn a_key_is_one_devices_for_ever() {
    let world = World::new().await;
    let mine = key();
    let enrolled: serde_json::Value =
        world.try_enroll(&world.token().await, &mine).await.json().await.unwrap();
    let device = world.device_of(enrolled, &mine);
    let refused = world.try_enroll(&world.token().await, &mine).await;
    assert_eq!(refused.status(), 403, "one key, two devices");
    assert!(refused.json::<Problem>().await.unwrap().detail.contains("to another device"));
    world.client.revoke_device(&device.id, RevocationReason::KeyCompromise).await.unwrap();
    assert_eq!(
        world.try_enroll(&world.token().await, &mine).await.status(),
        403,
        "the party that stole it"
    );
    // Two enrollments at once with the same key, each with its own token.
    let (shared, tokens) = (key(), [world.token().await, world.token().await]);
    let codes = futures::future::join_all(
        tokens
            .iter()
            .map(|token| async { world.try_enroll(token, &shared).await.status().as_u16() }),
    )
    .await;
    assert_eq!(codes.iter().filter(|c| **c == 200).count(), 1, "{codes:?}");
    assert_eq!(world.client.devices().await.unwrap().len(), 2);
}

#[actix_web::test]
async fn a_renewal_over_another_devices_key_is_refused() {
    let (world, ahead) = world().await;
    let theirs = key();
    world.try_enroll(&world.token().await, &theirs).await;
    let device = world.enroll().await;
    ahead.store(15 * DAY_S, Ordering::SeqCst);
    assert_eq!(renew(&world, &world.https((*device.tls).clone()), &theirs).await.status(), 403);
}

#[actix_web::test]
async fn the_first_use_of_a_new_key_ends_what_the_old_one_has_open() {
    let (world, ahead) = world().await;
    let device = world.enroll().await;
    let http = world.https((*device.tls).clone());
    let next = key();
    ahead.store(15 * DAY_S, Ordering::SeqCst);
    let renewed: RenewResponse = renew(&world, &http, &next).await.json().await.unwrap();
    let mut session = Peer::session(&world, &device).await;
    session.is_alive().await;
    let used = serde_json::json!({"device": device.id, "fleet": "demo", "certificate_chain_pem": renewed.certificate_chain_pem,
        "renewal": renewed.renewal});
    let used = world.https((*world.device_of(used, &next).tls).clone());
    assert_eq!(used.get(world.url("/desired")).send().await.unwrap().status(), 200);
    assert_eq!(session.closed().await, Some(DisconnectReasonCode::SessionTakenOver));
    let refused = http.get(world.url("/desired")).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(Peer::session_refused(&world, &device).await);
}

#[actix_web::test]
async fn commands_whose_deadline_has_passed_leave_the_mailbox() {
    let (world, ahead) = world().await;
    let device = world.enroll().await;
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push(command(&world, &device, 60).await.unwrap());
    }
    assert_eq!(command(&world, &device, 60).await, Err(409), "the mailbox is full");
    ahead.store(61, Ordering::SeqCst);
    assert_eq!(world.client.command(&ids[0]).await.unwrap().status, "expired");
    let new = command(&world, &device, 60).await.unwrap();
    let mut session = Peer::session(&world, &device).await;
    let topic = fleeti_core::wire::mqtt::Down::Command.topic(&device.id);
    let delivered = loop {
        let message = session.message().await;
        if message.topic == topic.as_bytes() {
            break message;
        }
    };
    let delivered: fleeti_core::wire::device::Command =
        serde_json::from_slice(&delivered.payload).unwrap();
    assert_eq!(delivered.id, new, "the only one that is still to be applied");
}

#[actix_web::test]
async fn no_command_is_created_for_a_device_that_is_revoked() {
    let world = World::new().await;
    let device = world.enroll().await;
    world.client.revoke_device(&device.id, RevocationReason::Unspecified).await.unwrap();
    assert_eq!(command(&world, &device, 60).await, Err(409));
    let forgiven =
        world.client.forgive_device(&device.id, &"2".parse().unwrap()).await.unwrap_err();
    assert!(forgiven.to_string().contains("revoked"), "{forgiven}");
}

/// Two clients that take over each other's session with one certificate raise an alarm.
#[actix_web::test]
async fn two_clients_that_take_turns_with_one_certificate_are_seen() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut sessions = vec![Peer::session(&world, &device).await];
    for turn in 1..=8u32 {
        sessions.push(Peer::session(&world, &device).await);
        sessions.last_mut().unwrap().is_alive().await;
        let alarm = world.client.device(&device.id).await.unwrap().alarm;
        assert_eq!(alarm.is_some(), turn >= fleeti_control::hub::TURNS_MAX, "{turn}: {alarm:?}");
    }
    let log = world.audit().await;
    assert_eq!(log.matches("device.taken-over").count(), 1, "said once: {log}");
    let alarm = world.client.device(&device.id).await.unwrap().alarm.unwrap();
    assert!(alarm.contains("take turns"), "{alarm}");
}

/// Connects again as soon as the other client has taken over. Counts its sessions.
async fn insist(world: &World, device: &TestDevice, sessions: &Cell<u32>) {
    loop {
        let (mut peer, code) = Peer::connect_as(world, device, device.id.as_str(), None).await;
        assert_eq!(code, Some(ConnectReturnCode::Success));
        sessions.set(sessions.get() + 1);
        assert_eq!(peer.closed().await, Some(DisconnectReasonCode::SessionTakenOver));
    }
}

/// A device and a copy of it, with the same certificate: each connects again as soon as it was
/// displaced. Without pauses there are hundreds of sessions in this time.
#[actix_web::test]
async fn two_clients_that_displace_each_other_are_slowed_down_and_no_others() {
    let world = World::with(|c| c.limits.takeover_pause_ms = 100).await;
    let (device, other) = (world.enroll().await, world.enroll().await);
    let (here, there) = (Cell::new(0), Cell::new(0));
    let both =
        async { tokio::join!(insist(&world, &device, &here), insist(&world, &device, &there)) };
    let honest = async {
        let (mut worst, mut tick) =
            (Duration::ZERO, tokio::time::interval(Duration::from_millis(100)));
        for _ in 0..20 {
            tick.tick().await;
            let begun = Instant::now();
            Peer::session(&world, &other).await.is_alive().await;
            worst = worst.max(begun.elapsed());
        }
        worst
    };
    let worst = tokio::select! {
        _ = both => panic!("they insist"),
        worst = honest => worst,
    };
    // In two seconds: six takeovers at once, then pauses of 100, 200, 400, 800, 1600 ms.
    let sessions = here.get() + there.get();
    assert!((7..=14).contains(&sessions), "{sessions}");
    assert!(here.get().abs_diff(there.get()) <= 2, "neither keeps the other out");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    let alarm = world.client.device(&device.id).await.unwrap().alarm.unwrap();
    assert!(alarm.contains("take turns"), "{alarm}");
    assert_eq!(world.client.device(&other.id).await.unwrap().alarm, None);
}

/// A client that closes its connection and reconnects at once displaces no other one.
#[actix_web::test]
async fn a_device_that_reconnects_often_is_neither_suspected_nor_slowed_down() {
    let world = World::new().await;
    let device = world.enroll().await;
    let begun = Instant::now();
    for _ in 0..30 {
        drop(Peer::session(&world, &device).await);
    }
    Peer::session(&world, &device).await.is_alive().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(world.client.device(&device.id).await.unwrap().alarm, None);
}

#[actix_web::test]
async fn a_login_session_ends_by_the_clock_of_the_server() {
    let (world, ahead) = world().await;
    let cx = &world.server.control;
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let session = sign_in::with_token(cx, &token).await.unwrap();
    let hour = 3600;
    for used in (hour..sessions::SESSION_S).step_by(3600) {
        ahead.store(used, Ordering::SeqCst);
        assert!(sessions::actor(cx, &session).await.unwrap().is_some(), "{used}");
    }
    ahead.store(sessions::SESSION_S + 60, Ordering::SeqCst);
    assert!(!sessions::is_live(cx, &session).await.unwrap());
    // Without a request it ends earlier.
    let session = sign_in::with_token(cx, &token).await.unwrap();
    ahead.fetch_add(sessions::IDLE_S - 60, Ordering::SeqCst);
    assert!(sessions::is_live(cx, &session).await.unwrap());
    ahead.fetch_add(120, Ordering::SeqCst);
    assert!(!sessions::is_live(cx, &session).await.unwrap());
}
