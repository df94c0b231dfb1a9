//! A device that shows a pairing code, an operator who enters it, and an attacker who guesses
//! codes.

use crate::world::World;
use fleeti_client::ClientError;
use fleeti_control::accounts::{sessions, sign_in};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::Pair;
use fleeti_core::wire::enrollment::{PairRequest, PairResponse, PairWait, PairWaited};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_store::sql;

async fn begin(world: &World, key: &SoftKey) -> reqwest::Response {
    let request = PairRequest {
        csr_pem: fleeti_pki::csr::create(key).unwrap(),
        running: "kiosk@1".parse().unwrap(),
    };
    world.https(world.anonymous()).post(world.url("/pair")).json(&request).send().await.unwrap()
}

async fn wait(world: &World, token: &str) -> reqwest::Response {
    let wait = PairWait { token: token.to_owned() };
    world.https(world.anonymous()).post(world.url("/pair/wait")).json(&wait).send().await.unwrap()
}

fn pair(code: &str) -> Pair {
    Pair { code: code.to_owned(), fleet: "demo".parse().unwrap() }
}

fn status(e: &ClientError) -> u16 {
    match e {
        ClientError::Refused(p) => p.status,
        other => panic!("{other}"),
    }
}

#[actix_web::test]
async fn a_device_enrolls_once_its_code_was_entered_and_with_its_own_key_only() {
    let world = World::new().await;
    let (key, other) =
        (SoftKey::generate(Algorithm::P256).unwrap(), SoftKey::generate(Algorithm::P256).unwrap());
    let begun: PairResponse = begin(&world, &key).await.json().await.unwrap();
    assert_eq!(
        world.try_enroll(&begun.token, &key).await.status(),
        403,
        "nobody has entered the code"
    );
    let (waited, entered) = tokio::join!(wait(&world, &begun.token), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        world.client.pair(&pair(&begun.code.to_lowercase())).await
    });
    assert!(waited.json::<PairWaited>().await.unwrap().is_paired);
    assert_eq!(entered.unwrap().running.to_string(), "kiosk@1");
    assert_eq!(
        world.try_enroll(&begun.token, &other).await.status(),
        403,
        "a party that saw the token has another key"
    );
    let response = world.try_enroll(&begun.token, &key).await;
    assert_eq!(response.status(), 200);
    // A code can be used once.
    assert_eq!(status(&world.client.pair(&pair(&begun.code)).await.unwrap_err()), 404);
}

/// After ten wrong codes all codes are refused for a minute; one address gets only a limited number
/// of codes.
#[actix_web::test]
async fn a_guesser_is_stopped_and_so_is_who_wants_every_code() {
    let world = World::new().await;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let begun: PairResponse = begin(&world, &key).await.json().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(status(&world.client.pair(&pair("BBBB-BBBB")).await.unwrap_err()));
    }
    assert!(answers[..10].iter().all(|s| *s == 404) && answers[10..] == [503, 503], "{answers:?}");
    assert_eq!(
        status(&world.client.pair(&pair(&begun.code)).await.unwrap_err()),
        503,
        "the right one as well, for this minute"
    );
    let mut refused = begin(&world, &key).await;
    for _ in 0..30 {
        refused = begin(&world, &key).await;
    }
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()),
        (429, "60")
    );
    assert_eq!(wait(&world, &"0".repeat(64)).await.status(), 403);
}

#[actix_web::test]
async fn a_new_code_makes_the_old_one_of_the_same_device_worthless() {
    let world = World::new().await;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let first: PairResponse = begin(&world, &key).await.json().await.unwrap();
    let second: PairResponse = begin(&world, &key).await.json().await.unwrap();
    assert_eq!(status(&world.client.pair(&pair(&first.code)).await.unwrap_err()), 404);
    world.client.pair(&pair(&second.code)).await.unwrap();
}

/// Pairing codes expire. Tokens, codes and login sessions are stored only as digests.
#[actix_web::test]
async fn a_code_ends_and_what_opens_a_door_is_kept_as_its_digest() {
    let world = World::new().await;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let begun: PairResponse = begin(&world, &key).await.json().await.unwrap();
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let session = sign_in::with_token(&world.server.control, token.trim()).await.unwrap();
    assert!(sessions::is_live(&world.server.control, &session).await.unwrap());
    for secret in [&begun.token, &begun.code, &session] {
        assert!(
            !world.is_kept(secret).await && world.is_kept(&sha256_hex(secret.as_bytes())).await
        );
    }
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query("UPDATE pairings SET expires_s = expires_s - 3600").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status(&world.client.pair(&pair(&begun.code)).await.unwrap_err()), 404);
    assert_eq!(wait(&world, &begun.token).await.status(), 403);
    assert_eq!(world.try_enroll(&begun.token, &key).await.status(), 403);
}
