//! The device port: which device gets what.

use crate::rollout::{publish_release, report};
use crate::world::World;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::update::State;
use fleeti_core::wire::api::{CreateRollout, RevocationReason};
use fleeti_core::wire::problem::Problem;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_store::sql;

/// A token enrolls one key. The same key may ask again, because the answer can be lost; another key
/// may not.
#[actix_web::test]
async fn a_token_enrolls_one_key_and_its_answer_may_be_lost() {
    let world = World::new().await;
    let token = world.token().await;
    let (key, thief) =
        (SoftKey::generate(Algorithm::P256).unwrap(), SoftKey::generate(Algorithm::P256).unwrap());
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
    for path in ["/desired", "/releases/kiosk/1/manifest.json", "/releases/kiosk/1/raw/kiosk_1.efi"]
    {
        assert_eq!(http.get(world.url(path)).send().await.unwrap().status(), 401, "{path}");
    }
}

/// A device can fetch only the release that it was offered, also by byte range, and no other path.
#[actix_web::test]
async fn a_device_gets_only_what_it_was_granted_in_parts_if_it_likes() {
    let world = World::new().await;
    let (a, manifest) = (world.enroll().await, publish_release(&world, "kiosk@2").await);
    publish_release(&world, "kiosk@3").await;
    let http = world.https((*a.tls).clone());
    let get = |path: &str| http.get(world.url(path));
    assert_eq!(get("/releases/kiosk/2/manifest.json").send().await.unwrap().status(), 403);
    let request = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&request).await.unwrap();
    assert_eq!(
        get("/releases/kiosk/2/manifest.json").send().await.unwrap().text().await.unwrap(),
        manifest
    );
    assert_eq!(get("/releases/kiosk/3/manifest.json").send().await.unwrap().status(), 403);
    let file = "/releases/kiosk/2/raw/kiosk_2.efi";
    let whole = get(file).send().await.unwrap();
    assert!(whole.headers().contains_key("etag"));
    let whole = whole.bytes().await.unwrap();
    let part = get(file).header("Range", "bytes=100-199").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole.slice(100..200));
    for odd in [
        "/releases/kiosk/2/raw/../../../../fleeti.db",
        "/releases/kiosk/2/raw/%2e%2e/x",
        "/releases/kiosk/2/other/x",
    ] {
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
    world.client.revoke_device(&a.id, RevocationReason::Unspecified).await.unwrap();
    // The same pooled connection or a new one: both are refused.
    let refused = http.get(world.url("/desired")).send().await.map_or(true, |r| r.status() == 403);
    assert!(refused);
}

#[actix_web::test]
async fn what_was_acknowledged_is_known_after_a_restart() {
    let world = World::new().await;
    let a = world.enroll().await;
    report(&world, &a, "kiosk@1", State::Idle).await;
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, |_| {}).await;
    let device = world.client.device(&a.id).await.unwrap();
    assert_eq!(device.boot.unwrap().running.to_string(), "kiosk@1");
}

fn request(key: &SoftKey) -> serde_json::Value {
    serde_json::json!({"csr_pem": fleeti_pki::csr::create(key).unwrap()})
}

#[actix_web::test]
async fn a_renewed_key_replaces_the_old_one_when_it_is_first_used() {
    let (world, ahead) = crate::lifetimes::world().await;
    let (key, next) =
        (SoftKey::generate(Algorithm::P256).unwrap(), SoftKey::generate(Algorithm::P256).unwrap());
    let token = world.token().await;
    let enrolled: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    let window = (
        enrolled["renewal"]["start_s"].as_u64().unwrap(),
        enrolled["renewal"]["end_s"].as_u64().unwrap(),
    );
    let device = world.device_of(enrolled.clone(), &key);
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(
        now_s + 9 * 86_400 < window.0 && window.0 < window.1 && window.1 <= now_s + 15 * 86_400,
        "{window:?}"
    );
    ahead.store(11 * 86_400, std::sync::atomic::Ordering::SeqCst);
    let old = world.https((*device.tls).clone());
    let desired = |http: &reqwest::Client| http.get(world.url("/desired")).send();
    let renewed = old.post(world.url("/renew")).json(&request(&next)).send().await.unwrap();
    assert_eq!(renewed.status(), 200);
    let answer: serde_json::Value = renewed.json().await.unwrap();
    // The answer may have been lost: the old certificate still counts, and the same request gets
    // the same answer.
    assert_eq!(desired(&old).await.unwrap().status(), 200);
    let again = old.post(world.url("/renew")).json(&request(&next)).send().await.unwrap();
    assert_eq!(again.json::<serde_json::Value>().await.unwrap(), answer);
    let enroll_response = serde_json::json!({"device": device.id, "fleet": "demo", "certificate_chain_pem": answer["certificate_chain_pem"],
        "renewal": answer["renewal"]});
    let renewed = world.https((*world.device_of(enroll_response, &next).tls).clone());
    assert_eq!(desired(&renewed).await.unwrap().status(), 200);
    assert_eq!(desired(&old).await.unwrap().status(), 403, "on the open connection as well");
    assert_eq!(desired(&renewed).await.unwrap().status(), 200);
    assert_eq!(
        world.try_enroll(&token, &key).await.status(),
        403,
        "nor does the token bring it back"
    );
    // Both certificates are valid, so both are in the CRL once the device is revoked.
    world.client.revoke_device(&device.id, RevocationReason::KeyCompromise).await.unwrap();
    let key_id = fleeti_pki::bundle::names(&world.server.control.pki.device_ca).unwrap().1;
    let list = reqwest::get(format!("http://{}/pki/{key_id}.crl", world.server.addresses.api))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    std::fs::write(world.dir.path().join("list.crl"), list).unwrap();
    let shown = std::process::Command::new("openssl")
        .args(["crl", "-inform", "der", "-noout", "-text", "-in"])
        .arg(world.dir.path().join("list.crl"))
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(
        (text.matches("Serial Number:").count(), text.matches("Key Compromise").count()),
        (2, 2),
        "{text}"
    );
}

