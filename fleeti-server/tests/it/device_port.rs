//! The device port: who gets what.

use crate::rollout::{publish_release, report};
use crate::world::World;
use fleeti_core::update::State;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::problem::Problem;
use fleeti_pki::signer::{Algorithm, SoftKey};

#[actix_web::test]
async fn a_token_enrolls_one_key_and_its_answer_may_be_lost() {
    let world = World::new().await;
    let token = world.token().await;
    let (key, thief) = (SoftKey::generate(Algorithm::P256).unwrap(), SoftKey::generate(Algorithm::P256).unwrap());
    let first: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    let again: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    assert_eq!(first["device"], again["device"]);
    let refused = world.try_enroll(&token, &thief).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.json::<Problem>().await.unwrap().kind, "urn:fleeti:problem:forbidden");
    assert_eq!(world.try_enroll(&"0".repeat(64), &key).await.status(), 403);
    assert_eq!(world.client.devices().await.unwrap().len(), 1);
}

#[actix_web::test]
async fn only_enrollment_may_be_anonymous() {
    let world = World::new().await;
    let http = world.https(world.anonymous());
    for path in ["/desired", "/releases/kiosk/1/manifest.json", "/releases/kiosk/1/raw/kiosk_1.efi"] {
        assert_eq!(http.get(world.url(path)).send().await.unwrap().status(), 401, "{path}");
    }
}

#[actix_web::test]
async fn a_device_gets_only_what_it_was_granted_in_parts_if_it_likes() {
    let world = World::new().await;
    let (a, manifest) = (world.enroll().await, publish_release(&world, "kiosk@2").await);
    publish_release(&world, "kiosk@3").await;
    let http = world.https((*a.tls).clone());
    let get = |path: &str| http.get(world.url(path));
    assert_eq!(get("/releases/kiosk/2/manifest.json").send().await.unwrap().status(), 403);
    let request = CreateRollout { release: "kiosk@2".parse().unwrap(), fleet: "demo".parse().unwrap() };
    world.client.start_rollout(&request).await.unwrap();
    assert_eq!(get("/releases/kiosk/2/manifest.json").send().await.unwrap().text().await.unwrap(), manifest);
    assert_eq!(get("/releases/kiosk/3/manifest.json").send().await.unwrap().status(), 403);
    let file = "/releases/kiosk/2/raw/kiosk_2.efi";
    let whole = get(file).send().await.unwrap();
    assert!(whole.headers().contains_key("etag"));
    let whole = whole.bytes().await.unwrap();
    let part = get(file).header("Range", "bytes=100-199").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole.slice(100..200));
    for odd in ["/releases/kiosk/2/raw/../../../../fleeti.db", "/releases/kiosk/2/raw/%2e%2e/x", "/releases/kiosk/2/other/x"] {
        let status = get(odd).send().await.unwrap().status();
        assert!(status == 404 || status == 403, "{odd}: {status}");
    }
}

#[actix_web::test]
async fn a_revoked_device_gets_nothing_on_an_open_connection() {
    let world = World::new().await;
    let a = world.enroll().await;
    let http = world.https((*a.tls).clone());
    assert_eq!(http.get(world.url("/desired")).send().await.unwrap().status(), 200);
    world.client.revoke_device(&a.id).await.unwrap();
    // The same pooled connection, or a new one: refused either way.
    let refused = http.get(world.url("/desired")).send().await.map_or(true, |r| r.status() == 403);
    assert!(refused);
}

#[actix_web::test]
async fn what_was_acknowledged_survives_the_servers_end() {
    let world = World::new().await;
    let a = world.enroll().await;
    report(&world, &a, "kiosk@1", State::Idle).await;
    // No clean stop: the tasks are simply gone, and so is what they held in memory.
    let World { dir, server, .. } = world;
    drop(server);
    let world = World::start(dir, |_| {}).await;
    let device = world.client.device(&a.id).await.unwrap();
    assert_eq!(device.boot.unwrap().running.to_string(), "kiosk@1");
}

#[actix_web::test]
async fn a_certificate_is_renewed_over_the_same_key_and_no_other() {
    let world = World::new().await;
    let token = world.token().await;
    let (key, other) = (SoftKey::generate(Algorithm::P256).unwrap(), SoftKey::generate(Algorithm::P256).unwrap());
    let enrolled: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    let device = world.device_of(enrolled, &key);
    let http = world.https((*device.tls).clone());
    let renew = |key: &SoftKey| http.post(world.url("/renew")).json(&serde_json::json!({"csr_pem": fleeti_pki::csr::create(key).unwrap()}));
    assert_eq!(renew(&other).send().await.unwrap().status(), 422);
    let before = world.client.device(&device.id).await.unwrap().certificate_sha256;
    assert_eq!(renew(&key).send().await.unwrap().status(), 200);
    assert_ne!(world.client.device(&device.id).await.unwrap().certificate_sha256, before);
    // The answer may have been lost: the old certificate is good until it ends.
    assert_eq!(http.get(world.url("/desired")).send().await.unwrap().status(), 200);
    let anonymous = world.https(world.anonymous());
    let body = serde_json::json!({"csr_pem": fleeti_pki::csr::create(&key).unwrap()});
    assert_eq!(anonymous.post(world.url("/renew")).json(&body).send().await.unwrap().status(), 401);
}

#[actix_web::test]
async fn a_revoked_device_cannot_enroll_again_with_its_token_and_ends_its_rollout() {
    let world = World::new().await;
    let (token, key) = (world.token().await, SoftKey::generate(Algorithm::P256).unwrap());
    let enrolled: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    let device = world.device_of(enrolled, &key);
    publish_release(&world, "kiosk@2").await;
    let request = CreateRollout { release: "kiosk@2".parse().unwrap(), fleet: "demo".parse().unwrap() };
    let rollout = world.client.start_rollout(&request).await.unwrap();
    world.client.revoke_device(&device.id).await.unwrap();
    world.client.revoke_device(&device.id).await.unwrap(); // repeated, because an answer can be lost
    assert_eq!(world.client.rollout(&rollout.id).await.unwrap().state.phase, fleeti_core::rollout::Phase::Failed);
    assert_eq!(world.try_enroll(&token, &key).await.status(), 403);
}

#[actix_web::test]
async fn a_forgiveness_reaches_the_device_with_its_number() {
    let world = World::new().await;
    let a = world.enroll().await;
    let version = "2".parse().unwrap();
    world.client.forgive_device(&a.id, &version).await.unwrap();
    world.client.forgive_device(&a.id, &version).await.unwrap();
    let desired: serde_json::Value = world.https((*a.tls).clone()).get(world.url("/desired")).send().await.unwrap().json().await.unwrap();
    assert_eq!(desired["forgiven"], serde_json::json!({"version": "2", "number": 2}));
}
