//! Enrollments that are processed in one batch.

use crate::world::World;
use fleeti_control::clock::now_s;
use fleeti_control::enrollment::batch::enroll;
use fleeti_control::error::Error;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::enrollment::token::Terms;
use fleeti_core::id::{Architecture, DeviceId};
use fleeti_core::wire::enrollment::{EnrollRequest, EnrollResponse};
use fleeti_core::wire::problem::Code;
use fleeti_pki::signer::{Algorithm, SoftKey};
use futures::future::join_all;
use std::collections::BTreeSet;

fn key() -> SoftKey {
    SoftKey::generate(Algorithm::P256).unwrap()
}

fn request(token: String, key: &SoftKey) -> EnrollRequest {
    EnrollRequest {
        token,
        csr_pem: fleeti_pki::csr::create(key).unwrap(),
        architecture: Architecture::X86_64,
        running: "kiosk@1".parse().unwrap(),
        tpm: None,
    }
}

/// All are queued before the first one is processed: nothing else runs between.
async fn in_one_batch(
    world: &World,
    requests: &[EnrollRequest],
) -> Vec<Result<EnrollResponse, Error>> {
    join_all(requests.iter().map(|request| enroll(&world.server.control, request, None))).await
}

#[actix_web::test]
async fn each_of_many_gets_the_certificate_for_its_own_key() {
    let world = World::new().await;
    // Not a number for which a statement is written.
    let keys: Vec<_> = (0..21).map(|_| key()).collect();
    let mut requests = Vec::new();
    for key in &keys {
        requests.push(request(world.token().await, key));
    }
    let answers = in_one_batch(&world, &requests).await;
    let mut ids = BTreeSet::new();
    for (answer, key) in answers.into_iter().zip(&keys) {
        let answer = serde_json::to_value(answer.unwrap()).unwrap();
        // TLS refuses a certificate of another key.
        let device = world.device_of(answer, key);
        let desired = world.https((*device.tls).clone()).get(world.url("/desired")).send().await;
        assert_eq!(desired.unwrap().status(), 200);
        ids.insert(device.id);
    }
    assert_eq!((ids.len(), world.client.devices().await.unwrap().len()), (21, 21));
    // A token is used once, and the same key with the same token gets the same device.
    let again = in_one_batch(&world, &requests).await;
    assert!(again.into_iter().all(|answer| ids.contains(&answer.unwrap().device)));
    let others: Vec<_> = requests.iter().map(|r| request(r.token.clone(), &key())).collect();
    let refused = in_one_batch(&world, &others).await;
    assert!(refused.into_iter().all(|answer| answer.unwrap_err().code() == Code::Forbidden));
    assert_eq!(world.client.devices().await.unwrap().len(), 21);
}

#[actix_web::test]
async fn a_key_of_another_device_is_refused_alone_in_its_batch_and_after_a_restart() {
    let world = World::new().await;
    let (known, shared) = (key(), key());
    assert_eq!(world.try_enroll(&world.token().await, &known).await.status(), 200);
    let mut requests = Vec::new();
    for key in [&known, &shared, &key(), &shared] {
        requests.push(request(world.token().await, key));
    }
    let codes = |answers: Vec<Result<EnrollResponse, Error>>| -> Vec<Option<Code>> {
        answers.into_iter().map(|answer| answer.err().map(|e| e.code())).collect()
    };
    let expected = vec![Some(Code::Forbidden), None, None, Some(Code::Forbidden)];
    assert_eq!(codes(in_one_batch(&world, &requests).await), expected);
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, |_| {}).await;
    for key in [&known, &shared] {
        assert_eq!(world.try_enroll(&world.token().await, key).await.status(), 403);
    }
    assert_eq!(world.client.devices().await.unwrap().len(), 3);
}

#[actix_web::test]
async fn a_client_that_leaves_takes_nobodys_answer_with_it() {
    let world = World::new().await;
    for leaves_before in [true, false] {
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(request(world.token().await, &key()));
        }
        let app = &world.server.control;
        let mut waiting: Vec<_> =
            requests.iter().map(|request| Box::pin(enroll(app, request, None))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        // Each of them in turn could be the one that gets the answers of all.
        let left = waiting.pop();
        let known = world.client.devices().await.unwrap().len();
        if !leaves_before {
            while world.client.devices().await.unwrap().len() < known + 3 {
                tokio::task::yield_now().await;
            }
        }
        drop(left);
        assert!(join_all(waiting).await.iter().all(Result::is_ok));
    }
}

#[actix_web::test]
async fn two_tokens_of_one_device_in_one_batch_are_for_that_device() {
    let world = World::new().await;
    let device: DeviceId = "dev-reserved".parse().unwrap();
    let (db, fleet) = (&world.server.control.db, "demo".parse().unwrap());
    let mut requests = Vec::new();
    let mut tx = db.write().await.unwrap();
    for token in ["a".repeat(64), "b".repeat(64)] {
        let expires_s = now_s() + 3600;
        let sha256 = sha256_hex(token.as_bytes());
        let terms = Terms { reserved: Some(device.clone()), ..Terms::until(expires_s) };
        fleeti_store::enrollments::insert(&mut tx, &sha256, &fleet, &terms).await.unwrap();
        requests.push(request(token, &key()));
    }
    tx.commit().await.unwrap();
    requests.push(request(world.token().await, &key()));
    let answers = in_one_batch(&world, &requests).await;
    let ids: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().device).collect();
    assert_eq!(ids[..2], [device.clone(), device.clone()]);
    assert_ne!(ids[2], device);
}