#[actix_web::test]
async fn a_renewal_needs_a_good_certificate_and_a_proof_of_the_key() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (http, key) =
        (world.https((*device.tls).clone()), SoftKey::generate(Algorithm::P256).unwrap());
    let forged = fleeti_pki::csr::create(&key).unwrap().replace('A', "B");
    let good = fleeti_pki::csr::create(&key).unwrap();
    let for_another = serde_json::json!({"csr_pem": good, "device": "dev-another"});
    for bad in [
        serde_json::json!({"csr_pem": forged}),
        serde_json::json!({"csr_pem": ""}),
        serde_json::json!({}),
        for_another,
    ] {
        let status = http.post(world.url("/renew")).json(&bad).send().await.unwrap().status();
        assert_eq!(status, 422, "{bad}");
    }
    assert_eq!(
        world
            .https(world.anonymous())
            .post(world.url("/renew"))
            .json(&request(&key))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    world.client.revoke_device(&device.id, RevocationReason::Unspecified).await.unwrap();
    assert_eq!(
        http.post(world.url("/renew")).json(&request(&key)).send().await.unwrap().status(),
        403
    );
}

/// Only a revocation with the reason `hold` can be undone.
#[actix_web::test]
async fn a_hold_can_be_taken_back_and_nothing_else_can() {
    let world = World::new().await;
    let device = world.enroll().await;
    let desired = || world.https((*device.tls).clone()).get(world.url("/desired")).send();
    world.client.revoke_device(&device.id, RevocationReason::CertificateHold).await.unwrap();
    assert!(desired().await.is_err(), "not even a handshake");
    let on_hold = world.client.device(&device.id).await.unwrap();
    assert_eq!(
        (on_hold.revoked, on_hold.revocation_reason),
        (true, Some(RevocationReason::CertificateHold))
    );
    assert!(!world.client.release_hold(&device.id).await.unwrap().revoked);
    assert_eq!(desired().await.unwrap().status(), 200);
    // A hold may become a final revocation, never the reverse.
    world.client.revoke_device(&device.id, RevocationReason::CertificateHold).await.unwrap();
    for reason in [RevocationReason::KeyCompromise, RevocationReason::CertificateHold] {
        let revoked = world.client.revoke_device(&device.id, reason).await.unwrap();
        assert_eq!(revoked.revocation_reason, Some(RevocationReason::KeyCompromise));
    }
    let refused = world.client.release_hold(&device.id).await.unwrap_err();
    assert!(refused.to_string().contains("not on hold"), "{refused}");
    assert!(desired().await.is_err());
}

#[actix_web::test]
async fn a_revoked_device_cannot_enroll_again_with_its_token_and_ends_its_rollout() {
    let world = World::new().await;
    let (token, key) = (world.token().await, SoftKey::generate(Algorithm::P256).unwrap());
    let enrolled: serde_json::Value = world.try_enroll(&token, &key).await.json().await.unwrap();
    let device = world.device_of(enrolled, &key);
    publish_release(&world, "kiosk@2").await;
    let request = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    let rollout = world.client.start_rollout(&request).await.unwrap();
    world.client.revoke_device(&device.id, RevocationReason::Unspecified).await.unwrap();
    // Repeated, because an answer can be lost.
    world.client.revoke_device(&device.id, RevocationReason::Unspecified).await.unwrap();
    assert_eq!(
        world.client.rollout(&rollout.id).await.unwrap().phase,
        fleeti_core::rollout::Phase::Failed
    );
    assert_eq!(world.try_enroll(&token, &key).await.status(), 403);
}

/// An operator's permission to install a version again is in the desired state, with a number.
#[actix_web::test]
async fn a_forgiveness_reaches_the_device_with_its_number() {
    let world = World::new().await;
    let a = world.enroll().await;
    let version = "2".parse().unwrap();
    world.client.forgive_device(&a.id, &version).await.unwrap();
    world.client.forgive_device(&a.id, &version).await.unwrap();
    let desired: serde_json::Value = world
        .https((*a.tls).clone())
        .get(world.url("/desired"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(desired["forgiven"], serde_json::json!({"version": "2", "number": 2}));
}

/// The database has only the digest of an enrollment token, and the token expires.
#[actix_web::test]
async fn a_token_is_kept_as_its_digest_and_ends() {
    let world = World::new().await;
    let token = world.token().await;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query("UPDATE enrollments SET expires_s = expires_s - 7200")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.try_enroll(&token, &key).await.status(), 403, "it has ended");
    let good = world.token().await;
    assert_eq!(world.try_enroll(&good, &key).await.status(), 200);
    assert!(
        !world.is_kept(&token).await && !world.is_kept(&good).await,
        "nobody finds a token in the database"
    );
    assert!(world.is_kept(&sha256_hex(good.as_bytes())).await, "the search finds what is there");
}
